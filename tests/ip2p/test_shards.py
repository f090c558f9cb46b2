"""Files are whole or absent, even when the process is killed while it writes them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Features, Image, Value, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures

from ip2p import shards
from ip2p.data_gen.config import DatasetConfig
from ip2p.errors import DataError

ROWS: list[dict[str, Any]] = [{"id": f"{k}", "score": k / 7} for k in range(200)]

KILLED_WRITER = """
import os, pathlib, signal, sys
from ip2p import shards
folder, fatal = pathlib.Path(sys.argv[1]), int(sys.argv[2])
calls, fsync = 0, os.fsync
def killing_fsync(descriptor):
    global calls
    calls += 1
    if calls == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = killing_fsync
rows = [{"id": f"{k}", "score": k / 7} for k in range(200)]
shards.write_shard(folder, 0, rows, config="c")
with shards.atomic_dir(folder / "model") as work:
    (work / "weights").write_bytes(b"new")
"""


def visible(folder: Path) -> dict[str, bytes]:
    """Files by relative name, those under temporary names left out."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part.startswith(".ip2p-") for part in file.relative_to(folder).parts)
    }


def test_a_killed_writer_leaves_only_whole_files_and_redoing_gives_the_same_bytes(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(whole), "0"], check=True)
    expected = visible(whole)
    assert set(expected) == {"shard-00000.parquet", "shard-00000.json", "model/weights"}
    folder = tmp_path / "killed"
    fatal, killed = 0, True
    while killed:
        fatal += 1
        process = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(folder), str(fatal)], check=False)
        killed = process.returncode == -signal.SIGKILL
        assert expected.items() >= visible(folder).items()
        assert shards.is_shard_done(folder, 0, "c") == ((folder / "shard-00000.json").exists())
        shards.sweep_temporaries(folder)
        assert not [entry for entry in folder.iterdir() if entry.name.startswith(".")]
    assert fatal > 6
    assert visible(folder) == expected


