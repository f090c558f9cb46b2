"""Whatever goes wrong on the command line is one line with a remedy, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import ip2p
from ip2p import cli
from ip2p.errors import Ip2pError

BARN = Image.new("RGB", (32, 32), "firebrick")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    BARN.save("barn.png")
    Path("empty.png").touch()
    Path("text.png").write_text("make it winter")
    Path("folder").mkdir()


def listing() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


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
    program = "import sys; from ip2p import cli; code = cli.run(['--help']); print(sorted(sys.modules)); sys.exit(code)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "edit" in loaded.splitlines()[6:][0] or "Commands:" in loaded
    assert not {f"'{name}'" for name in ("torch", "numpy", "diffusers", "pyarrow", "PIL")} & set(
        loaded.splitlines()[-1].strip("[]").split(", ")
    )


@pytest.mark.parametrize("command", ["edit", "generate", "evaluate", "finetune", "doctor", "dataset build"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command.split(), "--help"]) == 0
    assert "Usage: ip2p" in capsys.readouterr().out


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    assert "Usage: ip2p" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"ip2p {ip2p.__version__}\n"
