"""Who makes the pairs: this process, workers of it, or a cluster; the bytes are the same."""

import os
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from ip2p.data_gen.scale.pace import Pace
from ip2p.errors import ConfigError
from ip2p.progress import StageProgress

if TYPE_CHECKING:
    from ip2p.data_gen.stages import ShardOutcome, Stages

Engine = Literal["processes", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


class Crew(NamedTuple):
    """Who makes the pairs of a build.

    Attributes:
        workers: number of processes, each of which makes one shard at a time; 0 for as many as there is room for.
        engine: processes of this machine, or tasks of Ray.
    """

    workers: int = 1
    engine: Engine = "processes"


def parse_crew(workers: int, engine: str) -> Crew:
    """Make a crew of what was given on a command line.

    Raises:
        ConfigError: there is no such engine, or fewer workers than none.
    """
    found = next((each for each in ENGINES if each == engine), None)
    if found is None:
        raise ConfigError(f"the engine {engine} is unknown", f"Give one of {', '.join(ENGINES)}")
    if workers < 0:
        raise ConfigError(f"there cannot be {workers} workers", "Give 1 or more, or 0 for as many as there is room for")
    return Crew(workers, found)


def make_pairs(stages: "Stages", shards: Collection[int], crew: Crew, lock: int) -> float:
    """Draw and score the unfinished pairs of some shards; returns the seconds that it took.

    Args:
        stages: stages of the build, whose triples are finished.
        shards: indices of the shards.
        crew: who makes them.
        lock: open file that has the lock of the folder; workers inherit it.
    """
    began = time.monotonic()
    mine = set(shards)
    left = [index for index in stages.unfinished_pairs() if index in mine]
    total = sum(stages.candidates[index] for index in mine)
    done = total - sum(stages.candidates[index] for index in left)
    with StageProgress("pairs", "candidates", total=total, done=done, say=stages.say) as progress:
        pace = Pace(progress, stages.config, stages.say)
        for outcome in _outcomes(stages, left, crew, lock, progress):
            pace.add(outcome)
    stages.drawn, stages.unet_rows = pace.drawn, pace.unet_rows
    return time.monotonic() - began


def _outcomes(
    stages: "Stages", left: list[int], crew: Crew, lock: int, progress: StageProgress
) -> "Iterator[ShardOutcome]":
    """Make shards, and yield each that is finished."""
    if crew.engine == "ray":
        from ip2p.data_gen.scale.ray_tasks import run_on_ray

        return run_on_ray(stages, left, crew.workers, progress)
    room = room_for_workers(stages.config.pairs.threads) if len(left) > 1 else 1
    workers = min(crew.workers or room, len(left))
    if workers > 1:
        from ip2p.data_gen.scale.workers import run_workers

        return run_workers(stages, left, workers, lock, progress)
    if room > 1:
        stages.say(f"one process makes the pairs; --workers {room} uses all of this machine, to the same bytes")
    return filter(None, (stages.make_pairs(index, progress) for index in left))


def room_for_workers(threads: int) -> int:
    """Return for how many workers this machine has room: one on each GPU, or on each `threads` cores without any."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return torch.cuda.device_count() or max(1, cores // threads)
