"""Shards of tensors: mapped into memory, waited for, and known by weights."""

import threading
import time
from pathlib import Path

import pytest
import torch

from ip2p.train.tensor_shards import TensorShards, tell_unused


def anonymous_memory() -> int:
    """Bytes of this process that are in no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells how memory is used")
def test_reading_maps_the_file_and_copies_nothing(tmp_path: Path) -> None:
    shards, size = TensorShards(tmp_path, {}), 64_000_000
    shards.write("a", {"x": torch.ones(size // 2, dtype=torch.float16)}, rows=1)
    before = anonymous_memory()
    assert shards.read("a")["x"].float().chunk(64)[3].sum() == size / 128
    del shards
    reader = TensorShards(tmp_path, {})
    tensor = reader.read("a")["x"]
    assert sum(float(part.float().sum()) for part in tensor.split(size // 128)) == size // 2
    assert anonymous_memory() - before < size // 2


def test_shards_of_other_ranks_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ip2p.train.tensor_shards.POLL", 0.01)
    names, made = ["a", "b", "c"], []

    def fill(rank: int) -> None:
        shards = TensorShards(tmp_path, {"seed": 1})

        def make(index: int) -> None:
            time.sleep(0.05 * rank)
            made.append((rank, index))
            shards.write(names[index], {"x": torch.full((2,), float(index))}, rows=2)

        shards.fill(names, make, rank=rank, ranks=2, say=lambda _: None)
        assert [float(shards.read(name)["x"][0]) for name in names] == [0, 1, 2]

    other = threading.Thread(target=fill, args=(1,))
    other.start()
    fill(0)
    other.join()
    assert sorted(made) == [(0, 0), (0, 2), (1, 1)]


def test_a_shard_that_several_rows_name_is_made_once(tmp_path: Path) -> None:
    names, made = ["a", "b", "a", "c", "b", "a"], []
    for rank in (1, 0):
        shards = TensorShards(tmp_path / str(rank), {})

        def make(index: int, shards: TensorShards = shards) -> None:
            made.append(index)
            shards.write(names[index], {"x": torch.zeros(1)}, rows=1)

        for name in ("a", "b", "c")[1 - rank :: 2]:  # those of the other rank
            shards.write(name, {"x": torch.zeros(1)}, rows=1)
        shards.fill(names, make, rank=rank, ranks=2, say=lambda _: None)
    assert made == [1, 0, 3]


def test_shards_of_other_makers_are_not_seen(tmp_path: Path) -> None:
    TensorShards(tmp_path, {"seed": 1}).write("a", {"x": torch.zeros(1)}, rows=1)
    assert TensorShards(tmp_path, {"seed": 1}).is_whole("a")
    assert not TensorShards(tmp_path, {"seed": 2}).is_whole("a")


def test_what_a_run_does_not_use_is_told_with_its_size_and_how_to_remove_it(tmp_path: Path) -> None:
    now, earlier = TensorShards(tmp_path, {"size": 256}), TensorShards(tmp_path, {"size": 128})
    for shards, name in [(now, "a"), (now, "b"), (earlier, "a")]:
        shards.write(name, {"x": torch.zeros(250_000)}, rows=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights.safetensors").write_bytes(b"of somebody's")  # it has no manifest
    said: list[str] = []
    tell_unused(tmp_path, now.files(["a", "b"]), said.append)
    assert said == [f"this run uses none of 1.0 MB of kept latents; if no other does: rm -r {earlier.folder}"]
    tell_unused(tmp_path, now.files(["a"]) | earlier.files(["a"]), said.append)
    assert len(said) == 2 and f"does not use 1.0 MB of the kept latents in {now.folder}" in said[1]