def test_a_folder_behind_a_link_is_replaced_where_it_lies(tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "real", tmp_path / "link"
    real.mkdir(parents=True)
    (real / "old").write_text("old")
    link.symlink_to(real)
    with shards.atomic_dir(link) as folder:
        (folder / "new").write_text("new")
    assert link.is_symlink() and [path.name for path in real.iterdir()] == ["new"]
    assert not [path for path in tmp_path.rglob(".*")]


def test_a_failed_block_leaves_no_folder_and_keeps_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with shards.atomic_dir(target) as work:
        (work / "weights").write_text("old")
    with pytest.raises(RuntimeError), shards.atomic_dir(target) as work:
        (work / "weights").write_text("half")
        raise RuntimeError
    assert (target / "weights").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


REPLACED = """
import os, pathlib, signal, sys
from ip2p import shards
target = pathlib.Path(sys.argv[1]) / "model"
with shards.atomic_dir(target) as work:
    (work / "weights").write_text("old")
rename = pathlib.Path.rename
def dies(self, other):
    if pathlib.Path(other) == target:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, other)
pathlib.Path.rename = dies
with shards.atomic_dir(target) as work:
    (work / "weights").write_text("new")
"""


@pytest.mark.parametrize("again", ["swept", "written again"])
def test_a_replacement_that_was_cut_short_is_undone(tmp_path: Path, again: str) -> None:
    ran = subprocess.run([sys.executable, "-c", REPLACED, str(tmp_path)], check=False)
    assert ran.returncode == -signal.SIGKILL and not (tmp_path / "model").exists()
    if again == "swept":
        shards.sweep_temporaries(tmp_path)
        assert (tmp_path / "model" / "weights").read_text() == "old"
    else:
        with shards.atomic_dir(tmp_path / "model") as work:
            assert (tmp_path / "model" / "weights").read_text() == "old"
            (work / "weights").write_text("newest")
        assert (tmp_path / "model" / "weights").read_text() == "newest"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_sweeping_leaves_alone_what_is_not_ours(tmp_path: Path) -> None:
    """Names like ours, also with a made-up mark, links, and folders of other names."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    ours = shards._temporary(folder / "a").name.replace(str(os.getpid()), "999999999")
    for name in (".tmp-1-a", ".old-a", ".tmp-", ours, f".ip2p-old-1-{'0' * 16}-a", ".ip2p-tmp-1--a"):
        (folder / name).mkdir(parents=True)
        (folder / name / "letter.txt").write_text("dear")
    elsewhere.mkdir()
    (elsewhere / "letter.txt").write_text("dear")
    mark = shards._mark("tmp", "999999999", "b")
    (folder / f".ip2p-tmp-999999999-{mark}-b").symlink_to(elsewhere)
    before = sorted(str(each) for each in tmp_path.rglob("*"))
    shards.sweep_temporaries(folder)
    (tmp_path / "link").symlink_to(folder)
    shards.sweep_temporaries(tmp_path / "link")
    (tmp_path / "link").unlink()
    assert sorted(str(each) for each in tmp_path.rglob("*")) == before


def test_sweeping_spares_what_a_living_process_writes(tmp_path: Path) -> None:
    with shards.atomic_dir(tmp_path / "model") as work:
        shards.sweep_temporaries(tmp_path)
        (work / "weights").touch()
    assert (tmp_path / "model" / "weights").exists()


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    shards.atomic_write(tmp_path / ("x" * 251 + ".png"), b"data")
    assert [len(entry.name) for entry in tmp_path.iterdir()] == [255]


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=20)
def test_atomic_write_replaces(tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes) -> None:
    path = tmp_path_factory.mktemp("write") / "deeper" / "file"
    shards.atomic_write(path, first)
    shards.atomic_write(path, second)
    assert path.read_bytes() == second
    assert list(path.parent.iterdir()) == [path]


def test_rows_come_back_in_order_from_several_shards(tmp_path: Path) -> None:
    for index in range(3):
        shards.write_shard(tmp_path, index, ROWS[index * 50 : index * 50 + 50], config="c")
    assert list(shards.read_shards(tmp_path)) == ROWS[:150]
    assert shards.verify_shard(tmp_path, 1).rows == 50


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    first = shards.write_shard(tmp_path / "a", 0, ROWS, config="c")
    assert first == shards.write_shard(tmp_path / "b", 0, ROWS, config="c")


def test_a_shard_is_done_for_its_own_config_only(tmp_path: Path) -> None:
    assert not shards.is_shard_done(tmp_path, 0, "c")
    shards.write_shard(tmp_path, 0, ROWS, config="c")
    assert shards.is_shard_done(tmp_path, 0, "c")
    assert not shards.is_shard_done(tmp_path, 0, "other")


def test_a_shard_without_a_manifest_is_not_read(tmp_path: Path) -> None:
    shards.write_shard(tmp_path, 0, ROWS, config="c")
    shards.write_shard(tmp_path, 1, ROWS, config="c")
    (tmp_path / "shard-00001.json").unlink()
    assert len(list(shards.read_shards(tmp_path))) == len(ROWS)
    assert not shards.is_shard_done(tmp_path, 1, "c")


@pytest.mark.parametrize("sixteenths", range(16))
def test_a_torn_shard_is_detected(tmp_path: Path, sixteenths: int) -> None:
    shards.write_shard(tmp_path, 0, ROWS, config="c")
    path = shards.shard_path(tmp_path, 0)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * sixteenths // 16])
    assert not shards.is_shard_done(tmp_path, 0, "c")
    with pytest.raises(DataError, match="shard-00000.parquet"):
        list(shards.read_shards(tmp_path))


def test_no_flipped_bit_drops_or_changes_a_row_in_silence(tmp_path: Path) -> None:
    """Every bit of a shard, of which pyarrow alone passes some hundred with fewer or other rows."""
    shards.write_shard(tmp_path, 0, ROWS[:20], config="c")
    path = shards.shard_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    for bit in range(0, 8 * len(content), 11):
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        for read in (lambda: list(shards.read_shard(tmp_path, 0)), lambda: shards.verify_shard(tmp_path, 0)):
            with pytest.raises(DataError, match="shard-00000.parquet"):
                read()
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    assert list(shards.read_shard(tmp_path, 0)) == ROWS[:20]


def test_no_flipped_bit_of_a_manifest_drops_or_changes_a_row_in_silence(tmp_path: Path) -> None:
    """A shard is read as it was written, or not at all, or is made again since it has another fingerprint."""
    shards.write_shard(tmp_path, 0, ROWS[:20], config="c")
    file = tmp_path / "shard-00000.json"
    content = bytearray(file.read_bytes())
    for bit in range(8 * len(content)):
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        try:
            assert list(shards.read_shards(tmp_path)) == ROWS[:20]
        except DataError:
            assert not shards.is_shard_done(tmp_path, 0, "c") or "rows" in file.read_text()
        content[bit // 8] ^= 1 << bit % 8


def test_a_shard_whose_manifest_tells_other_rows_is_not_read(tmp_path: Path) -> None:
    shards.write_shard(tmp_path, 0, ROWS, config="c")
    file = tmp_path / "shard-00000.json"
    file.write_text(file.read_text().replace('"rows": 200', '"rows": 100'))
    with pytest.raises(DataError, match="has 200 rows, and its manifest says 100"):
        list(shards.read_shards(tmp_path))


def test_a_gap_between_shards_is_told(tmp_path: Path) -> None:
    for index in range(3):
        shards.write_shard(tmp_path, index, ROWS, config="c")
    (tmp_path / "shard-00001.json").unlink()
    with pytest.raises(DataError, match="shard-00001.parquet is not finished, but later ones are"):
        list(shards.read_shards(tmp_path))


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"rows": "many"}'])
def test_a_bad_manifest_is_told(tmp_path: Path, manifest: str) -> None:
    shards.write_shard(tmp_path, 0, ROWS, config="c")
    (tmp_path / "shard-00000.json").write_text(manifest)
    assert not shards.is_shard_done(tmp_path, 0, "c")
    with pytest.raises(DataError, match="manifest"):
        list(shards.read_shards(tmp_path))


def test_no_shard_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished shard"):
        list(shards.read_shards(tmp_path))


def test_rows_that_do_not_fit_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not fit"):
        shards.write_shard(tmp_path, 0, [{"id": "a"}], schema=pa.schema([("id", pa.int64())]), config="c")
    assert not list(tmp_path.iterdir())


def test_pictures_are_readable_by_datasets(tmp_path: Path) -> None:
    picture = Pictures.linear_gradient("L").resize((8, 8)).convert("RGB")
    features = Features({"name": Value("string"), "picture": Image()})
    shards.write_shard(tmp_path, 0, [{"name": "a", "picture": picture}], schema=features, config="c")
    files = str(tmp_path / "*.parquet")
    loaded = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features == features
    assert loaded[0]["picture"].convert("RGB").tobytes() == picture.tobytes()


def test_fingerprints_tell_settings_apart_and_not_their_order() -> None:
    assert shards.fingerprint({"a": 1, "b": 2}) == shards.fingerprint({"b": 2, "a": 1})
    assert shards.fingerprint(DatasetConfig()) == shards.fingerprint(DatasetConfig())
    assert shards.fingerprint(DatasetConfig()) != shards.fingerprint(DatasetConfig(seed=1))


def test_files_of_a_folder_are_readable_as_others_are(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with shards.atomic_dir(tmp_path / "made") as folder:
        (folder / "weights").touch(0o600)
    assert (tmp_path / "made" / "weights").stat().st_mode == (tmp_path / "other").stat().st_mode
