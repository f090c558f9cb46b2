"""Triples in files, in both layouts, broken ones too; and the kind that is guessed for them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ip2p.data_gen.kinds import KINDS, OTHER
from ip2p.data_gen.writers.files import SeedTriple, guess_kind, read_triple_file
from ip2p.data_gen.writers.seeds import load_seeds
from ip2p.errors import DataError

OURS = {"caption": "a barn", "instruction": "make it night", "edited_caption": "a barn at night"}
AUTHORS = {"input": "a barn", "edit": "make it night", "output": "a barn at night"}


def write(folder: Path, *rows: Any) -> Path:
    """Write rows as JSONL; texts are written as they are."""
    path = folder / "triples.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_both_layouts_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, OURS, "", AUTHORS | {"url": "x"}, OURS | {"kind": "abstract", "inverse": " make it day "})
    night = SeedTriple("a barn", "make it night", "a barn at night", "time", "")
    assert read_triple_file(path) == (night, night, night._replace(kind="abstract", inverse="make it day"))


def test_kinds_outside_of_the_taxonomy_are_other(tmp_path: Path) -> None:
    (triple,) = read_triple_file(write(tmp_path, OURS | {"kind": "mood swing"}))
    assert triple.kind == OTHER


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 of .* is not JSON"),
        ("[1]", "line 2 of .* is not a JSON object"),
        ('{"caption": "a"}', "line 2 of .* has no instruction"),
        ('{"input": "a", "edit": "b"}', "line 2 of .* has no output"),
        ('{"input": "a", "edit": "", "output": "b"}', "line 2 of .* has edit=''"),
        ('{"input": "a", "edit": 7, "output": "b"}', "line 2 of .* has edit='7'"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        read_triple_file(write(tmp_path, OURS, line))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xff\xfe", None])
def test_a_file_without_triples_is_an_error(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "triples.jsonl"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match="triples.jsonl"):
        read_triple_file(path)


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("remove the hat", "remove"), ("take the dog away", "remove"), ("add a rainbow", "add"),
        ("make it winter", "season"), ("make it night", "time"), ("let it rain", "weather"),
        ("as a watercolor", "style"), ("make the hat blue", "color"), ("build the hut of stone", "material"),
        ("make her smile", "expression"), ("move it to the beach", "place"),
        ("replace the dog with a cat", "swap"), ("do it", "other"),
    ],
)  # fmt: skip
def test_a_kind_is_guessed_from_the_instruction(instruction: str, kind: str) -> None:
    assert guess_kind("a woman in a hat with a dog in a hut", instruction) == kind


def test_guesses_are_mostly_right() -> None:
    seeds = [seed for seed in load_seeds() if seed.kind != "abstract"]
    right = sum(guess_kind(seed.caption, seed.instruction) == seed.kind for seed in seeds)
    assert right >= 0.7 * len(seeds)


@given(st.text(), st.text())
def test_any_text_has_a_kind(caption: str, instruction: str) -> None:
    assert guess_kind(caption, instruction) in (*KINDS, OTHER)
