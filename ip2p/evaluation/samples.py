"""Samples of an evaluation: storybook scenes with exact targets, or anybody's triplets."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ip2p.errors import DataError
from ip2p.measuring.triplets import Triplet, read_triplets
from ip2p.seeding import derive_seed
from ip2p.storybook.edits import Case, evaluation_cases
from ip2p.storybook.free import free_cases
from ip2p.storybook.render import render

UNKNOWN_TASK = "edit"
"""Kind of edits whose task is not known."""


class Pictures(NamedTuple):
    """The pictures of a sample, of one size.

    Attributes:
        source: picture before the edit.
        target: exact target; None if there is none.
        mask: white where the edit may change pixels; None if it is not known.
        lacks: what measures need and they do not have, in words.
    """

    source: Image.Image
    target: Image.Image | None = None
    mask: Image.Image | None = None
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One edit to make.

    Args:
        name: name of the sample, the same in every evaluation on the same data.
        kind: kind of edit, or task, by which tables are split.
        instruction: instruction of the edit.
        seed: seed of all noise.
        load: function that reads or renders its pictures.
        caption, edited_caption: captions before and after the edit; empty if they are not known.
        case: scene and edit that the judge knows; None for pictures of others.
        hash_pictures: function that hashes what its pictures are made of.
    """

    name: str
    kind: str
    instruction: str
    seed: int
    load: Callable[[], Pictures] = field(repr=False, compare=False)
    caption: str = ""
    edited_caption: str = ""
    case: Case | None = field(default=None, repr=False, compare=False)
    hash_pictures: Callable[[], str] = field(default=str, repr=False, compare=False)

    @property
    def has_direction(self) -> bool:
        """Whether its captions differ, so that the direction from one to the other is defined."""
        return bool(self.caption.strip() and self.edited_caption.strip() and self.caption != self.edited_caption)

    def describe(self) -> dict[str, str | int]:
        """Describe what its results depend on, for fingerprints; this reads its stored pictures."""
        names = ("name", "kind", "instruction", "seed", "caption", "edited_caption")
        return {name: getattr(self, name) for name in names} | {"pictures": self._pictures}

    @cached_property
    def _pictures(self) -> str:
        return self.hash_pictures()


def storybook_samples(count: int, seed: int, *, stage: str = "evaluate") -> list[Sample]:
    """Make samples of held-out scenes; sample k depends on the seed and k alone.

    Args:
        count: number of scenes, each with one edit.
        seed: seed of the scenes and of all noise.
        stage: name that the seeds of the noise follow from, too.
    """
    return samples_of_cases(evaluation_cases(count, seed), seed, stage)


def free_samples(seed: int) -> list[Sample]:
    """Make samples of the sixty free instructions, which no template made."""
    return samples_of_cases(free_cases(seed), seed, "free")


def samples_of_cases(cases: Sequence[Case], seed: int, stage: str) -> list[Sample]:
    """Make samples of storybook edits: derive their seeds; their pictures are rendered when they are needed."""
    return [
        Sample(
            name=f"{stage}-{number:04d}", kind=case.edit.kind, instruction=case.instruction,
            seed=derive_seed(seed, stage, str(number)), load=_renderer(case), caption=case.caption,
            edited_caption=case.edited_caption, case=case, hash_pictures=_hasher(case),
        )
        for number, case in enumerate(cases)
    ]  # fmt: skip


class TripletSamples(NamedTuple):
    """Samples of triplets, and whether they are those of a test split."""

    samples: list[Sample]
    are_tests: bool


def triplet_samples(source: str | Path, seed: int, *, limit: int | None = None) -> TripletSamples:
    """Make samples of anybody's triplets: of their test split, if they have one; a bad one fails when it is loaded.

    Args:
        source: file, folder, or name of a data set on the hub, in any layout that `ip2p.measuring.triplets` reads.
        seed: seed of all noise.
        limit: number of samples, the first ones of each task, as many of one as of another; None for all.

    Raises:
        DataError: it does not exist, has none of the known layouts, or has no rows.
    """
    rows = _choose_rows(read_triplets(source), limit)
    if not rows:
        raise DataError(f"{source} has no rows", "Give a file or folder with input, target and instruction in each row")
    samples = [
        Sample(
            name=row.place, kind=row.task or UNKNOWN_TASK, instruction=row.instruction or UNKNOWN_TASK,
            seed=derive_seed(seed, "evaluate", row.place), load=_loader(row), caption=row.caption,
            edited_caption=row.edited_caption, hash_pictures=row.hash_pictures,
        )
        for row in rows
    ]  # fmt: skip
    return TripletSamples(samples, rows[0].split == "test")


def _choose_rows(rows: Iterable[Triplet], limit: int | None) -> list[Triplet]:
    """Take rows of the test split, or of all without one; no more are held than needed, or read if none has a task."""
    tests, others = _Chosen(limit), _Chosen(limit)
    for row in rows:
        if row.split == "test":
            tests.add(row)
            others = _Chosen(limit)
        elif not tests.count:
            others.add(row)
        if tests.count == limit and not any(tests.by_task):
            break
    return (tests if tests.count else others).in_order()


class _Chosen:
    """At most so many rows, spread over the tasks as evenly as they have rows: a folder may be sorted by task.

    Args:
        limit: number of rows; None for all.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit, self.count, self.seen = limit, 0, 0
        self.by_task: dict[str, list[tuple[int, Triplet]]] = {}

    def add(self, row: Triplet) -> None:
        """Add a row; if that is one too many, the last row of the task that has most of them goes."""
        self.by_task.setdefault(row.task, []).append((self.seen, row))
        self.seen, self.count = self.seen + 1, self.count + 1
        if self.limit is not None and self.count > self.limit:
            max(reversed(self.by_task.values()), key=len).pop()
            self.count -= 1

    def in_order(self) -> list[Triplet]:
        """The rows in the order in which they were added."""
        numbered = dict(each for rows in self.by_task.values() for each in rows)
        return [numbered[number] for number in sorted(numbered)]


def _loader(row: Triplet) -> Callable[[], Pictures]:
    return lambda: Pictures(*row.load())


def _renderer(case: Case) -> Callable[[], Pictures]:
    return lambda: Pictures(render(case.scene), render(case.target))


def _hasher(case: Case) -> Callable[[], str]:
    return lambda: hashlib.sha256(repr((case.scene, case.edit)).encode()).hexdigest()[:16]
