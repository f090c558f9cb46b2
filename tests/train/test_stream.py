"""Streams of pairs: every row once in an epoch, shards split among processes, and exact resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import load_dataset
from pair_files import ROWS, make_rows, table, web_dataset
from pydantic import ValidationError
from safetensors.torch import load_file

from ip2p.config import load_config
from ip2p.errors import ConfigError, DataError
from ip2p.pairs.columns import Reading
from ip2p.pairs.shards import Shards, open_shards, table_shards
from ip2p.train.config import DataSource, FinetuneConfig
from ip2p.train.fit import Run
from ip2p.train.pairs import stream_pairs
from ip2p.train.ranks import Ranks
from ip2p.train.stream import EVERY, PairStream, StreamOrder, held_out_pairs, place_of

NAMES = ("original_image", "edited_image", "edit_prompt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write four shards of 5 to 8 pairs, each with an instruction of its own."""
    rows = iter(enumerate(make_rows(26)))
    for shard, count in enumerate((5, 6, 7, 8)):
        part = [(*next(rows)[1][:2], f"shard {shard} row {row}") for row in range(count)]
        (tmp_path / "data").mkdir(exist_ok=True)
        table(NAMES, part).to_parquet(tmp_path / "data" / f"train-0000{shard}.parquet")
    return tmp_path / "data"


def stream(shards: Shards, **more: Any) -> PairStream:
    settings: dict[str, Any] = {
        "seed": 0, "window": 4, "ranks": Ranks(), "hold_out": False, "skip": False, "say": lambda _: None
    }  # fmt: skip
    return PairStream(shards.train, **settings | more)


def texts(pairs: PairStream, numbers: range) -> list[str]:
    return [pairs.instruction(number) for number in numbers]


def test_every_row_comes_once_in_an_epoch_in_an_order_of_the_seed(folder: Path) -> None:
    shards = open_shards(str(folder), Reading())
    pairs = stream(shards, window=13)
    first, second = texts(pairs, range(26)), texts(pairs, range(26, 52))
    assert len(set(first)) == 26 and set(first) == set(second) and first != second
    assert texts(stream(shards, window=13), range(26)) == first
    assert texts(stream(shards, window=13, seed=1), range(26)) != first


@pytest.mark.parametrize("total", [2, 6])
def test_processes_share_the_rows_also_where_shards_are_few(folder: Path, total: int) -> None:
    shards = open_shards(str(folder), Reading())
    seen = [
        set(texts(stream(shards, ranks=Ranks(rank, total), window=2), range(26 if total == 2 else 4)))
        for rank in range(total)
    ]
    if total == 2:  # each has shards of its own within an epoch; the first 10 rows are within the first
        firsts = [set(texts(stream(shards, ranks=Ranks(rank, 2), window=10), range(10))) for rank in range(2)]
        assert not firsts[0] & firsts[1]
    else:
        assert all(not one & other for place, one in enumerate(seen) for other in seen[:place])


def test_a_stream_goes_on_where_it_was(folder: Path) -> None:
    shards = open_shards(str(folder), Reading())
    whole = texts(stream(shards), range(60))
    pairs = stream(shards)
    texts(pairs, range(37))
    begin = pairs.state(37)
    assert texts(stream(shards, begin=begin), range(37, 60)) == whole[37:]
    assert pairs.state(40) == stream(shards, begin=begin).state(40)


