"""Triples of scarce kinds: what a build from a file of triples takes, always the same ones."""

import argparse
import json
from pathlib import Path

import pytest

from ip2p.errors import ConfigError, DataError
from ip2p.storybook.edits import edits_between_captions
from ip2p.train.storybook.triples import WEIGHTS, scarce_triples, write


def test_triples_are_of_their_kinds_and_scarce_ones_more_often() -> None:
    triples = list(scarce_triples(300, seed=3))
    assert len({triple["caption"] for triple in triples}) == 300
    for triple in triples:
        edits = edits_between_captions(triple["caption"], triple["edited_caption"])
        kinds = [edit.kind for edit in edits]
        assert len(kinds) == 2 if triple["kind"] == "other" else kinds == [triple["kind"]], triple
    counts = {kind: sum(triple["kind"] == kind for triple in triples) for kind in WEIGHTS}
    assert counts["swap_building"] > 3 * counts["weather"] > 0 and counts["add_sky"] > 0


def test_the_first_triples_do_not_depend_on_the_number_of_all() -> None:
    assert list(scarce_triples(5, seed=3)) == list(scarce_triples(20, seed=3))[:5]
    assert list(scarce_triples(5, seed=3)) != list(scarce_triples(5, seed=4))


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    parsed = argparse.Namespace(out=tmp_path / "a" / "triples.jsonl", count=4, seed=0)
    write(parsed)
    before = parsed.out.read_bytes()
    assert [json.loads(line) for line in before.splitlines()] == list(scarce_triples(4, 0))
    with pytest.raises(DataError, match="is there and is not what would be written"):
        write(argparse.Namespace(out=parsed.out, count=5, seed=0))
    write(parsed)
    assert parsed.out.read_bytes() == before
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(DataError, match="is there and is not what would be written"):
        write(argparse.Namespace(out=tmp_path / "link", count=4, seed=0))
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(ConfigError, match="count=0"):
        write(argparse.Namespace(out=tmp_path / "none", count=0, seed=0))
