"""Whatever goes wrong on the command line is one line with a remedy, and leaves nothing behind."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import ip2p
from ip2p import cli
from ip2p.errors import Ip2pError
from ip2p.images import read_parameters

BARN = Image.new("RGB", (32, 32), "firebrick")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    BARN.save("barn.png")
    Path("empty.png").touch()
    Path("text.png").write_text("make it winter")
    Path("folder").mkdir()
    Path("a.ckpt").write_bytes(b"a pickle")


def listing() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


NO_MODEL = ["edit", "barn.png", "make it winter", "--model", "no/such"]  # what is told before a model is looked for
BAD = {
    "no file": (["edit", "missing.png", "make it winter"], "there is no picture missing.png"),
    "a folder": (["edit", "folder", "make it winter"], "folder is a folder"),
    "an empty file": (["edit", "empty.png", "make it winter"], "empty.png is empty"),
    "a text file": (["edit", "text.png", "make it winter"], "text.png is not a picture"),
    "no instruction": (["edit", "barn.png", ""], "the instruction is empty"),
    "blanks for an instruction": (["edit", "barn.png", " \n"], "the instruction is empty"),
    "no caption": (["generate", " "], "the caption is empty"),
    "an output that is no PNG": (["edit", "barn.png", "make it winter", "-o", "a.jpg"], "ends in .png"),
    "an output that is the input": (["edit", "barn.png", "make it winter", "-o", "./barn.png"], "overwrite barn.png"),
    "an unknown command": (["paint"], "No such command 'paint'"),
    "an unknown option": (["edit", "barn.png", "make it winter", "--stepz", "3"], "--stepz"),
    "no steps": (["edit", "barn.png", "make it winter", "--steps", "0"], "greater than or equal to 1"),
    "a missing argument": (["edit"], "Missing argument"),
    "an unknown model": (["edit", "barn.png", "make it winter", "--model", "no/such"], "no/such"),
    "a model that is no model": (["edit", "barn.png", "make it winter", "--model", "text.png"], "not .safetensors"),
    "a pickle": (["edit", "barn.png", "make it winter", "--model", "a.ckpt"], "--allow-pickle"),
    "no LoRA": ([*NO_MODEL, "--lora", "none.safetensors:2"], "no file none.safetensors"),
    "no embedding": ([*NO_MODEL, "--embedding", "x.safetensors"], "no file x.safetensors"),
    "what cannot be converted": (["convert", "storybook-editor", "a.safetensors"], "AutoencoderTiny"),
    "an unknown precision": (["convert", "storybook-editor", "folder/a", "--dtype", "int8"], "fp32, fp16, bf16"),
    "an unknown base": (["generate", "a barn", "--model", "folder"], "folder"),
    "an unknown config": (["finetune", "--config", "missing.yaml"], "no config file missing.yaml"),
    "an unknown key": (["finetune", "baze=x"], "Did you mean base?"),
    "an unknown key of a data set": (["dataset", "build", "pairs.step=3"], "Did you mean pairs.steps?"),
    "a value out of range": (["dataset", "build", "pairs.steps=0"], "pairs.steps=0"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, said = BAD[kind]
    before = listing()
    assert cli.run(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = errors.splitlines()
    assert line.startswith("ip2p: ") and said in line
    assert listing() == before


def test_debug_shows_the_traceback_wherever_it_stands() -> None:
    for arguments in (["--debug", "edit", "missing.png", "x"], ["edit", "missing.png", "x", "--debug"]):
        with pytest.raises(Ip2pError, match="no picture"):
            cli.run(arguments)


def failing(error: BaseException) -> Any:
    def examine() -> None:
        raise error

    return examine


def test_what_should_not_happen_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ip2p.doctor.examine", failing(RuntimeError("two\nlines")))
    assert cli.run(["doctor"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "RuntimeError: two lines" in line and "--debug" in line


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("ip2p.doctor.examine", failing(KeyboardInterrupt()))
    assert cli.run(["doctor"]) == 130
    assert capsys.readouterr().err.splitlines() == ["ip2p: interrupted"]


def test_help_imports_nothing_heavy() -> None:
    program = "import sys; from ip2p import cli; cli.run(['--help']); print('loaded:', *sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    told, _, loaded = output.partition("loaded: ")
    assert "Commands:" in told
    assert not {"torch", "numpy", "diffusers", "pyarrow", "PIL", "pydantic", "yaml"} & set(loaded.split())


@pytest.mark.parametrize(
    "command", ["edit", "generate", "evaluate", "finetune", "convert", "doctor", "dataset build", "dataset filter"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command.split(), "--help"]) == 0
    assert "Usage: ip2p" in capsys.readouterr().out


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    assert "Usage: ip2p" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"ip2p {ip2p.__version__}\n"


def edited(folder: Path, *options: str) -> int:
    return cli.run(["edit", "barn.png", "make it winter", "--model", str(folder), "--steps", "2", *options])


def test_an_edit_tells_its_seed_and_carries_its_parameters(
    editor_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edited(editor_folder, "--cfg-text", "3", "--cfg-image", "1.2", "--scheduler", "ddim", "--seed", "9") == 0
    assert capsys.readouterr().out == "barn-make-it-winter-9.png (seed 9)\n"
    parameters = read_parameters("barn-make-it-winter-9.png")
    expected = {"instruction": "make it winter", "seed": 9, "text_scale": 3, "image_scale": 1.2, "steps": 2}
    assert expected.items() <= parameters.items()
    assert parameters["scheduler"] == "ddim"


def test_a_drawn_seed_makes_the_same_picture_again(editor_folder: Path) -> None:
    assert edited(editor_folder, "-o", "first.png") == 0
    seed = read_parameters("first.png")["seed"]
    assert edited(editor_folder, "-o", "second.png", "--seed", str(seed)) == 0
    assert Path("first.png").read_bytes() == Path("second.png").read_bytes()


def test_samples_have_names_and_seeds_of_their_own(editor_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edited(editor_folder, "-o", "out/winter.png", "--samples", "3", "--seed", "4") == 0
    names = [f"out/winter-{seed}.png" for seed in (4, 5, 6)]
    assert capsys.readouterr().out.splitlines() == [f"{name} (seed {name[-5]})" for name in names]
    assert len({Path(name).read_bytes() for name in names}) == 3
    assert edited(editor_folder, "-o", "alone.png", "--seed", "5") == 0
    with Image.open("alone.png") as alone, Image.open(names[1]) as second:
        assert alone.tobytes() == second.tobytes()


def test_a_picture_is_drawn_from_a_caption(base_folder: Path) -> None:
    words = ["generate", "A red barn!", "--model", str(base_folder), "--steps", "2", "--seed", "1", "--scale", "2"]
    assert cli.run(words) == 0
    parameters = read_parameters("a-red-barn-1.png")
    assert (parameters["caption"], parameters["seed"], parameters["scale"]) == ("A red barn!", 1, 2)


def test_models_of_the_wrong_kind_are_refused(
    base_folder: Path, editor_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing()
    assert edited(base_folder) == 2
    assert "4 channels" in capsys.readouterr().err
    assert cli.run(["generate", "a barn", "--model", str(editor_folder)]) == 2
    assert "8 channels" in capsys.readouterr().err
    assert listing() == before


def test_the_bundled_editor_says_what_it_draws(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["edit", "barn.png", "make it winter", "--steps", "1"])
    first = capsys.readouterr().err.splitlines()[0]
    assert "storybook" in first and "--model timbrooks/instruct-pix2pix" in first


def test_a_converted_model_draws_the_same(sd_editor_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["convert", str(sd_editor_folder), "editor.safetensors"]) == 0
    assert capsys.readouterr().out == "editor.safetensors\n"
    for model, name in ((str(sd_editor_folder), "folder.png"), ("editor.safetensors", "file.png")):
        assert edited(Path(model), "--seed", "3", "-o", name, "--negative-prompt", "night") == 0
    with Image.open("folder.png") as one, Image.open("file.png") as two:
        assert one.tobytes() == two.tobytes()
    assert read_parameters("file.png")["negative_prompt"] == "night"


def test_a_scale_may_be_below_one_and_negative(editor_folder: Path) -> None:
    assert edited(editor_folder, "--text-scale", "-1", "--image-scale", "0.5") == 0


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(("file", "told"), [(cli.__file__, ["ip2p: long text"]), ("/elsewhere/library.py", [])])
def test_warnings_of_ours_are_one_line_and_those_of_libraries_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str, told: list[str]
) -> None:
    def examine() -> tuple[list[tuple[str, str]], list[str]]:
        warnings.warn_explicit("long text", UserWarning, file, 1)
        return [], []

    monkeypatch.setattr("ip2p.doctor.examine", examine)
    assert cli.run(["doctor"]) == 0
    assert capsys.readouterr().err.splitlines() == told


def test_doctor_tells_versions_device_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.run(["doctor"])
    output, errors = capsys.readouterr()
    assert all(name in output for name in ("torch", "device", "storybook-editor", "disk"))
    assert (code == 0) == (errors == "")
