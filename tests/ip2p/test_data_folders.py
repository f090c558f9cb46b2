"""Folders of data sets are opened under any path, and with nobody else's files."""

from pathlib import Path

import pytest
from datasets import Dataset, load_dataset

from ip2p.data_folders import dataset_arguments

CARD = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: test
    path: data/test-*.parquet
---
"""


@pytest.mark.parametrize("card", [None, CARD])
@pytest.mark.parametrize("name", ["plain", "json", "pairs [v1]", "pairs*", "pairs?", "[!a]", "{a,b}", "Häuser #1"])
def test_a_folder_of_any_name_is_opened(
    name: str, card: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, text in ((tmp_path / name, "ours"), (tmp_path / "pairs2", "theirs"), (tmp_path / "b", "theirs")):
        for split, count in (("train", 3), ("test", 1)):
            path = folder / "data" / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            Dataset.from_dict({"text": [text] * count}).to_parquet(path)
        if card:
            (folder / "README.md").write_text(card)
    monkeypatch.chdir(tmp_path)
    for source in (tmp_path / name, name):
        splits = load_dataset(**dataset_arguments(source), cache_dir=str(tmp_path / "cache"))
        assert {split: list(rows["text"]) for split, rows in splits.items()} == {
            "train": ["ours"] * 3,
            "test": ["ours"],
        }


def test_a_name_of_the_hub_stays_as_it_is() -> None:
    assert dataset_arguments("owner/name") == {"path": "owner/name", "name": None}
