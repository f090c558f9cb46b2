"""What is checked and what is trained on are the same rows, in every layout."""

from pathlib import Path

import pytest
from pair_files import LAYOUTS, ROWS

from ip2p.cli import run
from ip2p.config import load_config
from ip2p.errors import DataError
from ip2p.manifest import write_manifest
from ip2p.pairs.columns import Columns, Reading, find_columns
from ip2p.pairs.read import read_pairs
from ip2p.pairs.stored import read_stored
from ip2p.pairs.usable import usable_pairs
from ip2p.shards import Contents, hash_file


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_checking_and_training_read_the_same(layout: str, tmp_path: Path) -> None:
    write, settings = LAYOUTS[layout]
    (tmp_path / "data").mkdir()
    path, reading = write(tmp_path / "data"), load_config(Reading, None, settings)
    rows = list(read_pairs(path, reading))
    assert not [row.fault for row in rows if row.fault]
    assert sorted((row.source or b"", row.edited or b"", row.instruction) for row in rows) == sorted(ROWS)
    for split, part in usable_pairs(path, reading).items():
        trained = [
            (read_stored(row["original_image"], "it"), read_stored(row["edited_image"], "it"), row["edit_prompt"])
            for row in part.table
        ]
        assert trained == [(row.source, row.edited, row.instruction) for row in rows if row.split == split]
        assert part.sizes == [(32, 32)] * len(trained) and not any(part.without) and not part.bad


def test_columns_may_be_named_for_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    path, settings = LAYOUTS["named columns"][0](tmp_path / "data"), LAYOUTS["named columns"][1]
    run(["dataset", "check", str(path)])
    assert "20 with a fault" in (said := capsys.readouterr().out) and "but a, b, c" in said
    run(["dataset", "check", str(path), *settings])
    assert "unreadable" not in capsys.readouterr().out


def test_a_picture_of_a_text_has_no_picture_to_edit() -> None:
    assert find_columns(["image", "text"], Columns()) == {"edited": "image", "instruction": "text"}
    assert find_columns(["image", "edited_image"], Columns())["source"] == "image"
    assert "source" not in find_columns(["original_image", "edited_image"], Columns(original="none"))


def test_a_data_set_that_has_become_stale_is_refused_though_its_check_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ip2p.pairs.memory.LARGE", 1)
    packed = tmp_path / "build" / "packed"
    packed.mkdir(parents=True)
    write, settings = LAYOUTS["instructpix2pix"]
    write(packed)
    (file,) = packed.glob("*.parquet")
    whole = Contents(rows=len(ROWS), size=file.stat().st_size, sha256=hash_file(file))
    write_manifest(packed, {file.name: whole}, "now")
    build = packed.parent / "build.json"
    build.write_text('{"seed": 0, "fingerprint": "now"}')
    reading = load_config(Reading, None, settings)
    first = usable_pairs(packed, reading)
    assert list((tmp_path / "cache" / "ip2p-checked").iterdir()), "it is remembered"
    monkeypatch.setattr("ip2p.pairs.check._check", None)
    assert usable_pairs(packed, reading).keys() == first.keys()
    build.write_text('{"seed": 0, "fingerprint": "later"}')
    with pytest.raises(DataError, match="packed by an earlier filter"):
        usable_pairs(packed, reading)
