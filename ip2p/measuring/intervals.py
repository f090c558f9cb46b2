"""Bootstrap intervals of means and other statistics, and which differences of two editors are beyond chance.

Rows are samples such as edited pictures. They are drawn with replacement, each stratum (kind of edit) as often as it
has rows, so that the intervals say what other pictures of the same kinds would have given. Two editors are compared on
the same rows: what one picture gains over the other, whose spread is smaller than that of either.

Intervals are bias-corrected and accelerated, BCa (Efron, Better bootstrap confidence intervals, 1987), which cover
skewed scores better than plain percentiles, and as wide as Student's t asks of few rows (Hesterberg, What teachers
should know about the bootstrap, 2015), without which ten rows would cover 90 % in place of 95. Shares of yes and no
have Wilson's interval (Probable inference, 1927): thirteen rows of yes are no proof of 100 %, and resamples know
nothing else. NaN are rows without a figure: they are left out before anything is drawn.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95
SIGNS_PER_TEST = 200
"""Draws of signs for each of the tests that are corrected together: with fewer, none could stay below 5 %."""
ROWS_AT_ONCE = 4_000_000
"""Numbers in memory at a time."""

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Function of resampled rows (resamples, n) or (resamples, n, columns) to (resamples,)."""


class Interval(NamedTuple):
    """A statistic with its confidence interval.

    Attributes:
        value: statistic of the rows; NaN if there are none.
        low, high: bounds of the interval; NaN with fewer than two rows.
        rows: number of rows with a figure.
    """

    value: float
    low: float
    high: float
    rows: int


class Difference(NamedTuple):
    """The difference of two editors in one measure: second minus first.

    Attributes:
        interval: mean difference of the rows that both have.
        p: probability of a mean at least as far from 0 if the signs of the differences were chance.
        adjusted: p after Holm's correction for all measures that were compared.
        beyond_chance: whether `adjusted` is below 1 minus the level.
    """

    interval: Interval
    p: float
    adjusted: float
    beyond_chance: bool


def mean_of_rows(rows: Array) -> Array:
    """The mean of each resample."""
    return np.asarray(rows.mean(axis=1), np.float64)


def bootstrap(
    rows: npt.ArrayLike,
    statistic: Statistic = mean_of_rows,
    *,
    seed: int,
    strata: Sequence[str] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Interval:
    """Compute a statistic of rows and its confidence interval.

    Args:
        rows: numbers (n,), or rows of numbers (n, columns); those with a NaN are left out.
        statistic: function of many resamples at once, see `Statistic`.
        seed: seed of the resamples; equal seeds give equal intervals.
        strata: kind of each row; each kind is resampled within itself.
        level: share of such intervals that cover the truth, in (0, 1).
        resamples: number of resamples.
    """
    values = np.asarray(rows, np.float64)
    assert strata is None or len(strata) == len(values), f"{len(values)} rows and {len(strata or ())} strata"
    whole = np.logical_not(np.isnan(values).any(axis=tuple(range(1, values.ndim))))
    values, groups = values[whole], _groups(strata, whole)
    count = len(values)
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0)
    value = float(statistic(values[None])[0])
    if count < 2:
        return Interval(value, math.nan, math.nan, count)
    rng, chunk = np.random.default_rng(seed), max(1, ROWS_AT_ONCE // values.size)
    drawn = [
        statistic(values[_draw(rng, groups, min(chunk, resamples - start))]) for start in range(0, resamples, chunk)
    ]
    away = _influence(_leave_one_out(values, statistic), groups)
    low, high = _accelerated(np.concatenate(drawn), value, away, _student_z(level, count, len(groups)))
    return Interval(value, low, high, count)


def share_interval(rows: npt.ArrayLike, *, level: float = LEVEL) -> Interval:
    """Compute the share of yes among rows of yes (1) and no (0) with Wilson's interval.

    Args:
        rows: 0 or 1 for each row (n,); NaN are left out.
        level: share of such intervals that cover the truth, in (0, 1).
    """
    values = np.asarray(rows, np.float64)
    values = values[~np.isnan(values)]
    count = len(values)
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0)
    share, z = float(values.mean()), NormalDist().inv_cdf((1 + level) / 2)
    center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    low, high = center - half, center + half
    return Interval(share, low if share > 0 else 0.0, high if share < 1 else 1.0, count)


def paired_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    seed: int,
    strata: Sequence[str] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Difference:
    """Compare two editors on the same rows in one measure.

    Args:
        first, second: measure of each row (n,), in the same order; rows that one lacks (NaN) are left out for both.
        seed, strata, level, resamples: see `bootstrap`.
    """
    return compare(
        {"": (first, second)}, seed=seed, strata=strata, level=level, resamples=resamples,
    )[""]  # fmt: skip


