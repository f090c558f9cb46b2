"""One of several runs in the same folder, which share the shards: tasks of a Slurm array, or machines."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from ip2p.errors import ConfigError, one_line

TASK, TASKS, FIRST, STEP = (f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "STEP"))


class Partition(NamedTuple):
    """A share of the shards.

    Attributes:
        number: number of this share, from 0.
        total: number of shares.
    """

    number: int
    total: int

    def __str__(self) -> str:
        return f"partition {self.number} of {self.total}"

    def shards(self, total: int) -> range:
        """Return the indices of this share among `total` shards: every so many."""
        return range(self.number, total, self.total)


def find_partition(
    index: int | None, count: int | None, environment: Mapping[str, str] = os.environ
) -> Partition | None:
    """Return the partition that was asked for, or that of the task of a Slurm array; None if this run has all shards.

    Args:
        index: number of the partition, from 0; None for that of the environment.
        count: number of partitions; None for that of the environment, 1 for none.
        environment: variables of the environment.

    Raises:
        ConfigError: one of the two is missing, or there is no such partition.
    """
    if index is None and count is None:
        task, tasks = environment.get(TASK), environment.get(TASKS)
        if not task or not tasks:
            return None
        try:
            first, step = int(environment.get(FIRST, 0)), int(environment.get(STEP, 1))
            index, count = (int(task) - first) // step, int(tasks)
        except (ValueError, ZeroDivisionError) as error:
            fix = "Unset the variables SLURM_ARRAY_TASK_*, or say --partition and --n-partitions"
            raise ConfigError(f"the environment of the Slurm array is unusable ({one_line(error)})", fix) from error
        if not 0 <= index < count:  # such as --array=1,5,7
            fix = "Give the array consecutive numbers, or say --partition and --n-partitions"
            raise ConfigError(f"task {task} of the Slurm array is none of {count} in a row", fix)
    elif count == 1:
        index = index or 0
    elif index is None or count is None:
        raise ConfigError("a partition has a number and a count", "Give both --partition and --n-partitions")
    if count < 1:
        raise ConfigError(f"there cannot be {count} partitions", "Give --n-partitions 1 or more")
    if not 0 <= index < count:
        raise ConfigError(f"there is no partition {index} of {count}", f"Give --partition 0 to {max(count - 1, 0)}")
    return Partition(index, count) if count > 1 else None
