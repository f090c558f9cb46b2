"""Captions from the storybook world, from files of every kind, and from data sets; sampled and cleaned."""

import csv
import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ip2p import cli
from ip2p.data_gen.captions.read import read_captions, reservoir
from ip2p.data_gen.config import CaptionsConfig
from ip2p.errors import DataError
from ip2p.records import content_id
from ip2p.storybook.language import parse
from ip2p.storybook.scene import RESERVED

TEXTS = ["a barn", "", "a barn", "Ein Häuschen im Schnee"]


def read(source: Path, **others: object) -> list[str]:
    """Read the texts of a file."""
    return [
        each.text for each in read_captions(CaptionsConfig.model_validate({"source": str(source), **others}), seed=0)
    ]


def test_storybook_captions_follow_from_the_seed_and_their_number() -> None:
    few, many = (read_captions(CaptionsConfig(count=count), seed=1) for count in (5, 40))
    assert many[:5] == few
    assert {each.source for each in many} == {"storybook"}
    assert few != read_captions(CaptionsConfig(count=5), seed=2)
    assert len({each.text for each in many}) > 30


def test_storybook_captions_keep_what_is_reserved() -> None:
    for caption in read_captions(CaptionsConfig(count=200), seed=0):
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


def write_rows(file: Path, texts: list[str], **columns: list[object]) -> Path:
    """A file of its ending's kind with a column `text`; text files have lines of nothing else."""
    rows = [dict(zip(["text", *columns], row, strict=True)) for row in zip(texts, *columns.values(), strict=True)]
    file.parent.mkdir(parents=True, exist_ok=True)
    kind = file.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
        return file
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "wt", encoding="utf-8", newline="") as stream:
        if kind in ("csv", "tsv"):
            table = csv.DictWriter(stream, ["text", *columns], delimiter="," if kind == "csv" else "\t")
            table.writeheader()
            table.writerows(rows)
        else:
            stream.writelines(f"{json.dumps(row) if kind == 'jsonl' else row['text']}\n" for row in rows)
    return file


