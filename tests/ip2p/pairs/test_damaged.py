"""Parquet files that cannot be read are told, or left out with their rows."""

from pathlib import Path

import pytest
from pair_files import make_rows, table

from ip2p.errors import DataError
from ip2p.manifest import write_manifest
from ip2p.shards import Contents, hash_file
from ip2p.train.pairs import open_pairs


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_shard_is_told_or_left_out_with_its_rows(tmp_path: Path, packed: bool) -> None:
    names = [f"train-0000{number}.parquet" for number in range(3)]
    for number, name in enumerate(names):
        table(("original_image", "edited_image", "edit_prompt"), make_rows(4 + number)).to_parquet(tmp_path / name)
    if packed:
        write_manifest(
            tmp_path,
            {name: Contents(rows=4 + number, size=(tmp_path / name).stat().st_size, sha256=hash_file(tmp_path / name))
             for number, name in enumerate(names)},
            "now",
        )  # fmt: skip
    damaged = tmp_path / names[1]
    data = bytearray(damaged.read_bytes())
    data[4:400] = b"\xff" * 396  # the first page; the end of the file still tells its rows
    damaged.write_bytes(data)
    with pytest.raises(DataError, match=r"train-00001.parquet.*leave their rows out with bad_rows=skip"):
        open_pairs(tmp_path)
    said: list[str] = []
    left = open_pairs(tmp_path, bad_rows="skip", say=said.append)
    assert len(left.train) + len(left.held_out) == 10
    assert "5 of 15 rows" in said[0] and "train-00001.parquet, row 0" in said[1] and "and 2 more" in said[1]
