"""Several runs in one folder: shares of the shards, read from the environment of a Slurm array or given."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ip2p.data_gen import pipeline
from ip2p.data_gen.build_folder import STAGES, BuildFolder, hash_origins
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.scale.partition import Partition, find_partition
from ip2p.errors import BusyError, ConfigError, DataError
from ip2p.shards import hash_file

MakeConfig = Callable[..., DatasetConfig]
ROOT = Path(__file__).parents[3]
SLURM = "SLURM_ARRAY_TASK_"

pytestmark = pytest.mark.filterwarnings("ignore:text longer than")


def quiet(_: str) -> None:
    """Print nothing."""


def stage_bytes(out: Path) -> dict[str, str]:
    """Hash all shards of a build and its data set, with their manifests."""
    files = sorted(path for stage in STAGES for path in (out / stage).rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hash_file(path) for path in files}


@pytest.mark.parametrize(
    ("given", "environment", "found"),
    [
        ((None, None), {}, None),
        ((2, 3), {}, Partition(2, 3)),
        ((0, 1), {}, None),
        ((None, None), {"ID": "3", "COUNT": "8"}, Partition(3, 8)),
        ((None, None), {"ID": "3", "COUNT": "8", "MIN": "1"}, Partition(2, 8)),
        ((None, None), {"ID": "9", "COUNT": "3", "MIN": "5", "STEP": "2"}, Partition(2, 3)),
        ((None, None), {"ID": "7", "COUNT": "1", "MIN": "7"}, None),
        ((None, 1), {"ID": "3", "COUNT": "8"}, None),
        ((1, 2), {"ID": "3", "COUNT": "8"}, Partition(1, 2)),
    ],
)
def test_a_partition_is_given_or_that_of_a_slurm_task(
    given: tuple[int | None, int | None], environment: Mapping[str, str], found: Partition | None
) -> None:
    assert find_partition(*given, {SLURM + name: value for name, value in environment.items()}) == found


@pytest.mark.parametrize(
    ("given", "environment", "answer"),
    [
        ((3, 3), {}, "there is no partition 3 of 3. Give --partition 0 to 2"),
        ((1, None), {}, "Give both --partition and --n-partitions"),
        ((None, 4), {}, "Give both --partition and --n-partitions"),
        ((None, None), {"ID": "7", "COUNT": "3", "MIN": "1"}, "consecutive numbers"),
    ],
)
def test_partitions_that_are_none_are_told(
    given: tuple[int | None, int | None], environment: Mapping[str, str], answer: str
) -> None:
    with pytest.raises(ConfigError, match=answer):
        find_partition(*given, {SLURM + name: value for name, value in environment.items()})


def test_every_shard_is_in_one_share() -> None:
    shares = [Partition(number, 3).shards(8) for number in range(3)]
    assert sorted(index for share in shares for index in share) == list(range(8))


@pytest.mark.slow
def test_runs_share_a_folder_and_the_last_one_packs(make_config: MakeConfig, tmp_path: Path) -> None:
    whole, config = make_config(f"out={tmp_path / 'whole'}"), make_config(f"out={tmp_path / 'shared'}")
    pipeline.build(whole, say=quiet)
    with pytest.raises(DataError, match="no captions in .*Run `ip2p dataset triples -o"):
        pipeline.build_partition(config, Partition(0, 2), say=quiet)
    pipeline.write_triples(config, say=quiet)
    lines: list[str] = []
    assert pipeline.build_partition(config, Partition(1, 2), say=lines.append) is None
    assert lines[0] == "partition 1 of 2: 2 of 4 shards"
    assert "partition 1 of 2: pairs of 2 of 4 shards are missing yet, and the last of these runs" in lines[-1]
    assert not (tmp_path / "shared" / "packed").exists()
    last = pipeline.build_partition(config, Partition(0, 2), say=quiet)
    assert last and last.drawn < last.counts.total == 14
    assert stage_bytes(tmp_path / "shared") == stage_bytes(tmp_path / "whole")


@pytest.mark.slow
def test_the_folder_is_shared_by_partitions_and_by_nobody_else(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    pipeline.write_triples(config, say=quiet)
    folder = BuildFolder(config, hash_origins(config))
    with folder.claim(shared=True):
        for run in (pipeline.build, pipeline.write_triples):
            with pytest.raises(BusyError, match="another run is writing to"):
                run(config, say=quiet)
        lines: list[str] = []
        assert pipeline.build_partition(config, Partition(0, 2), say=quiet) is None
        assert pipeline.build_partition(config, Partition(1, 2), say=lines.append) is None
        assert "all pairs are made" in lines[-1] and not folder.stage_folder("packed").exists()
    assert pipeline.build(config, say=quiet).drawn == 0


@pytest.mark.slow
def test_tasks_of_a_slurm_array_run_at_the_same_time(
    make_config: MakeConfig, settings: list[str], tmp_path: Path
) -> None:
    whole, config = make_config(f"out={tmp_path / 'whole'}"), make_config("shard_size=2", f"out={tmp_path / 'out'}")
    pipeline.build(whole, say=quiet)
    pipeline.write_triples(config, say=quiet)
    runs = []
    for task in (1, 2):
        environment = os.environ | {f"{SLURM}ID": str(task), f"{SLURM}COUNT": "2", f"{SLURM}MIN": "1"}
        command = [sys.executable, "data_gen/pipeline.py", *settings]
        runs.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True))
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sum("data set" in each for each in said) == 1, "one of them packs"
    assert stage_bytes(tmp_path / "out") == stage_bytes(tmp_path / "whole")
