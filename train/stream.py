"""Pairs that fit neither memory nor disk: read from shards, window by window, shuffled within a window, and let go.

Each process has shards of its own, in an order that is shuffled anew in each epoch; with fewer shards than processes,
each takes every n-th row of all. The n-th pair of a process follows from (seed, process, n) alone. A checkpoint has the
place in the shards where each process's window begins, so that a run goes on exactly after reading one window.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple

import torch
from datasets import Dataset, Features

from ip2p.errors import ConfigError, DataError
from ip2p.pairs.check import check_pairs
from ip2p.pairs.rows import StoredPair
from ip2p.pairs.shards import Shard, Shards
from ip2p.pairs.usable import FEATURES, BadRow, group_faults
from ip2p.seeding import generator
from ip2p.train.order import Order
from ip2p.train.ranks import Ranks

EVERY = 20
"""Interval at which rows of the first shard, from its first, are held out where there is no test split."""
KEPT = 2
"""Windows that stay in memory before the one that was asked for last."""
Say = Callable[[str], None]


class Place(NamedTuple):
    """The next row of a process: epoch, how many of its shards it has read in it, and rows read of the next shard."""

    epoch: int = 0
    shard: int = 0
    row: int = 0


class Window(NamedTuple):
    """Shuffled pairs, and where they begin and end in the shards."""

    pairs: list[StoredPair]
    begin: Place
    end: Place


class StreamOrder(Order):
    """The order of a stream: a process counts the positions that it takes.

    Args:
        batch: positions in a micro-batch of a process.
        ranks: number of processes, which take micro-batches in turn.
    """

    def __init__(self, *, batch: int, ranks: int) -> None:
        self.batch, self.ranks = batch, ranks

    def row(self, position: int) -> int:
        """Return how many pairs the process that takes a position has had before."""
        micro, offset = divmod(position, self.batch)
        return micro // self.ranks * self.batch + offset


class PairStream:
    """The endless pairs of a process, which are asked for about in order.

    Args:
        shards: shards of the training split.
        seed: seed of the run.
        window: pairs that are shuffled among each other.
        ranks: this process among all.
        hold_out: whether rows of the first shard are held out, see `held_out_pairs`.
        skip: whether pairs that cannot be used are left out; else they are an error.
        say: function that prints a line.
        begin: index of the first window, and place where it begins, as `state` returns them.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        seed: int,
        window: int,
        ranks: Ranks,
        hold_out: bool,
        skip: bool,
        say: Say,
        begin: Sequence[int] = (0, 0, 0, 0),
    ) -> None:
        self.shards, self.seed, self.size, self.ranks = shards, seed, window, ranks
        self.hold_out, self.skip, self.say = hold_out, skip, say
        self.texts: dict[str, None] = {}
        self._next, self._place = begin[0], Place(*begin[1:])
        self._first_epoch = self._place.epoch
        self._rows = self._read_rows(self._place)
        self._windows: dict[int, Future[Window]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._lock = Lock()

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return the pair of a number, in the columns of a data set."""
        pair = self._pair(number)
        return {"original_image": pair.source, "edit_prompt": pair.instruction, "edited_image": pair.edited}

    def __contains__(self, number: object) -> bool:
        """Return whether the pair of a number has no picture to edit."""
        return isinstance(number, int) and self._pair(number).source is None

    def instruction(self, number: int) -> str:
        """Return the instruction of the pair of a number."""
        return self._pair(number).instruction

    def state(self, number: int) -> list[int]:
        """Return the index of the window of a number, and the place where it begins."""
        index = number // self.size
        before = self._windows.get(index - 1)
        place = before.result().end if before and index not in self._windows else self._window(index).begin
        return [index, *place]

    def table(self) -> Dataset:
        """Return the instructions that have been read, each once, as a data set."""
        return Dataset.from_dict({"edit_prompt": list(self.texts)})

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _pair(self, number: int) -> StoredPair:
        return self._window(number // self.size).pairs[number % self.size]

    def _window(self, index: int) -> Window:
        """Return a window; the one after it is read while the model computes."""
        with self._lock:
            for each in range(self._next, index + 2):
                self._windows[each] = self._reader.submit(self._read, each)
            self._next = max(self._next, index + 2)
            for old in [each for each in self._windows if each < index - KEPT]:
                del self._windows[old]
            window = self._windows[index]
        return window.result()

    def _read(self, index: int) -> Window:
        """Read the next window; only one thread does, in order.

        Raises:
            DataError: a pair cannot be used and is not to be left out, or none can.
        """
        begin, good, epoch = self._place, list[StoredPair](), self._place.epoch
        while len(good) < self.size:
            taken = list(islice(self._rows, min(64, self.size - len(good))))
            pairs = [pair for pair, _ in taken]
            checked = check_pairs(pairs, masks=False, say=self.say, name="the stream")
            self._tell([BadRow(each.pair.place, each.fault) for each in checked if each.fault], self._place.epoch)
            good += [pair for pair, each in zip(pairs, checked, strict=True) if not each.fault]
            self._place = taken[-1][1]
            if not good and self._place.epoch > epoch + 1:
                raise DataError("no row of the data set can be used", "Look at them by `ip2p dataset check`")
        shuffle = generator(self.seed, "window", f"{self.ranks.rank} {index}")
        pairs = [good[place] for place in torch.randperm(len(good), generator=shuffle).tolist()]
        self.texts.update(dict.fromkeys(pair.instruction for pair in pairs))
        return Window(pairs, begin, self._place)

    def _tell(self, bad: Sequence[BadRow], epoch: int) -> None:
        """Tell which rows are left out, in the first epoch of this session only."""
        if not bad:
            return
        told = "; ".join(group_faults(bad))
        if not self.skip:
            raise DataError(
                f"rows of the data set cannot be used: {told}", "Mend or remove them, or give bad_rows=skip"
            )
        if epoch == self._first_epoch:
            self.say(f"left out: {told}")

    def _read_rows(self, begin: Place) -> Iterator[tuple[StoredPair, Place]]:
        """Yield the pairs of this process from a place on, without end, each with the place of what follows it.

        Raises:
            DataError: there is none.
        """
        epoch, turn, row = begin
        while True:
            seen = False
            for place, shard in islice(enumerate(self._order(epoch)), turn, None):
                for number, pair in islice(enumerate(self.shards[shard].read()), row, None):
                    if self._takes(shard, number, pair):
                        seen = True
                        yield pair, Place(epoch, place, number + 1)
                row = 0
            if not seen and not (begin.shard or begin.row):
                raise DataError("the data set has no rows for this process", "Give more data, or fewer processes")
            epoch, turn, row, begin = epoch + 1, 0, 0, Place()

    def _order(self, epoch: int) -> list[int]:
        """Return the shards of this process in the order of an epoch."""
        shuffle = generator(self.seed, "shards", str(epoch))
        order: list[int] = torch.randperm(len(self.shards), generator=shuffle).tolist()
        return order[self.ranks.rank :: self.ranks.total] if len(order) >= self.ranks.total else order

    def _takes(self, shard: int, number: int, pair: StoredPair) -> bool:
        """Return whether a row is trained on, and by this process."""
        held_out = self.hold_out and shard == 0 and number % EVERY == 0
        mine = len(self.shards) >= self.ranks.total or number % self.ranks.total == self.ranks.rank
        return mine and not held_out and pair.split == "train"


def held_out_pairs(shards: Shards, most: int) -> Dataset:
    """Read the first pairs of the test split, or else every 20th row of the first shard.

    Args:
        shards: shards of a source.
        most: largest number of pairs.
    """
    rows: Iterator[StoredPair]
    if shards.test:
        rows = (pair for shard in shards.test for pair in shard.read())
    else:
        rows = islice(shards.train[0].read(), 0, None, EVERY)
    found: list[dict[str, Any]] = []
    while len(found) < most and (pairs := list(islice(rows, most - len(found)))):
        checked = check_pairs(pairs, masks=False, say=lambda _: None, name="what is held out")
        found += [
            {"original_image": pair.source, "edit_prompt": pair.instruction, "edited_image": pair.edited}
            for pair, each in zip(pairs, checked, strict=True)
            if not each.fault and pair.source is not None
        ]
    columns = {name: [row[name] for row in found] for name in FEATURES}
    return Dataset.from_dict(columns, features=Features(FEATURES))


def place_of(places: Sequence[Sequence[int]], ranks: Ranks) -> Sequence[int]:
    """Return where this process goes on, as the checkpoint has it; the beginning without one.

    Raises:
        ConfigError: the run had another number of processes, each of which read shards of its own.
    """
    if not places:
        return (0, 0, 0, 0)
    if len(places) != ranks.total:
        raise ConfigError(
            f"the run streamed its pairs to {len(places)} processes, and has {ranks.total} now",
            f"Start {len(places)} processes to go on, or give another out= to start anew",
        )
    return places[ranks.rank]
