"""Pairs are read from the layouts in which people keep them."""

import csv
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pictures

from ip2p.cli import run
from ip2p.errors import DataError
from ip2p.pairs.read import open_splits, read_pairs
from ip2p.pairs.rows import PairRow

TEXTS = ("make it winter", "add a rainbow", "turn it blue")


def picture(number: int, kind: str = "PNG") -> bytes:
    """Encode a picture of one color."""
    stream = io.BytesIO()
    Pictures.new("RGB", (32, 32), (number, 2 * number, 90)).save(stream, kind)
    return stream.getvalue()


PAIRS = [(picture(number), picture(100 + number), text) for number, text in enumerate(TEXTS)]


def contents(path: Path) -> list[tuple[bytes | None, bytes | None, str]]:
    """Read a data set without faults."""
    rows = list(read_pairs(path))
    assert not [row.fault for row in rows if row.fault]
    return [(row.source, row.edited, row.instruction) for row in rows]


@pytest.mark.parametrize(
    "names",
    [
        ("original_image", "edited_image", "edit_prompt"),
        ("source_img", "target_img", "instruction"),
        ("input_image", "edited_image", "edit_prompt"),
        ("image", "edited_image", "prompt"),
    ],
)
def test_parquet_of_many_names(tmp_path: Path, names: tuple[str, str, str]) -> None:
    features = Features({names[0]: Image(), names[1]: Image(), names[2]: Value("string")})
    rows = [dict(zip(names, ({"bytes": a}, {"bytes": b}, text), strict=True)) for a, b, text in PAIRS]
    for split, chosen in (("train", rows[:2]), ("test", rows[2:])):
        Dataset.from_list(chosen, features=features).to_parquet(tmp_path / f"data/{split}-00000-of-00001.parquet")
    assert sorted(contents(tmp_path), key=lambda row: TEXTS.index(row[2])) == PAIRS
    assert [row.split for row in read_pairs(tmp_path)] == ["test", "train", "train"]
    assert contents(tmp_path / "data/test-00000-of-00001.parquet") == PAIRS[2:]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("ending", ["", "_file_name", "_path"])
def test_metadata_with_names_of_files(tmp_path: Path, kind: str, ending: str) -> None:
    rows = []
    for number, (before, after, text) in enumerate(PAIRS):
        (tmp_path / f"{number}-a.png").write_bytes(before)
        (tmp_path / f"{number}-b.png").write_bytes(after)
        rows.append({f"control{ending}": f"{number}-a.png", f"image{ending}": f"{number}-b.png", "caption": text})
    with (tmp_path / f"metadata.{kind}").open("w", newline="") as stream:
        if kind == "jsonl":
            stream.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    assert contents(tmp_path) == PAIRS


@pytest.mark.parametrize("folders", [("control", "target"), ("control", "images"), ("before", "after")])
def test_two_folders(tmp_path: Path, folders: tuple[str, str]) -> None:
    for side in (0, 1):
        (tmp_path / folders[side]).mkdir()
        for number, each in enumerate(PAIRS):
            data = each[side]
            assert isinstance(data, bytes)
            (tmp_path / folders[side] / f"{number}.png").write_bytes(data)
            if side:
                (tmp_path / folders[side] / f"{number}.txt").write_text(f"{each[2]}\n")
    assert contents(tmp_path) == PAIRS
    (tmp_path / folders[0] / "1.png").unlink()
    assert [row.fault for row in read_pairs(tmp_path)] == ["", f"no source picture '{folders[0]}/1'", ""]


def test_folders_of_the_authors(tmp_path: Path) -> None:
    for number, (before, after, text) in enumerate(PAIRS):
        folder = tmp_path / f"000000{number}"
        folder.mkdir()
        (folder / "prompt.json").write_text(json.dumps({"input": "a barn", "edit": text, "output": "a barn in winter"}))
        (folder / "77_0.jpg").write_bytes(before)
        (folder / "77_1.jpg").write_bytes(after)
    assert contents(tmp_path) == PAIRS
    row = next(read_pairs(tmp_path))
    assert (row.caption, row.edited_caption) == ("a barn", "a barn in winter")


def write_tar(path: Path) -> None:
    """Write a WebDataset."""
    with tarfile.open(path, "w") as archive:
        for number, (before, after, text) in enumerate(PAIRS):
            meta = json.dumps({"edit_prompt": text}).encode()
            for field, data in (("original_image.png", before), ("edited_image.png", after), ("json", meta)):
                member = tarfile.TarInfo(f"{number:05d}.{field}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def test_tar(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-000000.tar")
    assert contents(tmp_path) == PAIRS


def test_a_tar_that_is_cut_off_anywhere_is_told(tmp_path: Path) -> None:
    """Also between two members, where readers of tar files see a shorter file and no fault."""
    path = tmp_path / "train-000000.tar"
    write_tar(path)
    data = path.read_bytes()
    for blocks in range(1, len(data) // 512 - 20, 2):
        path.write_bytes(data[: 512 * blocks])
        rows = list(read_pairs(tmp_path))
        assert [row for row in rows if row.fault], blocks


def test_bad_rows_are_told_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PAIRS[0][0])
    good = {"original_image": "a.png", "edited_image": "a.png", "edit_prompt": "x"}
    outside = tmp_path.parent / "outside.png"
    outside.write_bytes(PAIRS[0][0])
    bad = [
        "no json", "[1]", json.dumps({}), json.dumps(good | {"edited_image": "b.png"}),
        json.dumps(good | {"edited_image": "../outside.png"}), json.dumps(good | {"edited_image": str(outside)}),
        json.dumps(good | {"edited_image": None}), json.dumps(good | {"edited_image": "."}),
    ]  # fmt: skip
    (tmp_path / "metadata.jsonl").write_text("\n".join([json.dumps(good), *bad, json.dumps(good)]) + "\n")
    rows = list(read_pairs(tmp_path))
    assert [bool(row.fault) for row in rows] == [False, *[True] * len(bad), False]
    assert rows[4].place == "metadata.jsonl, row 4" and rows[4].fault == "no edited picture 'b.png'"


def test_a_damaged_parquet_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(b"PAR1 and nothing else PAR1")
    (row,) = read_pairs(tmp_path)
    assert "cannot be read" in row.fault and isinstance(row, PairRow)


def test_a_parquet_file_without_rows_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"edit_prompt": pa.array([], pa.string())}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="a parquet file of it has no rows"):
        open_splits(tmp_path)
    assert run(["dataset", "check", str(tmp_path)]) == 2
    assert "there is no pair in" in capsys.readouterr().err


def test_what_has_no_pairs_is_told(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    for path in (tmp_path, tmp_path / "letter.txt"):
        with pytest.raises(DataError, match="no layout that is known"):
            list(read_pairs(path))
