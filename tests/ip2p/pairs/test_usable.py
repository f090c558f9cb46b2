"""What is checked and what is trained on are the same rows, in every layout."""

from pathlib import Path

import pytest
from pair_files import LAYOUTS, ROWS

from ip2p.cli import run
from ip2p.config import load_config
from ip2p.pairs.columns import Columns, Reading, find_columns
from ip2p.pairs.read import read_pairs
from ip2p.pairs.stored import read_stored
from ip2p.pairs.usable import usable_pairs


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
