"""Rows of a batch file: which settings they have of their own, and which from the command."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ip2p import cli
from ip2p.editing.batch_rows import read_batch_file
from ip2p.pictures.write import read_parameters

OWN = {"scheduler": "ddim", "steps": 4, "guidance_start": 0.25, "text_scale": 5.0}
"""Settings of a model of its own."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editor_folder: Path) -> Path:
    """A folder with a picture and an editor with settings of its own, as the current one."""
    shutil.copytree(editor_folder, tmp_path / "editor")
    (tmp_path / "editor" / "ip2p.json").write_text(json.dumps(OWN))
    Image.linear_gradient("L").resize((32, 32)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edited(row: dict[str, Any], *words: str) -> dict[str, Any]:
    """What is recorded of the picture of a row, but for the id of the edit."""
    out = Path("-".join(["edited", *words]))
    row = {"image": "a.png", "instruction": "make it winter", "seed": 1, "output": "b.png"} | row
    Path("edits.jsonl").write_text(json.dumps(row))
    assert cli.run(["batch", "edits.jsonl", "-o", str(out), "--model", "editor", *words]) == 0
    return {name: value for name, value in read_parameters(out / "b.png").items() if name != "edit"}


@pytest.mark.parametrize(("of_command", "of_row"), [("fast", "exact"), ("paper", "balanced"), ("exact", "balanced")])
def test_the_preset_of_a_row_takes_the_place_of_the_commands(home: Path, of_command: str, of_row: str) -> None:
    given = ("--text-scale", "3", "--resolution", "24")
    mixed, alone = (edited({"preset": of_row}, *given, *words) for words in (("--preset", of_command), ()))
    assert mixed == alone
    assert (mixed["text_scale"], mixed["resolution"]) == (3.0, 24), "what the command says beside its preset holds"
    assert (mixed["scheduler"], mixed["steps"]) == ("ddim", 4)


def test_a_row_without_a_preset_has_the_commands_and_its_own_settings_over_it(home: Path) -> None:
    made = edited({"text_every": 3}, "--preset", "fast", "--steps", "2")
    assert (made["scheduler"], made["steps"], made["text_every"], made["image_every"]) == ("dpm", 2, 3, 4)


def test_the_preset_of_a_row_has_precedence_over_options_of_the_command(home: Path) -> None:
    made = edited({"preset": "fast"}, "--steps", "2", "--preset", "balanced")
    assert (made["scheduler"], made["steps"]) == ("dpm", 8)


def test_ids_follow_from_contents_alone(tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text('{"image": "a", "instruction": "b", "steps": 3}\n\n{"image": "c"}\n')
    other.write_text('{"image": "c"}\n{"steps": 3, "instruction": "b", "image": "a"}\n')
    first, second = ({edit.id for edit in read_batch_file(file, {})} for file in (one, other))
    assert first == second
    assert not first & {edit.id for edit in read_batch_file(one, {"text_scale": 1.0}) if edit.row}
