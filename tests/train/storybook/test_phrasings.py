"""Phrasings: more instructions of each pair, the other way round too, over equal pictures."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PillowImage

from ip2p.data_gen.rows import to_png
from ip2p.manifest import write_manifest
from ip2p.shards import Contents, hash_file
from ip2p.storybook.edits import edit_between_captions
from ip2p.train.batches import CENTER_CROP
from ip2p.train.masks import Masks
from ip2p.train.pairs import open_pairs
from ip2p.train.storybook.phrasings import main, phrase

BEFORE, AFTER = "a red barn by a lake in summer", "a red barn by a lake in winter"
PACKED = Features(
    {"original_prompt": Value("string"), "original_image": Image(), "edit_prompt": Value("string"),
     "edited_prompt": Value("string"), "edited_image": Image(), "id": Value("string"), "inverse_of": Value("string")}
)  # fmt: skip


def row(number: int, before: str = BEFORE, after: str = AFTER, **more: Any) -> dict[str, Any]:
    pictures = [to_png(PillowImage.new("RGB", (32, 32), (number, level, 0))) for level in (50, 200)]
    return {
        "original_prompt": before, "original_image": pictures[0], "edit_prompt": "make it winter",
        "edited_prompt": after, "edited_image": pictures[1], "id": f"pair-{number}", "inverse_of": None, **more,
    }  # fmt: skip


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    folder = tmp_path / "packed"
    rows = [*(row(number) for number in range(6)), row(9, AFTER, BEFORE, inverse_of="pair-1")]
    Dataset.from_list(rows, features=PACKED).to_parquet(str(folder / "data" / "train-00000.parquet"))
    Dataset.from_list([row(7)], features=PACKED).to_parquet(str(folder / "data" / "test-00000.parquet"))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["phrasings.py", *map(str, arguments)])
    return main()


def test_a_pair_gets_instructions_there_and_back_that_differ() -> None:
    there, back = phrase(row(1), 12, seed=0)
    assert there.instructions[0] == "make it winter" and len(set(there.instructions)) > 6
    pictures = [[each.row[name] for name in ("original_image", "edited_image")] for each in (there, back)]
    assert pictures[0] == pictures[1][::-1] and there.row["edited_prompt"] == back.row["original_prompt"] == AFTER
    assert not set(there.instructions) & set(back.instructions)
    assert any("summer" in text.lower() for text in back.instructions)
    assert list(phrase(row(1), 12, seed=0)) == [there, back]
    assert next(phrase(row(1), 12, seed=1)).instructions != there.instructions


def test_two_edits_are_asked_for_at_once_there_and_back() -> None:
    after = "a red castle by a lake in winter"
    there, back = phrase(row(1, after=after, edit_prompt="make it winter and swap the barn for a castle"), 8, seed=0)
    for phrased, words in ((there, ("winter|snow", "castle|palace|fortress")), (back, ("summer", "barn|farmhouse"))):
        assert len(set(phrased.instructions)) > 4
        for text in phrased.instructions[1:]:
            assert " and " in text, text
        for word in words:
            assert any(re.search(word, text.lower()) for text in phrased.instructions), (word, phrased.instructions)
    third = row(1, after="a blue castle by a lake in winter")
    assert [set(each.instructions) for each in phrase(third, 3, seed=0)] == [{"make it winter"}], "three are too many"
    swapped = row(1, "a red barn by a lake with a balloon in the sky", "a blue barn by a lake with a bird in the sky")
    assert len(list(phrase(swapped, 3, seed=0))) == 1, "the way back has an edit that no triple has"


def test_what_no_triple_may_ask_for_is_not_asked_for() -> None:
    balloon, bird = (f"a red barn by a lake with a {thing} in the sky" for thing in ("balloon", "bird"))
    undo = edit_between_captions(bird, balloon)
    assert undo and undo.kind == "swap_sky"
    assert len(list(phrase(row(1, balloon, bird), 3, seed=0))) == 1


def test_captions_of_another_language_keep_their_instruction() -> None:
    (only,) = phrase(row(1, "an old man", "an old woman"), 3, seed=0)
    assert only.instructions == ["make it winter"] * 3


def test_each_phrasing_is_a_data_set_with_the_same_pictures(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "phrased"
    assert run(monkeypatch, packed, "--out", out, "--count", "2") == 0
    assert run(monkeypatch, packed, "--out", out, "--count", "2") == 0  # again, over its own
    assert "12 pairs to train and 2 pairs to test" in capsys.readouterr().out
    first, second = (open_pairs(out / f"phrasing-{number}") for number in range(2))
    for one, other in ((first.train, second.train), (first.held_out, second.held_out)):
        assert one.remove_columns("edit_prompt")[:] == other.remove_columns("edit_prompt")[:]
        assert one["edit_prompt"] != other["edit_prompt"]
    assert len(first.train) == 12 and len(first.held_out) == 2


def test_a_folder_with_other_files_is_left_alone(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine" / "phrasing-0").mkdir(parents=True)
    (tmp_path / "mine" / "phrasing-0" / "notes.txt").write_text("mine")
    assert run(monkeypatch, packed, "--out", tmp_path / "mine") == 2
    assert "did not write" in capsys.readouterr().err and (tmp_path / "mine/phrasing-0/notes.txt").is_file()
    assert run(monkeypatch, tmp_path / "mine", "--out", tmp_path / "new") == 2
    assert "make dataset" in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert run(monkeypatch, packed, "--out", packed / "phrased") == 2
    assert "takes no other files" in capsys.readouterr().err and not (packed / "phrased").exists()


def test_a_packed_set_that_is_not_as_it_was_written_is_refused(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        path.relative_to(packed).as_posix(): Contents(rows=rows, size=path.stat().st_size, sha256=hash_file(path))
        for rows, path in ((7, packed / "data" / "train-00000.parquet"), (1, packed / "data" / "test-00000.parquet"))
    }
    write_manifest(packed, files, "settings")
    assert run(monkeypatch, packed, "--out", tmp_path / "new", "--count", "1") == 0
    shutil.copy(packed / "data" / "test-00000.parquet", packed / "data" / "train-00000.parquet")
    assert run(monkeypatch, packed, "--out", tmp_path / "other", "--count", "1") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "train-00000.parquet" in said and not (tmp_path / "other").exists()


def test_masks_of_changed_pixels_are_kept_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = to_png(PillowImage.new("L", (32, 32), 255))
    rows = [row(number, edit_mask=mask) for number in range(3)]
    table = Dataset.from_list(rows, features=Features({**PACKED, "edit_mask": Image()}))
    table.to_parquet(str(tmp_path / "packed" / "data" / "train-00000.parquet"))
    assert run(monkeypatch, tmp_path / "packed", "--out", tmp_path / "phrased", "--count", "1") == 0
    written = Dataset.from_parquet(str(tmp_path / "phrased/phrasing-0/train-00000-of-00001.parquet"))
    assert [each.getextrema() for each in written["edit_mask"]] == [(255, 255)] * 6


def test_a_row_without_a_mask_leaves_the_others_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = to_png(PillowImage.new("L", (32, 32), 255))
    rows = [row(0, edit_mask=None), row(1, edit_mask=mask)]
    table = Dataset.from_list(rows, features=Features({**PACKED, "edit_mask": Image()}))
    table.to_parquet(str(tmp_path / "packed" / "data" / "train-00000.parquet"))
    assert run(monkeypatch, tmp_path / "packed", "--out", tmp_path / "phrased", "--count", "1") == 0
    pairs = open_pairs(tmp_path / "phrased" / "phrasing-0").train
    assert [each is None for each in pairs["edit_mask"]] == [True, True, False], "the last pair is held out"
    instead = torch.full((2, 1, 4, 4), 0.5)
    shares = Masks(pairs, downscale=8).at([0, 2], [CENTER_CROP] * 2, [(32, 32)] * 2, instead)
    assert torch.equal(shares[0], instead[0]) and torch.equal(shares[1], torch.ones(1, 4, 4))


def test_what_one_caption_names_and_the_other_does_not_is_no_known_edit() -> None:
    assert edit_between_captions("a barn by a lake", "a red barn by a lake") is None
    assert edit_between_captions("a red barn by a lake in winter", "a red barn by a lake") is None
