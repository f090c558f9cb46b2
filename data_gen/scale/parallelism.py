"""Processes that make the pairs: this one, workers of it, or tasks of a cluster; the bytes are the same."""

import os
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from ip2p.data_gen.scale.throughput import Throughput
from ip2p.errors import ConfigError
from ip2p.progress import StageProgress

if TYPE_CHECKING:
    from ip2p.data_gen.stages import ShardOutcome, Stages

Engine = Literal["processes", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


class Parallelism(NamedTuple):
    """Number of processes that make the pairs of a build, and their place.

    Attributes:
        workers: number of processes, each of which makes one shard at a time; 0 for one on each GPU, or core.
        engine: processes of this machine, or tasks of Ray.
    """

    workers: int = 1
    engine: Engine = "processes"


def parse_parallelism(workers: int, engine: str) -> Parallelism:
    """Check what was given on a command line.

    Raises:
        ConfigError: there is no such engine, or fewer workers than none.
    """
    found = next((each for each in ENGINES if each == engine), None)
    if found is None:
        raise ConfigError(f"the engine {engine} is unknown", f"Give one of {', '.join(ENGINES)}")
    if workers < 0:
        raise ConfigError(f"there cannot be {workers} workers", "Give 1 or more, or 0 for one on each GPU or core")
    return Parallelism(workers, found)


def make_pairs(stages: "Stages", shards: Collection[int], parallelism: Parallelism, lock: int) -> float:
    """Draw and score the unfinished pairs of some shards; returns the seconds that it took.

    Args:
        stages: stages of the build, whose triples are finished.
        shards: indices of the shards.
        parallelism: how many processes make them, and by which engine.
        lock: open file that has the lock of the folder; workers inherit it.
    """
    began = time.monotonic()
    mine = set(shards)
    left = [index for index in stages.unfinished_pairs() if index in mine]
    total = sum(stages.candidates[index] for index in mine)
    done = total - sum(stages.candidates[index] for index in left)
    with StageProgress("pairs", "candidates", total=total, done=done, say=stages.say) as progress:
        throughput = Throughput(progress, stages.config, stages.say)
        for outcome in _outcomes(stages, left, parallelism, lock, progress):
            throughput.add(outcome)
    stages.drawn, stages.unet_rows = throughput.drawn, throughput.unet_rows
    return time.monotonic() - began


def _outcomes(
    stages: "Stages", left: list[int], parallelism: Parallelism, lock: int, progress: StageProgress
) -> "Iterator[ShardOutcome]":
    """Make shards, and yield each that is finished."""
    if parallelism.engine == "ray":
        from ip2p.data_gen.scale.ray_tasks import run_on_ray

        return run_on_ray(stages, left, parallelism.workers, progress)
    slots = count_slots(stages.config.pairs.threads) if len(left) > 1 else 1
    workers = min(parallelism.workers or slots, len(left))
    if workers > 1:
        from ip2p.data_gen.scale.workers import run_workers

        return run_workers(stages, left, workers, lock, progress)
    if slots > 1:
        stages.say(f"one process makes the pairs; --workers {slots} uses all of this machine, to the same bytes")
    return filter(None, (stages.make_pairs(index, progress) for index in left))


def count_slots(threads: int) -> int:
    """Return how many workers this machine can run at once: one on each GPU, or on each `threads` cores without any."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return torch.cuda.device_count() or max(1, cores // threads)
