"""Trade-off curves (InstructPix2Pix, Figure 8): how far edits go in their direction against how much they keep.

x is the mean CLIP direction, y the mean CLIP similarity of the pictures. Along a curve one setting changes: the image
scale of an editor, the strength of SDEdit. A curve is straight lines between those of its points that no other exceeds
in both, so that neither a curve that turns back nor the number of its points matters. Its area is what lies below and
left of it in the unit square.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ip2p.evaluation.results import Result
from ip2p.measuring.intervals import Interval, bootstrap
from ip2p.pictures.pages import Area, Chart, Curve, Label

CLIP_PAIR = X, Y = "clip_direction", "clip_image"
"""Measures of the two axes."""
COLORS = ("#1663b0", "#3f93d8", "#c4472c", "#7a7a2e", "#8a4fb5", "#1f8a5b", "#777")
MIN_SAMPLES = 2
Array = npt.NDArray[np.float64]
Points = Mapping[str, Mapping[str, Sequence[Result]]]
"""Results by curve and setting."""


class TradeOffPoint(NamedTuple):
    """A point of a curve: its setting, and means of both measures with intervals."""

    setting: str
    x: Interval
    y: Interval


class TradeOff(NamedTuple):
    """A trade-off curve.

    Attributes:
        name: what is drawn.
        samples: number of samples, the same at every point.
        points: points in the order of their settings.
        area: area under the curve with its interval.
        above: how much higher in y the first of all curves lies than this one, the mean over all x that both reach;
            None for the first, and where they have no x in common.
    """

    name: str
    samples: int
    points: list[TradeOffPoint]
    area: Interval
    above: Interval | None = None


def leave_out_failed(points: Points) -> tuple[Points, list[str]]:
    """Leave out the points that no sample has both measures of, and say which.

    Args:
        points: results by curve and setting.

    Returns:
        The others, and a note for each that is left out.
    """
    failed = {
        (name, setting): f"{name} at {setting} is not in the curves: no sample has both of their measures there."
        for name, curve in points.items() for setting, rows in curve.items() if not _measured(rows)
    }  # fmt: skip
    whole = {
        name: {setting: rows for setting, rows in curve.items() if (name, setting) not in failed}
        for name, curve in points.items()
    }
    return {name: curve for name, curve in whole.items() if curve}, list(failed.values())


def trade_offs(points: Points, seed: int) -> list[TradeOff]:
    """Compute curves with intervals, of the samples that have both measures at every point of every curve.

    Args:
        points: results by curve and setting; the first curve is compared with the others.
        seed: seed of the bootstrap.

    Returns:
        The curves; none with fewer than two such samples, which have no interval.
    """
    samples = _common_samples([each for curve in points.values() for each in curve.values()])
    if len(samples) < MIN_SAMPLES:
        return []
    tables = {name: _tabulate(list(curve.values()), samples) for name, curve in points.items()}
    first = next(iter(tables))
    return [
        TradeOff(
            name, len(samples),
            [
                TradeOffPoint(setting, *(bootstrap(rows[:, axis, k], seed=seed) for axis in (0, 1)))
                for k, setting in enumerate(points[name])
            ],
            bootstrap(rows.reshape(len(samples), -1), _area, seed=seed),
            None if name == first else _compare(tables[first], rows, seed),
        )
        for name, rows in tables.items()
    ]  # fmt: skip


def _common_samples(results: Sequence[Sequence[Result]]) -> list[str]:
    """Names of the samples that have both measures at every point."""
    names = [_measured(rows) for rows in results]
    return sorted(set.intersection(*names)) if names else []


def _measured(rows: Sequence[Result]) -> set[str]:
    return {each.sample for each in rows if {X, Y} <= each.figures.keys()}


def _tabulate(points: Sequence[Sequence[Result]], samples: Sequence[str]) -> Array:
    """The measures of each sample, shape (n, 2, points)."""
    rows = [{each.sample: each.figures for each in point} for point in points]
    return np.array([[[row[name][measure] for row in rows] for measure in (X, Y)] for name in samples])


def _reached(x: Array, y: Array) -> tuple[Array, Array]:
    """Sort the points of curves (..., points) by x; one that another exceeds in both gives way to the next that none
    does."""
    order = np.argsort(x, axis=-1)
    x, y = np.take_along_axis(x, order, -1), np.take_along_axis(y, order, -1)
    best = np.maximum.accumulate(y[..., ::-1], axis=-1)[..., ::-1]
    places = np.where(y == best, np.arange(y.shape[-1]), y.shape[-1])
    nearest = np.minimum.accumulate(places[..., ::-1], axis=-1)[..., ::-1]
    return np.take_along_axis(x, nearest, -1), np.take_along_axis(y, nearest, -1)


def _area(rows: Array) -> Array:
    """Area of the unit square below the curve of each resample (resamples, n, 2 x points)."""
    means = np.clip(rows.mean(axis=1), 0, 1).reshape(len(rows), 2, -1)
    x, y = _reached(means[:, 0], means[:, 1])
    between = (x[:, 1:] - x[:, :-1]) * (y[:, 1:] + y[:, :-1]) / 2
    return np.asarray(x[:, 0] * y[:, 0] + between.sum(1), np.float64)


def _compare(first: Array, other: Array, seed: int) -> Interval | None:
    """Compute how much higher the first curve lies, over the x that both reach."""
    x = first[:, 0].mean(0), other[:, 0].mean(0)
    low, high = max(each.min() for each in x), min(each.max() for each in x)
    if low >= high:
        return None
    at, count, points = np.linspace(low, high, 64), len(first), first.shape[2]

    def lead(rows: Array) -> Array:
        means = rows.mean(axis=1).reshape(len(rows), 2, -1)
        heights = (_height(at, *row[:, :points]) - _height(at, *row[:, points:]) for row in means)
        return np.array([each.mean() for each in heights])

    return bootstrap(np.concatenate([first, other], axis=2).reshape(count, -1), lead, seed=seed)


def _height(at: Array, x: Array, y: Array) -> Array:
    """Height of a curve at some x, by straight lines between its points."""
    return np.asarray(np.interp(at, *_reached(x, y)), np.float64)


def curve_chart(curves: Sequence[TradeOff]) -> Chart:
    """Plot the curves as in Figure 8 of the paper, with the intervals of all points as a band."""
    points = [point for curve in curves for point in curve.points]
    x = _range([value for point in points for value in point.x[1:3]])
    y = _range([value for point in points for value in point.y[1:3]])
    colors = dict(zip([curve.name for curve in curves], COLORS * len(curves), strict=False))
    return Chart(
        560, 380, x=x, y=y,
        areas=[Area(_frame(point), colors[curve.name]) for curve in curves for point in curve.points],
        curves=[
            Curve([(point.x.value, point.y.value) for point in curve.points], colors[curve.name], 3) for curve in curves
        ],
        labels=[
            Label(point.x.value, point.y.value, point.setting.split()[-1], colors[curve.name])
            for curve in curves for point in dict.fromkeys((curve.points[0], curve.points[-1]))
        ],
        legend=[(_key(curve), colors[curve.name]) for curve in curves],
        ticks=True, top="CLIP image similarity: how much is kept", right="CLIP direction: how far the edit goes",
    )  # fmt: skip


def _key(curve: TradeOff) -> str:
    """Words for a curve in the legend: its name, and its first and last setting."""
    first, last = curve.points[0].setting, curve.points[-1].setting
    return f"{curve.name}, {first}" + (f" to {last.split()[-1]}" if last != first else "")


def _range(values: Sequence[float]) -> tuple[float, float]:
    room = 0.08 * (max(values) - min(values)) + 1e-3
    return min(values) - room, max(values) + room


def _frame(point: TradeOffPoint) -> list[tuple[float, float]]:
    """Outline of the intervals of a point in both measures; along a curve, they make its band."""
    x, y = point.x[1:3], point.y[1:3]
    return [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