@pytest.mark.parametrize("kind", ["txt", "captions", "jsonl", "csv", "tsv", "parquet", "jsonl.gz", "csv.gz", "txt.gz"])
def test_every_kind_of_file_gives_the_same(tmp_path: Path, kind: str) -> None:
    file = write_rows(tmp_path / f"a.{kind}", TEXTS, **({} if kind.startswith(("txt", "cap")) else {"n": [1, 2, 3, 4]}))
    captions = read_captions(CaptionsConfig(source=str(file)), seed=0)
    assert [each.text for each in captions] == TEXTS
    assert {each.source for each in captions} == {file.name}
    assert read(file, count=2) == TEXTS[:2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"\xef\xbb\xbfa barn\r\n\r\na mill\r\n"),
        ("a.txt", b"a barn\r\ra mill"),
        ("a.jsonl", b'\xef\xbb\xbf{"text": "a barn"}\r\n\r\n{"text": null}\r\n{"text": "a mill", "url": 3}'),
        ("a.csv", b"\xef\xbb\xbfn,text\r\n1,a barn\r\n2,\r\n\r\n3,a mill\r\n"),
        ("a.csv", b"n,text\n1,a barn\n2\n3,a mill"),
        ("A.TSV", b"text\tn\na barn\t1\n\t2\na mill\t3"),
    ],
)
def test_line_ends_marks_and_missing_cells(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == ["a barn", "", "a mill"]


def test_cells_with_commas_line_ends_quotes_and_a_megabyte(tmp_path: Path) -> None:
    texts = ["a barn, red", 'a "mill"', "a house\nby a lake", "1984", "a barn " * 150_000]
    for kind in ("csv", "tsv", "jsonl", "parquet"):
        file = write_rows(tmp_path / f"a.{kind}", texts)
        assert read(file, clean=False) == [text.strip() for text in texts]
        assert read(file, max_words=3) == ["a barn, red", 'a "mill"', "a house", "", "a barn"]


def test_halves_of_characters_do_not_come_in(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a \\ud800barn"}')
    for caption in read_captions(CaptionsConfig(source=str(tmp_path / "a.jsonl"), clean=False), seed=0):
        assert caption.text == "a \ufffdbarn"
    assert read(tmp_path / "a.jsonl") == ["a barn"]


def test_captions_are_cleaned_before_they_are_named(tmp_path: Path) -> None:
    file = write_rows(
        tmp_path / "a.txt", ["<b>A barn</b> | Etsy", "IMG_2034.jpg", "A barn by a lake, in the snow of May"]
    )
    cleaned, nothing, cut = read_captions(CaptionsConfig(source=str(file), max_words=6), seed=0)
    assert (cleaned.text, nothing.text, cut.text) == ("A barn", "", "A barn by a lake")
    assert cleaned.id == content_id("A barn")
    assert read(file, clean=False)[0] == "<b>A barn</b> | Etsy"


def test_a_sample_follows_from_the_seed_and_keeps_the_order(tmp_path: Path) -> None:
    texts = [f"a barn and {number} trees" for number in range(200)]
    files = [write_rows(tmp_path / name, texts) for name in ("a.txt", "b.parquet", "folder/c.jsonl")]
    settings = [CaptionsConfig(source=str(file), count=12, sample=True) for file in (*files[:2], files[2].parent)]
    drawn = [[each.text for each in read_captions(each, seed=3)] for each in settings]
    assert drawn[0] == drawn[1] == drawn[2]
    assert drawn[0] == sorted(drawn[0], key=texts.index) and len(set(drawn[0])) == 12
    assert drawn[0] != [each.text for each in read_captions(settings[0], seed=4)]
    assert drawn[0][-1] != texts[11], "not the first ones"
    assert read(files[0], count=500, sample=True) == texts


def test_a_sample_is_the_same_on_every_machine() -> None:
    assert reservoir(map(str, range(1000)), 5, random.Random(7)) == ["57", "360", "753", "929", "989"]


def test_every_row_is_as_likely_to_be_drawn() -> None:
    rng = random.Random(0)
    drawn = Counter(text for _ in range(4000) for text in reservoir("abcdefgh", 3, rng))
    assert all(abs(count - 1500) < 120 for count in drawn.values()) and len(drawn) == 8


def test_a_sample_holds_no_more_than_it_gives() -> None:
    alive: Counter[str] = Counter()

    class Text(str):
        def __del__(self) -> None:
            alive["now"] -= 1

    def texts() -> Iterator[str]:
        for number in range(5000):
            alive["now"] += 1
            alive["most"] = max(alive["now"], alive["most"])
            yield Text(number)

    assert len(reservoir(texts(), 10, random.Random(0))) == 10
    assert alive["most"] <= 13


def test_a_folder_is_streamed_as_a_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "json"  # also the name of a format
    for split, texts in (("train", ["a barn", "a mill"]), ("test", ["a lake"])):
        for number, text in enumerate(texts):
            pictures = [{"bytes": b"no picture", "path": None}]
            write_rows(folder / f"data/{split}-{number:05d}-of-{len(texts):05d}.parquet", [text], image=pictures)
    assert read(folder) == ["a barn", "a mill"]
    assert read(folder, split="test") == ["a lake"]
    assert read(folder, count=1) == ["a barn"]
    assert {each.source for each in read_captions(CaptionsConfig(source=f"{folder}/"), seed=0)} == {"json"}
    with pytest.raises(DataError, match="cannot read captions from .*Bad split: dev.*captions.split"):
        read(folder, split="dev")
    with pytest.raises(DataError, match="no column 'caption' in .*json.*text_column; there are text, image"):
        read(folder, text_column="caption")


@pytest.mark.parametrize("name", ["captions [v1].jsonl", "captions [v1]"])
def test_a_path_with_brackets_works(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if not path.suffix:
        path.mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("a barn", "a castle"))
    (path if path.suffix else path / "rows.jsonl").write_text(lines)
    assert sorted(read(path)) == ["a barn", "a castle"]


@pytest.mark.parametrize("name", ["subsets", "subsets [v1]"])
def test_a_folder_with_subsets(tmp_path: Path, name: str) -> None:
    tmp_path /= name
    tmp_path.mkdir()
    header = "".join(f"- config_name: {name}\n  data_files: {name}/*.jsonl\n" for name in ("barns", "mills"))
    for name in ("barns", "mills"):
        write_rows(tmp_path / name / "a.jsonl", [f"{number} {name}" for number in "123"], n=[1, 2, 3])
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{header}---\n")
    assert read(tmp_path, subset="barns", count=1) == ["1 barns"]
    assert read(tmp_path, subset="mills") == ["1 mills", "2 mills", "3 mills"]
    with pytest.raises(DataError, match="captions.subset"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, "", "cannot read captions from .*Check its files"),
        ("a.parquet", "", "cannot read captions from .*Check its files"),
        ("a.jsonl", '{"text": "a"}\nnothing\n', "cannot read captions from .*Check its files"),
        ("a.jsonl", '{"text": 3}\n', "'text' in .*row 1 is no text but int"),
    ],
)
def test_bad_folders_are_told(tmp_path: Path, name: str | None, content: str, message: str) -> None:
    if name:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_data_set_that_the_hub_cannot_give_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("huggingface_hub.constants.HF_HUB_OFFLINE", "datasets.config.HF_HUB_OFFLINE"):
        monkeypatch.setattr(name, True)
    assert cli.run("dataset triples --captions no-such-owner/name".split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no-such-owner/name" in line and "HF_HUB_OFFLINE" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "has no captions"),
        ("empty.csv", "", "has no captions"),
        ("header.csv", "text,n\n", "has no captions"),
        ("empty.jsonl", "\ufeff\n\n", "has no captions"),
        ("a.jsonl", '{"caption": "a"}\n', "no column 'text' in .*a.jsonl, line 1.*text_column; there are caption"),
        ("a.jsonl", '{"text": "a"}\n{"url": "b"}\n', "no column 'text' in .*a.jsonl, line 2.*there are url"),
        ("a.jsonl", '{"text": "a"}\nnothing\n', "line 2 is not JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", '{"n": 1, "text": 3}\n', "'text' in .*line 1 is no text but int.*there are n, text"),
        ("a.jsonl", '{"text": ["a"]}\n', "'text' in .*line 1 is no text but list"),
        ("a.jsonl", "[1]\n", "line 1 is JSON, but no object"),
        ("a.jsonl", '"a barn"\n', 'line 1 is JSON, but no object.*{"text": "a red barn"}'),
        ("a.json", '[{"text": "a barn"}]', "name it .jsonl"),
        ("a.csv", "caption,n\na,1\n", "no column 'text' in .*a.csv.*there are caption, n"),
        ("a.csv", "text,n\na barn, red,1\n", "line 2 has more cells"),
        ("a.csv", 'text,n\n"a barn,1\n', "is not CSV from line 2 on"),
        ("a.tsv", 'text\tn\n"a" barn\t1\n', "is not CSV from line 2 on"),
        ("a.csv", f'text\n"{"a" * 2**25}"\n', "is not CSV from line 2 on"),
        ("a.parquet", "", "cannot read captions"),
        ("a.parquet", "not parquet", "cannot read captions"),
        ("a.txt", b"a barn\na caf\xe9\n", "a.txt, line 2, character 6 is not UTF-8.*iconv"),
        ("a.txt", b"\xff\xfe\x00", "a.txt, line 1, character 1 is not UTF-8"),
        ("a.csv", b"text\n\x80\n", "a.csv, line 2, character 1 is not UTF-8"),
        ("a.jsonl", b'{"text": "\xff"}', "a.jsonl, line 1, character 11 is not UTF-8"),
        ("a.txt.gz", "not gzip", "cannot read captions"),
        ("a.txt.gz", gzip.compress(b"a barn\n" * 99, mtime=0)[:-12], "cannot read captions"),
    ],
)
def test_bad_files_are_told(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message) as caught:
        read(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1, 2]), "'text' in .*row 1 is no text but int"),
        (pa.array([None, b"a"]), "'text' in .*row 2 is no text but bytes"),
        (pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers()), "rows 1 to 1 is not UTF-8"),
    ],
)
def test_columns_of_other_types_are_told(tmp_path: Path, column: pa.Array, message: str) -> None:
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_columns_of_every_kind_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["a barn", None, "a mill"]).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert read(tmp_path / "a.parquet") == ["a barn", "", "a mill"]


def test_a_missing_file_or_column_is_told(tmp_path: Path) -> None:
    for name in ("missing.txt", "missing/folder", "captions/missing.jsonl", "captions/missing.csv.gz"):
        with pytest.raises(DataError, match="no file of captions"):
            read(tmp_path / name)
    with pytest.raises(DataError, match="no file of captions captions/missing.jsonl"):
        read(Path("captions/missing.jsonl"))
    pq.write_table(pa.table({"caption": TEXTS}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="no column 'text'.*there are caption"):
        read(tmp_path / "c.parquet")
