"""Search for thresholds: bounds of the scores within which pairs are fine as often as is wanted.

All bounds begin open. Step by step a slice of the examples is cut off at the end of one score, for all kinds of edit or
for one, wherever pairs are most surely not fine (the patient rule induction method; Friedman and Fisher, Bump hunting
in high-dimensional data, 1999). That gives a path of bounds, each tighter than the one before. Cross-validation decides
how far to go along it, because bounds are flattered by the examples that they were fitted to.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ip2p.data_gen.pairs.filter import BOUNDS, Bound
from ip2p.records import SCORES

ALL_KINDS = ""
"""Scope of a bound that holds for all kinds."""
SLICE = 0.05
"""Share of the examples that are left, of which one step cuts off at least one."""
MIN_SLICE, MIN_LEFT, MIN_OF_KIND = 3, 20, 20
"""Least examples that a step cuts off, that it leaves, and of a kind that gets bounds of its own."""
MIN_KEPT = 50
"""Least examples inside the bounds from which their precision is judged."""
FOLDS = 5
LEVELS = np.arange(0.01, 1.0, 0.005)
"""Precisions on the examples of the search up to which a path may be followed."""
SMOOTHED = 9
"""Number of neighbouring levels over which precisions by cross-validation are averaged."""
CAUTION, CERTAINTY = 1.0, 1.96
"""Standard deviations: by which steps are cautious, and those of the intervals that are told (95 %)."""

Scope = tuple[str, str]
"""Kind of edit or ALL_KINDS, and name of a bound."""


class Interval(NamedTuple):
    """A share of a weighted sample, and the ends of its interval of 95 %; NaN and (0, 1) for an empty sample."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.share):
            return "-"
        return f"{self.share:.1%} ({self.low:.0%} to {self.high:.0%})"


@dataclass(frozen=True)
class Examples:
    """Labelled pairs, row by row.

    Attributes:
        scores: scores in the order of `names`, shape (n, scores); NaN where the judge was not asked.
        kinds: kinds of edit, shape (n,).
        fine: labels, shape (n,).
        weights: numbers of candidates that each stands for, shape (n,).
        groups: names of what must not be torn apart, such as triples, shape (n,).
        names: columns of candidates that the scores are.
    """

    scores: npt.NDArray[np.float64]
    kinds: npt.NDArray[Any]
    fine: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float64]
    groups: npt.NDArray[Any]
    names: tuple[str, ...] = SCORES

    def __len__(self) -> int:
        return len(self.fine)

    def select(self, rows: npt.NDArray[np.bool_]) -> "Examples":
        """Return some of the rows."""
        weights, groups = self.weights[rows], self.groups[rows]
        return Examples(self.scores[rows], self.kinds[rows], self.fine[rows], weights, groups, self.names)

    @property
    def bounds(self) -> dict[str, Bound]:
        """Bounds of these scores, by name."""
        return {name: bound for name, bound in BOUNDS.items() if bound.score in self.names}

    def values(self, bound: str) -> npt.NDArray[np.float64]:
        """Return what a bound bounds, shape (n,)."""
        return self.scores[:, self.names.index(BOUNDS[bound].score)]

    def precision(self, rows: npt.NDArray[np.bool_], deviations: float = CERTAINTY) -> Interval:
        """Estimate the share of some rows that are fine, with its interval (Wilson, 1927)."""
        return wilson(self.weights[rows], self.fine[rows], deviations)

    def share(self, rows: npt.NDArray[np.bool_]) -> float:
        """Return the share that some rows have in the weight of all."""
        return float(self.weights[rows].sum() / self.weights.sum())


@dataclass(frozen=True)
class Box:
    """Bounds of scores, as `FilterConfig` has them.

    Attributes:
        limits: limits by kind of edit, or ALL_KINDS, and name of the bound.
    """

    limits: dict[Scope, float] = field(default_factory=dict)

    def contains(self, examples: Examples) -> npt.NDArray[np.bool_]:
        """Return which examples are within all bounds that hold for their kinds, shape (n,)."""
        inside = np.ones(len(examples), bool)
        for (kind, name), limit in self.limits.items():
            fits = fits_bound(examples.values(name), name, limit)
            inside &= fits | (examples.kinds != kind) if kind else fits
        return inside

    def tightened(self, scope: Scope, limit: float) -> "Box":
        """Return the box with one more bound, which is tighter than the one that it replaces."""
        return Box(self.limits | {scope: limit})


class Step(NamedTuple):
    """A box on the path, and the share of the examples inside that are fine, of those of the search."""

    box: Box
    precision: float


class Choice(NamedTuple):
    """Chosen bounds.

    Attributes:
        box: bounds.
        expected: precision by cross-validation.
        reached: whether that is the wanted one.
    """

    box: Box
    expected: float
    reached: bool


def choose_box(examples: Examples, precision: float) -> Choice:
    """Find bounds that keep most pairs at the wanted precision, or those of the highest precision if none has it.

    Args:
        examples: labelled pairs.
        precision: wanted share of fine pairs among those kept, 0 to 1.
    """
    expected = _cross_validate(examples)
    enough = [level for level, each in expected.items() if each.share >= precision]
    level = enough[0] if enough else max(expected, key=lambda each: expected[each].low)
    path = list(follow_path(examples))
    step = next((each for each in path if each.precision >= level), path[-1])
    return Choice(step.box, expected[level].share, bool(enough))


