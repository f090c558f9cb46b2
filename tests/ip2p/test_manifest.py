"""A data set is compared with its manifest before it is read."""

import json
import shutil
from pathlib import Path

import pytest

from ip2p import shards
from ip2p.errors import DataError
from ip2p.manifest import (
    MANIFEST_FILE,
    find_edited,
    find_faults,
    read_manifest,
    verify_dataset,
    write_documents,
    write_manifest,
)
from ip2p.shards import Contents, hash_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a data set of two parquet files and a picture."""
    (tmp_path / "data").mkdir()
    files = {}
    for index in range(2):
        made = shards.write_shard(tmp_path, index, [{"id": f"{index} {k}"} for k in range(10)], config="c")
        name = f"data/train-{index}.parquet"
        shards.shard_path(tmp_path, index).rename(tmp_path / name)
        (tmp_path / f"shard-0000{index}.json").unlink()
        files[name] = Contents(rows=made.rows, size=made.size, sha256=made.sha256)
    (tmp_path / "a.png").write_bytes(b"a picture")
    files["a.png"] = Contents(rows=1, size=9, sha256=hash_file(tmp_path / "a.png"))
    write_manifest(tmp_path, files, "abc")
    return tmp_path


def test_a_whole_data_set_is_whole(folder: Path) -> None:
    manifest = verify_dataset(folder)
    assert manifest and manifest.config == "abc" and list(manifest.files) == sorted(manifest.files)
    assert sum(each.rows for each in manifest.files.values()) == 21


def test_without_a_manifest_nothing_is_compared(tmp_path: Path) -> None:
    assert verify_dataset(tmp_path) is None


@pytest.mark.parametrize("name", ["data/train-0.parquet", "a.png"])
@pytest.mark.parametrize("change", ["flipped", "cut", "missing"])
def test_what_is_not_as_written_is_named(folder: Path, name: str, change: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.unlink() if change == "missing" else path.write_bytes(data if change == "flipped" else data[:-1])
    with pytest.raises(DataError, match=name):
        verify_dataset(folder)


def test_all_faults_are_found(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"another")
    (folder / "data/train-1.parquet").unlink()
    shards.write_shard(folder / "data", 7, [{"id": "new"}], config="c")
    manifest = read_manifest(folder)
    assert manifest
    faults = [fault.what for fault in find_faults(folder, manifest)]
    assert len(faults) == 3 and "shard-00007.parquet is not in the manifest" in faults[-1]


@pytest.mark.parametrize("name", ["../secret.parquet", "/etc/passwd"])
def test_a_manifest_names_files_of_its_folder_only(folder: Path, name: str) -> None:
    file = folder / MANIFEST_FILE
    manifest = json.loads(file.read_text())
    manifest["files"][name] = manifest["files"]["a.png"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="outside of its folder"):
        verify_dataset(folder)


def test_a_damaged_manifest_is_told(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_text("{}")
    with pytest.raises(DataError, match="unreadable"):
        verify_dataset(folder)


CARD = "---\nlicense: mit\n---\n# Pairs\n"


@pytest.fixture
def packed(folder: Path) -> Path:
    """A data set with documents in the folder of a build, whose settings ask for what is there."""
    packed = folder / "build" / "packed"
    packed.mkdir(parents=True)
    documents = write_documents(packed, {"README.md": CARD, "croissant.json": '{"name": "pairs"}\n'})
    write_manifest(packed, {}, "abc", documents)
    (packed.parent / "build.json").write_text('{"seed": 0, "fingerprint": "abc"}')
    return packed


def test_a_document_may_be_edited_and_must_be_readable(packed: Path) -> None:
    manifest = verify_dataset(packed)
    assert manifest and set(manifest.documents) == {"README.md", "croissant.json"} and not find_edited(packed, manifest)
    (packed / "README.md").write_text(f"{CARD}More words.\n")
    assert verify_dataset(packed) == manifest and find_edited(packed, manifest) == ["README.md"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("README.md", None), ("README.md", b""), ("README.md", CARD[:12].encode()), ("README.md", b"---\n: [\n---\n"),
        ("README.md", b"\xff\xfe"), ("croissant.json", None), ("croissant.json", b'{"name": "pa'),
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_read_is_a_fault(packed: Path, name: str, data: bytes | None) -> None:
    (packed / name).unlink() if data is None else (packed / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name} (is|cannot) .*dataset filter out=.*build`, which packs it again"):
        verify_dataset(packed)


def test_a_data_set_of_earlier_settings_is_stale_in_the_folder_of_its_build_only(packed: Path, folder: Path) -> None:
    (packed.parent / "build.json").write_text('{"seed": 0, "fingerprint": "def"}')
    with pytest.raises(DataError, match=r"packed by an earlier filter.*ip2p dataset filter out="):
        verify_dataset(packed)
    copy = shutil.copytree(packed, folder / "build" / "exported")
    assert verify_dataset(copy) and verify_dataset(shutil.copytree(packed, folder / "elsewhere" / "packed"))
    (packed.parent / "build.json").write_text('{"seed": 0}')
    assert verify_dataset(packed), "of an earlier version"


def test_manifests_of_earlier_versions_are_read(packed: Path) -> None:
    values = json.loads((packed / MANIFEST_FILE).read_text())
    del values["documents"]
    (packed / MANIFEST_FILE).write_text(json.dumps(values))
    (packed / "README.md").unlink()
    assert verify_dataset(packed)
