"""Programs of `examples` and `bench` look at what they would replace before they draw or measure anything."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from ip2p.cli.outputs import require_free

ROOT = Path(__file__).parents[1]


def run(monkeypatch: pytest.MonkeyPatch, program: str, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", [program, *map(str, words)])
    return int(runpy.run_path(str(ROOT / program))["main"]())


@pytest.mark.parametrize(
    ("program", "picture"), [("examples/storybook.py", "edits.webp"), ("examples/demo.py", "edits.png")]
)
def test_an_example_leaves_pictures_that_are_not_its_own(
    program: str, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / picture)
    before = (tmp_path / picture).read_bytes()
    assert run(monkeypatch, program, "--out", tmp_path) == 2
    assert f"{picture} is there and is another picture. Give another folder as --out" in capsys.readouterr().err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_a_seed_that_is_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "examples/demo.py", "--seed", "-1", "--out", tmp_path / "demo") == 2
    assert "the seed -1 is out of range" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["edit", "pairs", "sharing", "train"])
def test_a_benchmark_replaces_figures_alone(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({"mine": 1}))
    for out in (mine, tmp_path):
        assert run(monkeypatch, f"bench/{program}.py", "--out", out) == 2
        assert f"{out} is there and was not made by ip2p" in capsys.readouterr().err
    assert json.loads(mine.read_text()) == {"mine": 1}


def test_earlier_figures_are_replaced(tmp_path: Path) -> None:
    require = runpy.run_path(str(ROOT / "bench" / "figures.py"))["require_figures"]
    (tmp_path / "edit.json").write_text(json.dumps({"command": "python bench/edit.py", "versions": {}}))
    require(tmp_path / "edit.json")
    require(tmp_path / "new" / "edit.json")


def test_the_sheets_of_the_docs_are_known_as_their_own() -> None:
    program = runpy.run_path(str(ROOT / "examples" / "storybook.py"))
    names = [draw.__name__ for draw in (*program["WORLD"], *program["MODELS"])]
    for name in names:
        require_free(ROOT / "docs" / "storybook" / f"{name}.webp", {"sheet": name})
