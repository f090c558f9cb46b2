"""The order of samples: positions run through the data set in a new shuffled order each epoch, without end.

Rank and batch size only decide which process takes which positions.
"""

from collections.abc import Iterator

import torch

from ip2p.seeding import generator


class ShuffledOrder:
    """The endless shuffled order of a data set, which maps a position of the run to a row.

    Args:
        count: number of rows.
        seed: seed of the run.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self._epoch = -1
        self._rows: list[int] = []

    def row(self, position: int) -> int:
        """Return the row at a position >= 0; every row comes once in each epoch."""
        epoch, place = divmod(position, self.count)
        if epoch != self._epoch:
            shuffle = generator(self.seed, "order", str(epoch))
            self._rows = torch.randperm(self.count, generator=shuffle).tolist()
            self._epoch = epoch
        return self._rows[place]


def positions(samples: int, *, batch: int, accumulation: int, rank: int, ranks: int) -> Iterator[range]:
    """Yield the positions of each micro-batch that a rank takes in one optimizer step.

    Args:
        samples: samples that all ranks have taken in earlier steps.
        batch: samples in a micro-batch of one rank.
        accumulation: micro-batches in an optimizer step.
        rank: index of this process, from 0.
        ranks: number of processes.
    """
    for micro in range(accumulation):
        start = samples + (micro * ranks + rank) * batch
        yield range(start, start + batch)