def test_positions_of_a_process_are_counted_without_a_gap() -> None:
    order = StreamOrder(batch=2, ranks=3)
    taken = [[position for position in range(36) if position // 2 % 3 == rank] for rank in range(3)]
    assert all([order.row(position) for position in each] == list(range(12)) for each in taken)


def test_what_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    rows = [(*row[:2], f"row {number}") for number, row in enumerate(make_rows(3 * EVERY))]
    table(NAMES, rows).to_parquet(tmp_path / "train.parquet")
    shards = open_shards(str(tmp_path), Reading())
    held_out = list(held_out_pairs(shards, 2)["edit_prompt"])
    assert held_out == ["row 0", f"row {EVERY}"]
    assert not set(held_out) & set(texts(stream(shards, hold_out=True), range(100)))
    table(NAMES, rows[:5]).to_parquet(tmp_path / "test.parquet")
    assert list(held_out_pairs(open_shards(str(tmp_path), Reading()), 64)["edit_prompt"]) == [t for *_, t in rows[:5]]


def test_bad_rows_are_told_or_left_out(tmp_path: Path) -> None:
    rows = [*ROWS[:7], (ROWS[0][0], ROWS[0][1][:40], "torn"), (*ROWS[0][:2], " ")]
    table(NAMES, rows).to_parquet(tmp_path / "train.parquet")
    shards = open_shards(str(tmp_path), Reading())
    with pytest.raises(DataError, match=r"edited picture is .*train.parquet, row 7.*no instruction .*row 8"):
        texts(stream(shards, window=9), range(9))
    said: list[str] = []
    assert "torn" not in texts(stream(shards, skip=True, say=said.append), range(60)) and "row 7" in said[0]
    assert sum(line.count("row 7") for line in said) == 1  # and not in each epoch


def test_other_files_of_the_same_names_are_another_data_set(tmp_path: Path) -> None:
    prints = set()
    for rows in (make_rows(40), make_rows(41), make_rows(40)):
        table(NAMES, rows).to_parquet(tmp_path / "train.parquet")
        prints.add(stream_pairs(DataSource(path=str(tmp_path))).fingerprint())
    assert len(prints) == 2


def test_tar_files_and_sets_that_datasets_streams_are_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "tar").mkdir()
    web_dataset(tmp_path / "tar")
    tar = open_shards(str(tmp_path / "tar"), Reading())
    files = {"train": [str(each) for each in sorted((tmp_path / "tar").glob("*.tar"))]}
    streamed = load_dataset("webdataset", data_files=files, streaming=True, split="train")
    by_datasets = Shards(table_shards(streamed, "train", Reading()), [])
    one, other = stream(tar), stream(by_datasets)
    assert texts(one, range(8)) == texts(other, range(8))
    assert len(set(texts(other, range(20)))) == len({text for *_, text in ROWS})


def test_what_needs_all_rows_is_refused(folder: Path) -> None:
    for more, words in [({"buckets": True}, "buckets"), ({"shuffle_buffer": 3, "batch": 2}, "two batches")]:
        with pytest.raises(ValidationError, match=words):
            FinetuneConfig.model_validate({"streaming": True} | more)
    with pytest.raises(ConfigError, match="to 2 processes, and has 1 now. Start 2 processes"):
        place_of([[0, 0, 0, 0]] * 2, Ranks())


@pytest.fixture
def train(tiny_base: Path, folder: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Trains by streaming up to `steps` in tmp_path/out, and returns what was said."""
    chosen = {
        "base": tiny_base, "dataset": folder, "streaming": "true", "shuffle_buffer": 5, "batch": 2, "accumulation": 1,
        "minutes": "null", "size": 32, "precision": "fp32", "threads": 1, "cache_latents": "true", "attention": "sdpa",
        "train_text_encoder": "false", "optimizer": "adamw", "schedule": "constant", "keep_checkpoints": 9,
        "cache_folder": tmp_path / "latents",
    }  # fmt: skip

    def run(out: Path, steps: int) -> list[str]:
        said: list[str] = []
        AcceleratorState._reset_state(reset_partial_state=True)
        overrides = [f"{key}={value}" for key, value in chosen.items()]
        session = Run(load_config(FinetuneConfig, None, [*overrides, f"steps={steps}", f"out={out}"]), said.append)
        while session.done < 1:
            session.advance(session.step(), 0)
        session.save()
        session.validate_if_due()
        assert session.finish().editor
        assert "from a stream of pairs" in (out / "report.html").read_text()
        return said

    return run


def test_a_streamed_run_that_is_stopped_equals_one_that_is_not(train: Callable[..., list[str]], tmp_path: Path) -> None:
    assert any("not cached" in line for line in train(tmp_path / "whole", 9))
    train(tmp_path / "parted", 4)
    train(tmp_path / "parted", 9)
    one, other = (
        load_file(tmp_path / name / "checkpoints" / "step-00000009" / "unet.safetensors")
        for name in ("whole", "parted")
    )
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
