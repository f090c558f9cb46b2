"""Pairs by Ray: one task for each shard, on one machine or a cluster that shares the folder."""

import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ip2p.data_gen.build_folder import BuildFolder
from ip2p.data_gen.scale.workers import RESUME
from ip2p.data_gen.stages import ShardOutcome, Stages
from ip2p.errors import ConfigError, DataError, one_line
from ip2p.progress import StageProgress


def run_on_ray(stages: Stages, shards: Sequence[int], most: int, progress: StageProgress) -> Iterator[ShardOutcome]:
    """Make the pairs of shards by tasks of Ray; yields each finished shard.

    Args:
        stages: stages of the build.
        shards: indices of the shards.
        most: largest number of tasks at a time; 0 for as many as the cluster can run at once.
        progress: progress of all candidates, by whole shards.

    Raises:
        ConfigError: Ray is not installed.
        Ip2pError: the first error of a task, after the others have finished their shards.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("the engine ray needs Ray, which is not installed", 'Run `pip install "ip2p[ray]"`') from None
    import torch

    began = not ray.is_initialized()
    if began:
        ray.init(log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": ":".join(filter(None, sys.path))}})
    threads = stages.config.pairs.threads
    needs: dict[str, Any] = {"num_gpus": 1} if torch.cuda.is_available() else {"num_cpus": threads}
    task = ray.remote(max_retries=0, runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}}, **needs)(_make_shard)
    config, origins = ray.put(stages.config.model_dump_json()), stages.build_folder.origins
    sizes: dict[Any, int] = {}
    left, failure = list(reversed(shards)), None
    slots = most or max(1, int(ray.cluster_resources().get("GPU" if "num_gpus" in needs else "CPU", 1)))
    try:
        while sizes or (left and not failure):
            while left and not failure and len(sizes) < slots:
                index = left.pop()
                sizes[task.remote(config, origins, index)] = stages.candidates[index]
            (ended, *_), _ = ray.wait(list(sizes))
            try:
                outcome = ray.get(ended)
            except ray.exceptions.RayTaskError as error:
                failure = failure or error.cause
            except ray.exceptions.RayError as error:
                what = f"a task of Ray has ended without a result ({one_line(error)})"
                failure = failure or DataError(what, RESUME)
            else:
                progress.advance(sizes[ended])
                if outcome:  # None if another run has the lease
                    yield ShardOutcome(*outcome)
            del sizes[ended]
    finally:
        if began:
            ray.shutdown()
    if failure:
        raise failure


def _make_shard(config: str, origins: dict[str, str], index: int) -> ShardOutcome | None:
    """Make the pairs of a shard, with the models that earlier tasks of this process have loaded."""
    silent = StageProgress("", "", total=0, done=0, say=lambda _: None, active=False)
    return _load(config, tuple(origins.items())).make_pairs(index, silent)


@functools.lru_cache(1)
def _load(config: str, origins: tuple[tuple[str, str], ...]) -> Stages:
    """Return the stages of a build, kept from task to task."""
    from ip2p.data_gen.config import DatasetConfig

    return Stages(BuildFolder(DatasetConfig.model_validate_json(config), dict(origins)), lambda _: None)