def compare(
    measures: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    seed: int,
    strata: Sequence[str] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    families: int = 1,
) -> dict[str, Difference]:
    """Compare two editors on the same rows in many measures, by name.

    Among twenty measures one would be "significant" by chance alone, so the probabilities are corrected by Holm's
    method (A simple sequentially rejective multiple test procedure, 1979).

    Args:
        measures: each measure of the first and the second editor, row by row.
        seed, strata, level, resamples: see `bootstrap`.
        families: number of such groups of measures that share the probability of a false find.
    """
    gains = {name: np.asarray(second) - np.asarray(first) for name, (first, second) in measures.items()}
    draws = max(resamples, SIGNS_PER_TEST * families * len(gains))
    chances = [sign_flip_chance(gain, seed=seed, resamples=draws) for gain in gains.values()]
    corrected = [min(1.0, families * each) for each in holm(chances)]
    return {
        name: Difference(
            bootstrap(gain, seed=seed, strata=strata, level=level, resamples=resamples),
            p, adjusted, adjusted < 1 - level,
        )
        for (name, gain), p, adjusted in zip(gains.items(), chances, corrected, strict=True)
    }  # fmt: skip


def sign_flip_chance(gains: npt.ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> float:
    """The probability of a mean as far from 0 as that of the gains, if each could as well be a loss.

    Signs are drawn `resamples` times; the gains as they are count as one more draw, so that it is never 0.

    Args:
        gains: differences of pairs (n,); NaN are left out.
        seed: seed of the signs.
        resamples: number of draws.
    """
    values = np.asarray(gains, np.float64)
    values = values[~np.isnan(values)]
    values = values[values != 0]  # equal pairs say nothing, whatever their sign
    if not len(values):
        return 1.0
    rng, observed = np.random.default_rng(seed), abs(float(values.sum()))
    bound, chunk, beyond = observed * (1 - 1e-12), max(1, ROWS_AT_ONCE // len(values)), 0
    for start in range(0, resamples, chunk):
        signs = rng.integers(0, 2, (min(chunk, resamples - start), len(values))) * 2 - 1
        beyond += int((np.abs(signs @ values) >= bound).sum())
    return (beyond + 1) / (resamples + 1)


def holm(chances: Sequence[float]) -> list[float]:
    """Correct probabilities of several tests by Holm's method; NaN, of tests that could not be made, stay."""
    order = sorted((k for k, p in enumerate(chances) if not math.isnan(p)), key=lambda k: chances[k])
    found, highest = list(chances), 0.0
    for place, k in enumerate(order):
        highest = max(highest, min(1.0, chances[k] * (len(order) - place)))
        found[k] = highest
    return found


def _groups(strata: Sequence[str] | None, whole: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.intp]]:
    """Indices of the rows of each stratum, of those that are whole."""
    if strata is None:
        return [np.arange(int(whole.sum()))]
    kept = np.asarray(strata, dtype=object)[whole]
    return [np.flatnonzero(kept == name) for name in dict.fromkeys(kept.tolist())]


def _draw(rng: np.random.Generator, groups: list[npt.NDArray[np.intp]], resamples: int) -> npt.NDArray[np.intp]:
    """Draw the rows of resamples (resamples, n), within each stratum."""
    return np.concatenate([group[rng.integers(len(group), size=(resamples, len(group)))] for group in groups], axis=1)


def _leave_one_out(values: Array, statistic: Statistic) -> Array:
    """The statistic without each row in turn."""
    count, chunk = len(values), max(1, ROWS_AT_ONCE // values.size)
    others = np.arange(count - 1)
    found = []
    for start in range(0, count, chunk):
        left_out = np.arange(start, min(start + chunk, count))[:, None]
        found.append(statistic(values[others + (others >= left_out)]))
    return np.concatenate(found)


def _influence(jackknife: Array, groups: list[npt.NDArray[np.intp]]) -> Array:
    """Compute how far each row moves the statistic, against its stratum: between strata nothing is chance."""
    away = np.empty_like(jackknife)
    for group in groups:
        away[group] = jackknife[group].mean() - jackknife[group]
    return away


def _accelerated(drawn: Array, value: float, away: Array, z: float) -> tuple[float, float]:
    """Bounds of a BCa interval: percentiles, moved by the bias of the resamples and the skew of the rows' influence."""
    normal = NormalDist()
    below = float(np.mean(drawn < value) + np.mean(drawn == value) / 2)
    bias = normal.inv_cdf(min(max(below, 0.5 / len(drawn)), 1 - 0.5 / len(drawn)))
    spread = float((away**2).sum())
    skew = float((away**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    bounds = []
    for moved in (bias - z, bias + z):
        room = 1 - skew * moved
        bounds.append(normal.cdf(bias + moved / room) if room > 0 else normal.cdf(moved))
    low, high = np.quantile(drawn, bounds)
    return float(low), float(high)


def _student_z(level: float, count: int, strata: int) -> float:
    """Normal deviate of percentiles of few rows: Student's t, times what resamples spread less than rows do.

    t is that of Cornish and Fisher's expansion, true to 1 % from five degrees of freedom.
    """
    freedom, z = max(count - strata, 1), NormalDist().inv_cdf((1 + level) / 2)
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return math.sqrt(count / freedom) * t
