"""Whatever goes wrong on the command line is one line with a remedy, and leaves nothing behind."""

import hashlib
import re
import shlex
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
from ip2p.pictures.read import open_image
from ip2p.pictures.write import read_parameters

BARN = Image.new("RGB", (32, 32), "firebrick")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    BARN.save("barn.png")
    BARN.resize((12, 40)).save("small.png")
    BARN.save("moving.gif", save_all=True, append_images=[Image.new("RGB", BARN.size, "navy")])
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
    "a text file": (["edit", "text.png", "make it winter"], "text.png is not a readable picture"),
    "no instruction": (["edit", "barn.png", ""], "the instruction is empty"),
    "blanks for an instruction": (["edit", "barn.png", " \n"], "the instruction is empty"),
    "an instruction of bytes": (["edit", "barn.png", "make it \udcff"], "is not UTF-8. Write it in UTF-8"),
    "a caption of bytes": (["generate", "a barn \udcff"], "is not UTF-8. Write it in UTF-8"),
    "a picture of a few pixels": (["edit", "small.png", "make it winter"], "12 x 40 pixels, smaller than 16 x 16"),
    "an animation": (["edit", "moving.gif", "make it winter"], "has 2 frames. Choose one with --frame, 0 to 1"),
    "a frame that is not there": (["edit", "moving.gif", "make it", "--frame", "2"], "moving.gif has no frame 2"),
    "no parameters": (["inspect", "barn.png"], "barn.png has no parameters"),
    "no picture to inspect": (["inspect", "text.png"], "text.png is not a readable picture"),
    "no caption": (["generate", " "], "the caption is empty"),
    "an output of another format": (["edit", "barn.png", "make it winter", "-o", "a.gif"], "ends in .png, .jpg or"),
    "an output that is the input": (["edit", "barn.png", "make it winter", "-o", "./barn.png"], "overwrite barn.png"),
    "an unknown command": (["paint"], "No such command 'paint'"),
    "an unknown option": (["edit", "barn.png", "make it winter", "--stepz", "3"], "--stepz"),
    "no steps": (
        ["edit", "barn.png", "make it winter", "--steps", "0"],
        "--steps 0 cannot be used. Give --steps as 1 to 1000",
    ),
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


TRIPLES = ["dataset", "triples", "--captions", "text.png"]
UNUSED = {
    "--clip, --caption would do nothing without --keep-best": [*NO_MODEL, "--clip", "a", "--caption", "b"],
    "--progress-every would do nothing without --save-progress": [*NO_MODEL, "--progress-every", "3"],
    "strength would do nothing": ["generate", "a barn", "--set", "strength=0.5"],
    "--config editor would do nothing: ": [*NO_MODEL[:-1], "storybook-editor", "--config", "editor"],
    "--judge-budget would do nothing without --judge": ["evaluate", "--judge-budget", "3"],
    "--curve-samples would do nothing without --curve": ["evaluate", "--curve-samples", "3"],
    "--base would do nothing without one of p2p, sdedit, text in": ["evaluate", "--methods", "editor", "--base", "a"],
    "--original-range would do nothing with --clip none": ["evaluate", "--clip", "none", "--original-range"],
    "--writer, --model would do nothing beside --finished": [
        *["dataset", "triples", "--finished", "a.jsonl"], *["--writer", "rules", "--model", "a"]
    ],
    "--output would do nothing beside --preview": ["dataset", "triples", "--preview", "2", "a barn", "-o", "a"],
    "--captions would do nothing beside --finished": [*TRIPLES, "--finished", "a.jsonl"],
    "--captions would do nothing beside --preview": [*TRIPLES, "--preview", "2", "a barn"],
    "--base-url would do nothing for the writer rules": [*TRIPLES, "--base-url", "http://localhost"],
    "--max-usd would do nothing for the writer local": [
        *TRIPLES, "--writer", "local", "--model", "a", "--max-usd", "1"
    ],
    "--model would do nothing for the writer rules": [*TRIPLES, "--model", "a"],
    "--count would do nothing beside --labels FILE": ["dataset", "calibrate", "--labels", "a.csv", "--count", "3"],
}  # fmt: skip


