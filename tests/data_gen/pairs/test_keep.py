"""Nothing that a person has put into a packed data set is lost when it is packed again."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ip2p.data_gen.pairs.keep import keep_edited
from ip2p.manifest import write_documents, write_manifest
from ip2p.shards import Contents, hash_file

DATA = "data/train-00000-of-00001.parquet"


def write_pairs(path: Path, rows: int) -> None:
    """Write a parquet file of so many rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"n": list(range(rows))}), path, write_page_checksum=True, compression="zstd")


def content(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder, by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A data set as ip2p writes them."""
    folder = tmp_path / "out" / "packed"
    write_pairs(folder / DATA, 5)
    file = folder / DATA
    files = {DATA: Contents(rows=5, size=file.stat().st_size, sha256=hash_file(file))}
    write_manifest(folder, files, "config", write_documents(folder, {"README.md": "the card"}))
    return folder


def keep(packed: Path) -> tuple[dict[str, bytes], list[str]]:
    """Keep what is a person's; returns what is beside the data set then, and what was said."""
    said: list[str] = []
    keep_edited(packed, packed.parent, said.append)
    return {name: data for name, data in content(packed.parent).items() if not name.startswith("packed/")}, said


def test_a_data_set_as_it_was_written_leaves_nothing(packed: Path) -> None:
    assert keep(packed) == ({}, [])
    data = packed / DATA
    data.write_bytes(data.read_bytes()[:-9])
    (packed / ".ip2p-tmp-1-0123456789abcdef-x").write_text("of a killed process")
    assert keep(packed) == ({}, []), "damage is not kept"
    (packed / "manifest.json").unlink()
    (packed / "README.md").unlink()
    assert keep(packed) == ({}, []), "pairs are known by their names"


def test_files_in_subfolders_are_kept_once_with_each_content(packed: Path) -> None:
    files = {"mine/deep/notes.txt": "a", "data/extra.parquet": "b", ".git/config": "c", "data/.gitkeep": "", "top": "d"}
    for name, text in files.items():
        (packed / name).parent.mkdir(parents=True, exist_ok=True)
        (packed / name).write_text(text)
    kept, said = keep(packed)
    nested = {f"packed.edited/{name}": files[name].encode() for name in list(files)[:3]}
    assert kept == nested | {"top.edited": b"d"}
    assert len(said) == 1 and said[0].startswith("4 files of yours in") and "and 1 more" in said[0]
    assert keep(packed)[0] == kept
    (packed / "mine/deep/notes.txt").write_text("e")
    assert keep(packed)[0] == kept | {"packed.edited/mine/deep/notes-2.txt": b"e"}


def test_any_name_is_kept_and_shown(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["n" * 255, "ä" * 127, os.fsdecode(b"caf\xe9.txt"), "mine/" + "s." + "x" * 253]
    (packed / "mine").mkdir()
    for round_ in ("a", "b"):
        for name in names:
            (packed / name).write_text(name[:3] + round_)
        kept: list[str] = []
        keep_edited(packed, packed.parent, kept.append)
        print(kept[0].encode().decode())
    found = {data.decode() for name, data in content(packed.parent).items() if not name.startswith("packed/")}
    assert found == {name[:3] + each for name in names for each in "ab"} and "caf" in capsys.readouterr().out


def test_an_edit_of_the_same_size_is_kept_and_a_flipped_bit_is_not(packed: Path) -> None:
    data = packed / DATA
    as_written = data.read_bytes()
    pq.write_table(pa.table({"n": [0, 1, 2, 3, 9]}), data, compression="zstd", write_page_checksum=True)
    assert len(data.read_bytes()) == len(as_written) and data.read_bytes() != as_written
    assert keep(packed)[0] == {f"packed.edited/{DATA}": data.read_bytes()}
    data.write_bytes(as_written[:30] + bytes([as_written[30] ^ 1]) + as_written[31:])
    assert list(keep(packed)[0]) == [f"packed.edited/{DATA}"], "no second one"


def test_pairs_that_a_person_has_edited_are_kept_and_links_stay_links(packed: Path, tmp_path: Path) -> None:
    write_pairs(packed / DATA, 50)
    (tmp_path / "elsewhere").mkdir()
    (packed / "link").symlink_to(tmp_path / "elsewhere")
    (packed / "data" / "broken").symlink_to("nowhere")
    kept, said = keep(packed)
    assert kept == {f"packed.edited/{DATA}": (packed / DATA).read_bytes()}
    out = packed.parent
    assert os.readlink(out / "link.edited") == str(tmp_path / "elsewhere")
    assert os.readlink(out / "packed.edited" / "data" / "broken") == str(packed / "data" / "nowhere")
    assert "3 files of yours" in said[0]
    assert keep(packed)[0] == kept and not list(out.glob("*-2"))
