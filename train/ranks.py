"""The processes of a run, and what they tell each other."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

Item = TypeVar("Item")


class Ranks(NamedTuple):
    """This process among all processes of a run.

    Attributes:
        rank: index of this process, from 0.
        total: number of processes.
    """

    rank: int = 0
    total: int = 1

    @classmethod
    def of(cls, place: PartialState) -> "Ranks":
        """Return the processes that accelerate knows."""
        return cls(place.process_index, place.num_processes)

    def agree(self, value: Item) -> Item:
        """Return the value of the first process, on all of them."""
        if self.total == 1:
            return value
        agreed: Item = broadcast_object_list([value])[0]
        return agreed

    def interleave(self, own: Sequence[Item]) -> list[Item]:
        """Return the items of all processes; item k of process r of n becomes item k n + r."""
        if self.total == 1:
            return list(own)
        shares: list[list[Item]] = gather_object([list(own)])
        return [share[row] for row in range(len(shares[0])) for share in shares if row < len(share)]