@pytest.mark.parametrize("said", UNUSED)
def test_an_option_that_would_do_nothing_is_refused(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = listing()
    assert cli.run(UNUSED[said]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith(f"ip2p: {said}") and "Leave " in captured.err
    assert (captured.out, listing()) == ("", before)


def test_an_option_with_its_default_value_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    values = ["--base", "storybook-base", "--baseline-samples", "100", "--curve-samples", "100", "--judge-budget", "1"]
    assert cli.run(["evaluate", "--methods", "editor", "--model", "no/such", *values]) == 2
    assert "no/such" in capsys.readouterr().err


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
    monkeypatch.setattr("ip2p.cli.doctor.examine", failing(RuntimeError("two\nlines")))
    assert cli.run(["doctor"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "RuntimeError: two lines" in line and "--debug" in line


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("ip2p.cli.doctor.examine", failing(KeyboardInterrupt()))
    assert cli.run(["doctor"]) == 130
    assert capsys.readouterr().err.splitlines() == ["ip2p: interrupted"]


def test_help_imports_nothing_heavy() -> None:
    program = "import sys; from ip2p import cli; cli.run(['--help']); print('loaded:', *sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    shown, _, loaded = output.partition("loaded: ")
    assert "Commands:" in shown
    assert not {"torch", "numpy", "diffusers", "pyarrow", "PIL", "pydantic", "yaml"} & set(loaded.split())


@pytest.mark.parametrize(
    "command",
    [
        "edit",
        "generate",
        "inspect",
        "batch",
        "grid",
        "evaluate",
        "finetune",
        "convert",
        "doctor",
        "dataset build",
        "dataset filter",
    ],
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
    assert re.fullmatch(r"barn-make-it-winter-9.png \(seed 9, \d+% of the pixels changed\)\n", capsys.readouterr().out)
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
    shown = [line.partition(",")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == [f"{name} (seed {name[-5]}" for name in names]
    assert len({Path(name).read_bytes() for name in names}) == 3
    assert edited(editor_folder, "-o", "alone.png", "--seed", "5") == 0
    with Image.open("alone.png") as alone, Image.open(names[1]) as second:
        assert alone.tobytes() == second.tobytes()


@pytest.mark.parametrize("options", [["-o", "winter.png"], ["-o", "winter.webp", "--native"], ["-o", "winter.jpg"]])
def test_inspect_shows_the_command_that_makes_the_picture_again(
    editor_folder: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    Image.new("RGB", (40, 30), "navy").save("my barn.gif", save_all=True, append_images=[BARN.resize((40, 30))])
    words = [
        "edit",
        "my barn.gif",
        "make it 'winter' 冬",
        "--frame",
        "1",
        "--model",
        str(editor_folder),
        "--steps",
        "2",
    ]
    assert cli.run([*words, *options]) == 0
    capsys.readouterr()
    assert cli.run(["inspect", options[1]]) == 0
    *shown, blank, command = capsys.readouterr().out.splitlines()
    digest = hashlib.sha256(Path("my barn.gif").read_bytes()).hexdigest()
    assert {"instruction: make it 'winter' 冬", "input: my barn.gif", f"input_sha256: {digest}", "frame: 1"} <= set(
        shown
    )
    assert blank == ""
    again = Path(options[1]).with_stem("winter-again")
    assert cli.run(shlex.split(command)[1:]) == 0
    assert again.read_bytes() == Path(options[1]).read_bytes()


def test_a_large_photo_that_lies_on_its_side_comes_back_upright_in_its_size(editor_folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").resize((4032, 3024)).convert("RGB").save("photo.jpg", exif=exif)
    words = ["edit", "photo.jpg", "make it winter", "--model", str(editor_folder), "--steps", "1", "-o", "winter.jpg"]
    assert cli.run(words) == 0
    with Image.open("winter.jpg") as made:
        assert (made.size, made.getexif().get(0x0112, 1)) == ((3024, 4032), 1)
    assert open_image("winter.jpg").size == open_image("photo.jpg").size == (3024, 4032)


@pytest.mark.filterwarnings("always:.* is a JPEG")
def test_transparency_goes_through_and_a_jpeg_tells_that_it_has_none(
    editor_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGBA", (32, 32), (9, 9, 9, 0)).save("barn.png")
    assert edited(editor_folder, "-o", "clear.png") == 0
    assert open_image("clear.png").getextrema()[3] == (0, 0)
    assert "transparent" not in capsys.readouterr().err
    assert edited(editor_folder, "-o", "white.jpg") == 0
    assert "ip2p: white.jpg is a JPEG: its transparent parts are white" in capsys.readouterr().err.splitlines()


def test_a_picture_is_drawn_from_a_caption(base_folder: Path) -> None:
    words = ["generate", "A red barn!", "--model", str(base_folder), "--steps", "2", "--seed", "1", "--scale", "2"]
    assert cli.run(words) == 0
    parameters = read_parameters("a-red-barn-1.png")
    assert (parameters["caption"], parameters["seed"], parameters["scale"]) == ("A red barn!", 1, 2)


def test_the_command_that_is_shown_draws_a_caption_again(base_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "a barn", "--model", str(base_folder), "--seed", "1", "--steps", "4", "-o", "first.png"]
    assert cli.run([*words, "--preset", "balanced", "--negative-prompt", "winter", "--rescale", "0.5"]) == 0
    capsys.readouterr()
    assert cli.run(["inspect", "first.png"]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert cli.run(command[1:]) == 0
    assert open_image(command[-1]).tobytes() == open_image("first.png").tobytes()


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
@pytest.mark.parametrize(("file", "shown"), [(cli.__file__, ["ip2p: long text"]), ("/elsewhere/library.py", [])])
def test_warnings_of_ours_are_one_line_and_those_of_libraries_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str, shown: list[str]
) -> None:
    def examine() -> tuple[list[tuple[str, str]], list[str]]:
        warnings.warn_explicit("long text", UserWarning, file, 1)
        return [], []

    monkeypatch.setattr("ip2p.cli.doctor.examine", examine)
    assert cli.run(["doctor"]) == 0
    assert capsys.readouterr().err.splitlines() == shown


def test_doctor_tells_versions_device_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.run(["doctor"])
    output, errors = capsys.readouterr()
    assert all(name in output for name in ("torch", "device", "storybook-editor", "disk"))
    assert (code == 0) == (errors == "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "tolerance"], "--set 'tolerance' sets nothing"),
        (["--set", "tolerence=1"], "no setting 'tolerence'"),
        (["--set", "tolerance=much"], "--tolerance 'much'"),
        (["--preset", "quick"], "no preset 'quick'"),
        (["--text-scale", "nan"], "--text-scale nan"),
    ],
)
def test_settings_are_checked_before_a_model_is_loaded(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.run(["edit", "barn.png", "make it winter", "--model", "/nowhere", *words]) == 2
    assert message in capsys.readouterr().err
