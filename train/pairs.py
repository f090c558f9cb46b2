"""The pairs of a run: its data sets opened and checked, and what is held out of training."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

from datasets import Dataset

from ip2p.errors import DataError
from ip2p.pairs.columns import Columns, Reading
from ip2p.pairs.shards import Shards, open_shards
from ip2p.pairs.usable import UsablePairs, group_faults, join_tables, require_usable, tell_bad, usable_pairs
from ip2p.train.config import DataSource
from ip2p.train.order import Part
from ip2p.train.stream import held_out_pairs

MAX_HELD_OUT = 64
BUILD_HINT = "Give another data set with dataset=, or build one with `make dataset`"


class PairDataset(NamedTuple):
    """The pairs of a run, split into training pairs and held-out pairs.

    Attributes:
        train, held_out: data sets of original_image, edit_prompt and edited_image.
        parts: rows of each source among the training pairs, and its weight.
        sizes: width and height of each edited picture of the training pairs.
        triples: id of the triple of each training pair.
        without: training pairs without an original picture.
        pictures: hash of the picture files, or of the names and sizes of shards.
        shards: what is streamed in place of training pairs in a table.
    """

    train: Dataset
    held_out: Dataset
    parts: list[Part]
    sizes: list[tuple[int, int]]
    triples: list[str]
    without: frozenset[int]
    pictures: str = ""
    shards: Shards | None = None

    def fingerprint(self) -> str:
        """Hash the number of training pairs and their instructions, in order, and name their pictures by their hash.

        The first 16 hexadecimal digits are all that runs have which are older than the hash of pictures.
        """
        digest = hashlib.sha256(str(len(self.train)).encode())
        for instruction in self.train["edit_prompt"]:
            digest.update(b"\0" + instruction.encode())
        return f"{digest.hexdigest()[:16]}-{self.pictures}"


def open_pairs(
    *sources: str | Path | DataSource,
    bad_rows: Literal["error", "skip"] = "error",
    masks: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> PairDataset:
    """Open data sets of any layout, check every row, and concatenate them.

    The held-out pairs of each are its split `test` or `validation`, or else its last twentieth; 64 pairs at most, of
    several sets in the shares that they have in training.

    Args:
        sources: data sets, by path or by name on the hub, or with columns, instruction and weight.
        bad_rows: whether rows that cannot be used are an error, or are left out.
        masks: whether a damaged mask of changed pixels makes a row unusable.
        say: function that prints a line.

    Raises:
        DataError: a data set is missing or unreadable, differs from its manifest, has rows that cannot be used, or has
            too few of them.
    """
    named = [each if isinstance(each, DataSource) else DataSource(path=str(each)) for each in sources]
    opened = [_open(each, bad_rows, masks, say) for each in named]
    sets = [train for train, _ in opened]
    train, held_out = join_tables([each.table for each in sets]), join_tables([each for _, each in opened])
    without = [absent for each in sets for absent in each.without]
    text = ", ".join(each.path for each in named)
    if not len(train):
        raise DataError(f"the data set {text} has {len(held_out)} usable pairs, too few to train on", BUILD_HINT)
    if any(without):
        say(f"{sum(without)} of {len(train)} rows have no picture to edit, and train the model without one")
    if all(without):
        raise DataError(
            f"no row of the data set {text} has a picture to edit, so that nothing would learn to edit",
            "Name their column by columns.original, or add a data set with pairs",
        )
    parts, start = [], 0
    for source, each in zip(named, sets, strict=True):
        parts.append(Part(range(start, start + len(each.table)), source.weight))
        start += len(each.table)
    return PairDataset(
        train,
        held_out.select(_held_out_rows([len(each) for _, each in opened], parts)),
        [part for part in parts if part.rows],
        [size for each in sets for size in each.sizes],
        [triple for each in sets for triple in each.triples],
        frozenset(row for row, absent in enumerate(without) if absent),
        "-".join(each.digest for each in sets),
    )


def stream_pairs(source: DataSource, *, say: Callable[[str], None] = lambda _: None) -> PairDataset:
    """Open a data set that is read while training.

    Args:
        source: data set.
        say: function that prints a line.

    Raises:
        DataError: it is missing or unreadable, or nothing of it can be held out.
    """
    reading = Reading(columns=source.columns or Columns(), instruction=source.instruction or "")
    shards = open_shards(source.path, reading)
    held_out = held_out_pairs(shards, MAX_HELD_OUT)
    if not len(held_out):
        raise DataError(f"the data set {source.path} has too few usable pairs to hold one out", BUILD_HINT)
    say(f"streaming {len(shards.train)} shards, with {len(held_out)} pairs held out")
    parts = "\0".join(f"{each.name} {each.size}" for each in shards.train)
    digest = hashlib.sha256(parts.encode()).hexdigest()[:16]
    return PairDataset(held_out.select([]), held_out, [], [], [], frozenset(), digest, shards)


def _held_out_rows(counts: Sequence[int], parts: Sequence[Part]) -> list[int]:
    """Return which of all held-out rows, source after source, are taken: 64 at most, by weight, the first of each.

    Args:
        counts: held-out rows of each source.
        parts: training rows and weight of each.
    """
    weighted = any(part.weight is not None for part in parts)
    weights = [part.weight or 1.0 if weighted else max(1, len(part.rows)) for part in parts]
    taken = [0] * len(counts)
    for _ in range(min(MAX_HELD_OUT, sum(counts))):  # each goes to the one that is furthest below its share
        left = (source for source, count in enumerate(counts) if taken[source] < count)
        taken[min(left, key=lambda source: (taken[source] + 0.5) / weights[source])] += 1
    starts = accumulate(counts, initial=0)
    return [row for start, count in zip(starts, taken, strict=False) for row in range(start, start + count)]


def _open(source: DataSource, bad_rows: str, masks: bool, say: Callable[[str], None]) -> tuple[UsablePairs, Dataset]:
    """Return the training pairs of a data set, and its held-out pairs, all of which have a picture to edit."""
    reading = Reading(columns=source.columns or Columns(), instruction=source.instruction or "")
    found = usable_pairs(source.path, reading, masks=masks, skip=bad_rows == "skip", say=say)
    if bad_rows == "error":
        require_usable(source.path, found)
    bad = [row for part in found.values() for row in part.bad]
    if bad:
        say(f"{tell_bad(source.path, found)} cannot be used and are left out:")
        for told in group_faults(bad):
            say(f"  {told}")
    if "train" not in found:
        raise DataError(f"the data set {source.path} has no split train, but {', '.join(found)}", BUILD_HINT)
    train, test = found["train"], found.get("test")
    if test is not None and not all(test.without):
        return train, _with_original(test)
    kept, held = _hold_out(train)
    return take(train, kept), train.table.select(held)


def _hold_out(pairs: UsablePairs) -> tuple[list[int], list[int]]:
    """Split rows into those to train on and the last twentieth of those with a picture to edit, 64 at most.

    A held-out row whose triple is trained on as well would tell nothing new: it is in neither, unless all are such.
    """
    count = min(MAX_HELD_OUT, max(1, len(pairs.table) // 20))
    last = [row for row, absent in enumerate(pairs.without) if not absent][-count:]
    kept = sorted(set(range(len(pairs.table))) - set(last))
    trained = {pairs.triples[row] for row in kept}
    return kept, [row for row in last if pairs.triples[row] not in trained] or last


def take(pairs: UsablePairs, rows: Sequence[int]) -> UsablePairs:
    """Return some rows of usable pairs."""
    return UsablePairs(
        pairs.table.select(rows),
        [pairs.sizes[row] for row in rows],
        [pairs.triples[row] for row in rows],
        [pairs.without[row] for row in rows],
        pairs.bad,
        pairs.digest,
    )


def _with_original(pairs: UsablePairs) -> Dataset:
    return pairs.table.select([row for row, absent in enumerate(pairs.without) if not absent])
