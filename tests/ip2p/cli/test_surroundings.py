"""Commands where something is missing that is usually there: streams, letters, the current folder."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

import ip2p
from ip2p.pictures.write import save_picture

PROGRAM = f"{sys.executable} -c 'from ip2p.cli import main; main()'"
ROOT = Path(ip2p.__file__).parents[1]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    save_picture(Image.new("RGB", (16, 16)), Path("drawn.png"), {"caption": "a barn in the ☃", "seed": 1})


def shell(command: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command line, in which `ip2p` is the program."""
    words = command.replace("ip2p ", f"{PROGRAM} ")
    environment = {**os.environ, **(variables or {})}
    return subprocess.run(["bash", "-c", words], capture_output=True, text=True, errors="replace", env=environment)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_stream_is_no_error(closed: str) -> None:
    done = shell(f"ip2p inspect drawn.png {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("seed: 1" in done.stdout) == (not closed.startswith(">"))


def test_any_name_can_be_said_to_a_closed_stream() -> None:
    done = shell("mkdir $'\\xff'; cp drawn.png $'\\xff/a.png'; ip2p inspect $'\\xff/a.png' >&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict", "latin-1"])
def test_letters_that_the_output_has_not_are_escaped(encoding: str) -> None:
    done = shell("ip2p inspect drawn.png", {"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, "")
    assert "a barn in the" in done.stdout


def test_a_current_folder_that_has_been_deleted_is_one_line() -> None:
    done = shell("mkdir gone; cd gone; rmdir ../gone; ip2p edit ../drawn.png 'make it winter'")
    assert done.returncode == 2
    assert done.stderr == "ip2p: the current folder has been deleted. Change to another one\n"