def follow_path(examples: Examples) -> Iterator[Step]:
    """Yield boxes that grow tighter, from the open one, until a step would leave too few examples."""
    box, left = Box(), np.ones(len(examples), bool)
    while True:
        yield Step(box, examples.precision(left).share)
        counts = {kind: int((left & (examples.kinds == kind)).sum()) for kind in np.unique(examples.kinds)}
        scopes = [ALL_KINDS, *(str(kind) for kind, count in counts.items() if count >= MIN_OF_KIND)]
        cuts = [
            (examples.precision(cut, CAUTION).high, scope, limit, cut)
            for kind in scopes
            for scope, limit, cut in _slices(examples, left & ((examples.kinds == kind) | (kind == ALL_KINDS)), kind)
        ]
        cuts = [each for each in cuts if (left & ~each[3]).sum() >= MIN_LEFT]
        if not cuts:
            return
        _, scope, limit, cut = min(cuts, key=lambda each: each[:3])
        box, left = box.tightened(scope, limit), left & ~cut


def wilson(weights: npt.NDArray[np.float64], fine: npt.NDArray[np.bool_], deviations: float = CERTAINTY) -> Interval:
    """Estimate a share and its interval (Wilson, 1927), with Kish's effective size of a weighted sample.

    Args:
        weights: weights, shape (n,).
        fine: whether each counts, shape (n,).
        deviations: standard deviations on each side.
    """
    if not len(weights):
        return Interval(math.nan, 0.0, 1.0)
    count = float(weights.sum() ** 2 / np.square(weights).sum())
    return _interval(float(weights[fine].sum() / weights.sum()), count, deviations)


def _interval(share: float, count: float, deviations: float) -> Interval:
    """Wilson's interval of a share of so many."""
    square = deviations**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = deviations * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def _cross_validate(examples: Examples) -> dict[float, Interval]:
    """Return the precision on left-out examples by the level up to which paths are followed, ascending."""
    names = np.unique(examples.groups)
    place = {str(name): number % FOLDS for number, name in enumerate(names)}
    folds = np.array([place[str(name)] for name in examples.groups])
    kept, fine = np.zeros(len(LEVELS)), np.zeros(len(LEVELS))
    rows = np.zeros(len(LEVELS))
    for fold in range(FOLDS):
        path, test = list(follow_path(examples.select(folds != fold))), examples.select(folds == fold)
        reached = np.maximum.accumulate([step.precision for step in path])
        inside = [step.box.contains(test) for step in path]
        for number, level in enumerate(LEVELS):
            chosen = inside[min(int(np.searchsorted(reached, level)), len(path) - 1)]
            rows[number] += chosen.sum()
            kept[number] += test.weights[chosen].sum()
            fine[number] += test.weights[chosen & test.fine].sum()
    fine, kept = (np.convolve(each, np.ones(SMOOTHED), "same") for each in (fine, kept))
    return {
        float(level): _interval(min(1.0, float(fine[number] / kept[number])), float(rows[number]), CERTAINTY)
        for number, level in enumerate(LEVELS)
        if rows[number] >= MIN_KEPT
    }


def _slices(
    examples: Examples, among: npt.NDArray[np.bool_], kind: str
) -> Iterator[tuple[Scope, float, npt.NDArray[np.bool_]]]:
    """Yield what may be cut off from some examples: scope and limit of the bound, and the rows outside of it."""
    least = max(MIN_SLICE, math.ceil(SLICE * among.sum()))
    for name, bound in examples.bounds.items():
        values = examples.values(name)
        known = values[among & ~np.isnan(values)]
        ordered = np.sort(known) if bound.is_least else -np.sort(-known)
        later = np.flatnonzero(ordered != ordered[least - 1]) if len(ordered) > least else np.array([], int)
        later = later[later >= least]
        if not len(later):
            continue
        last, first = ordered[later[0] - 1], ordered[later[0]]
        limit = _between(float(last), float(first))
        yield (kind, name), limit, among & ~fits_bound(values, name, limit)


def fits_bound(values: npt.NDArray[np.float64], name: str, limit: float) -> npt.NDArray[np.bool_]:
    """Return whether scores are within a bound; unknown ones count as within, so that figures promise too little."""
    return np.isnan(values) | (values >= limit if BOUNDS[name].is_least else values <= limit)


def _between(outside: float, inside: float) -> float:
    """Return the shortest decimal that lies between a score that is cut off and one that is not."""
    for digits in range(2, 7):
        middle = round((outside + inside) / 2, digits)
        if min(outside, inside) < middle < max(outside, inside):
            return middle
    return inside


def limits_of(box: Box, kinds: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the limits of a box by kind of edit, ALL_KINDS first, in the order of `BOUNDS`.

    Those of a kind are the ones that are tighter than the limits of all kinds.
    """
    found: dict[str, dict[str, float]] = {}
    for kind in (ALL_KINDS, *kinds):
        found[kind] = {}
        for name, bound in BOUNDS.items():
            limit, common = box.limits.get((kind, name)), box.limits.get((ALL_KINDS, name))
            if limit is not None and (
                not kind or common is None or (limit > common if bound.is_least else limit < common)
            ):
                found[kind][name] = limit
    return found
