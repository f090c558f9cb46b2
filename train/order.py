"""Order of the rows of a run: shuffled, mixed by weight, in batches of one aspect. No state is kept.

Each order maps a position to a row by arithmetic and seeded shuffles, so a run that resumes at any position has the
rows that it would have had.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import torch

from ip2p.seeding import derive_seed, generator

BLOCK = 1000
"""Batches over which the shares of mixed orders are kept."""


class Order(ABC):
    """An endless sequence of rows."""

    @abstractmethod
    def row(self, position: int) -> int:
        """Return the row at a position >= 0."""


class ShuffledOrder(Order):
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


class GroupedOrder(Order):
    """The endless shuffled order of groups of rows; each group comes once in an epoch, with a random row of its own.

    Args:
        groups: rows of each group, such as the kept candidates of a triple.
        seed: seed of the order.
    """

    def __init__(self, groups: Sequence[Sequence[int]], seed: int) -> None:
        self.groups = groups
        self.seed = seed
        self.shuffled = ShuffledOrder(len(groups), seed)

    def row(self, position: int) -> int:
        """Return the row at a position >= 0."""
        rows = self.groups[self.shuffled.row(position)]
        return rows[0] if len(rows) == 1 else rows[derive_seed(self.seed, "candidate", str(position)) % len(rows)]


class MixedOrder(Order):
    """Several orders mixed by weight, batch by batch. A batch has rows of one order only.

    Of every 1000 batches, each order has its share to the batch, at least one, in shuffled places.

    Args:
        orders: orders to mix.
        weights: weight of each, above 0.
        batch: positions in a batch; a batch begins at a multiple of it.
        seed: seed of the mixture.
    """

    def __init__(self, orders: Sequence[Order], weights: Sequence[float], *, batch: int, seed: int) -> None:
        self.orders = orders
        self.batch = batch
        self.seed = seed
        self.counts = share_out(weights, max(BLOCK, len(orders)))
        self.owners = [index for index, count in enumerate(self.counts) for _ in range(count)]
        self._block = -1
        self._turns: list[tuple[int, int]] = []

    def row(self, position: int) -> int:
        """Return the row at a position >= 0."""
        number, offset = divmod(position, self.batch)
        block, place = divmod(number, len(self.owners))
        if block != self._block:
            self._turns, self._block = self._shuffle(block), block
        owner, turn = self._turns[place]
        return self.orders[owner].row((block * self.counts[owner] + turn) * self.batch + offset)

    def _shuffle(self, block: int) -> list[tuple[int, int]]:
        """Return the order of each batch of a block, and how many batches of the block that order has had before."""
        shuffle = generator(self.seed, "mixture", str(block))
        had = [0] * len(self.orders)
        turns = []
        for place in torch.randperm(len(self.owners), generator=shuffle).tolist():
            owner = self.owners[place]
            turns.append((owner, had[owner]))
            had[owner] += 1
        return turns


class Part(NamedTuple):
    """A data set among those of a run.

    Attributes:
        rows: its rows among all rows of the run.
        weight: share of the samples, against those of the others; None for one that counts by its size.
    """

    rows: range
    weight: float | None = None


def arrange(
    parts: Sequence[Part], *, seed: int, batch: int, triples: Sequence[str] | None, shapes: Sequence[object] | None
) -> Order:
    """Return the order of a run.

    Args:
        parts: data sets of the run.
        seed: seed of the run.
        batch: rows in a batch of one process, which have one shape.
        triples: id of the triple of each row, to draw one row of each triple in an epoch; None to draw all rows.
        shapes: shape of the crop of each row; None if all have the same.
    """
    weighted = any(part.weight is not None for part in parts)
    if not weighted and shapes is None and triples is None:
        return ShuffledOrder(parts[-1].rows.stop, seed)
    streams: list[tuple[list[list[int]], float]] = []
    for part in parts if weighted else [Part(range(parts[-1].rows.stop))]:
        groups: dict[object, dict[object, list[int]]] = {}
        for row in part.rows:
            shape = shapes[row] if shapes else None
            groups.setdefault(shape, {}).setdefault(triples[row] if triples else row, []).append(row)
        whole = sum(map(len, groups.values()))
        share = (1.0 if part.weight is None else part.weight) / whole if weighted else 1.0
        streams += [(list(each.values()), share * len(each)) for each in groups.values()]
    orders = [GroupedOrder(rows, derive_seed(seed, "stream", str(index))) for index, (rows, _) in enumerate(streams)]
    if len(orders) == 1:
        return orders[0]
    return MixedOrder(orders, [weight for _, weight in streams], batch=batch if shapes else 1, seed=seed)


def share_out(weights: Sequence[float], count: int) -> list[int]:
    """Share out whole things by weight: the largest remainders are rounded up, and everyone has at least one.

    Args:
        weights: weight of each, above 0.
        count: number of things, at least as many as weights.
    """
    exact = [count * weight / sum(weights) for weight in weights]
    shares = [max(1, int(each)) for each in exact]
    by_remainder = sorted(range(len(weights)), key=lambda index: (shares[index] - exact[index], index))
    for turn in range(count - sum(shares)):
        shares[by_remainder[turn % len(weights)]] += 1
    while sum(shares) > count:  # those with almost no weight have one, at the cost of the largest
        shares[max(range(len(shares)), key=lambda index: shares[index])] -= 1
    return shares


def bucket_shapes(size: int, step: int) -> list[tuple[int, int]]:
    """Return the widths and heights of crops of about size x size pixels, from 1 : 2 to 2 : 1, the narrowest first.

    Args:
        size: side of the square one, in pixels.
        step: number of which all sides are multiples.
    """
    shapes = {}
    for width in range(step * -(-size // (2 * step)), 2 * size + 1, step):
        height = step * int(size * size // (width * step))
        if height and 0.5 <= width / height <= 2:
            shapes[width, height] = width / height
    return sorted(shapes, key=lambda shape: shapes[shape]) or [(size, size)]


def nearest_shape(size: tuple[int, int], shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the shape whose aspect is nearest to that of a picture, by ratio.

    Args:
        size: width and height of the picture.
        shapes: shapes, the narrowest first.
    """
    aspects = [width / height for width, height in shapes]
    aspect = size[0] / size[1]
    place = bisect_right(aspects, aspect)
    near = range(max(0, place - 1), min(len(shapes), place + 1))
    return shapes[min(near, key=lambda index: max(aspects[index] / aspect, aspect / aspects[index]))]
