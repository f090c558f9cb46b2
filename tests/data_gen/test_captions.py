"""Captions from the storybook world and from files of every kind."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ip2p.config import Captions
from ip2p.data_gen.captions import read_captions
from ip2p.errors import DataError
from ip2p.storybook.language import parse
from ip2p.storybook.scene import RESERVED

TEXTS = ["a barn", "", "a barn", "Ein Häuschen im Schnee"]


def read(source: Path, **others: object) -> list[str]:
    """Texts of a file."""
    return [each.text for each in read_captions(Captions.model_validate({"source": str(source), **others}), seed=0)]


def test_storybook_captions_follow_from_the_seed_and_their_number() -> None:
    few, many = (read_captions(Captions(count=count), seed=1) for count in (5, 40))
    assert many[:5] == few
    assert {each.source for each in many} == {"storybook"}
    assert few != read_captions(Captions(count=5), seed=2)
    assert len({each.text for each in many}) > 30


def test_storybook_captions_keep_what_is_reserved() -> None:
    for caption in read_captions(Captions(count=200), seed=0):
        named = parse(caption.text)
        for held in (RESERVED.clip_only, RESERVED.unseen):
            assert not [name for name, values in held.items() if named.get(name) in values], caption.text
        assert (named.get("building"), named.get("color")) not in RESERVED.pairs


def test_files(tmp_path: Path) -> None:
    lines, objects, table = tmp_path / "a.txt", tmp_path / "b.jsonl", tmp_path / "c.parquet"
    lines.write_text("\n".join(TEXTS) + "\n", encoding="utf-8-sig")
    objects.write_text("".join(json.dumps({"id": 1, "caption": text}) + "\n" for text in TEXTS))
    pq.write_table(pa.table({"caption": TEXTS, "id": [1, 2, 3, 4]}), table)
    assert read(lines) == read(objects, text_column="caption") == read(table, text_column="caption") == TEXTS
    assert read(lines, count=2) == TEXTS[:2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "has no captions"),
        ("a.jsonl", '{"caption": "a"}\n', "no 'text' in .*a.jsonl, line 1.*text_column; there are caption"),
        ("a.jsonl", '{"text": "a"}\nnothing\n', "line 2 is not JSON"),
        ("a.jsonl", '{"text": 3}\n', "'text' in .*line 1 is no text"),
        ("a.jsonl", "[1]\n", "no 'text'"),
        ("a.parquet", "not parquet", "cannot read captions"),
        ("a.txt", b"\xff\xfe\x00", "cannot read captions"),
    ],
)
def test_bad_files_are_told(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message):
        read(file)


def test_a_missing_file_or_column_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file of captions"):
        read(tmp_path / "missing.txt")
    pq.write_table(pa.table({"caption": TEXTS}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="no column text.*there are caption"):
        read(tmp_path / "c.parquet")
