"""Trade-off curves (InstructPix2Pix, Figure 8): how far edits go in their direction against how much they keep.

x is the mean CLIP direction, y the mean CLIP similarity of the pictures. Along a curve one setting changes: the image
scale of an editor, the strength of SDEdit. Its area is that of all points (u, v) in the unit square which some point of
the curve exceeds in both, so that both ends and every point between them count.
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
COLORS = ("#1663b0", "#5aa0dd", "#c4472c", "#7a7a2e", "#777")
Array = npt.NDArray[np.float64]


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


def trade_offs(points: Mapping[str, Mapping[str, Sequence[Result]]], seed: int) -> list[TradeOff]:
    """Compute curves with intervals, of the samples that have both measures at every point of every curve.

    Args:
        points: results by curve and setting; the first curve is compared with the others.
        seed: seed of the bootstrap.
    """
    samples = _common_samples([each for curve in points.values() for each in curve.values()])
    if not samples:
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
    names = [{each.sample for each in rows if {X, Y} <= each.figures.keys()} for rows in results]
    return sorted(set.intersection(*names)) if names else []


def _tabulate(points: Sequence[Sequence[Result]], samples: Sequence[str]) -> Array:
    """The measures of each sample, shape (n, 2, points)."""
    rows = [{each.sample: each.figures for each in point} for point in points]
    return np.array([[[row[name][measure] for row in rows] for measure in (X, Y)] for name in samples])


def _area(rows: Array) -> Array:
    """Area of the unit square below and left of some point, of each resample (resamples, n, 2 x points)."""
    means = rows.mean(axis=1).reshape(len(rows), 2, -1)
    x, y = np.clip(means, 0, 1).transpose(1, 0, 2)
    order = np.argsort(-x, axis=1)
    x, y = np.take_along_axis(x, order, 1), np.take_along_axis(y, order, 1)
    widths = x - np.concatenate([x[:, 1:], np.zeros((len(x), 1))], axis=1)
    return np.asarray((widths * np.maximum.accumulate(y, axis=1)).sum(1), np.float64)


def _compare(first: Array, other: Array, seed: int) -> Interval | None:
    """How much higher the first curve lies, over the x that both reach."""
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
    order = np.argsort(x)
    return np.asarray(np.interp(at, x[order], y[order]), np.float64)


def curve_chart(curves: Sequence[TradeOff]) -> Chart:
    """Plot the curves as in Figure 8 of the paper, with the intervals of each point as a frame."""
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
            Label(point.x.value, point.y.value, text, colors[curve.name])
            for curve in curves
            for point, text in (
                (curve.points[0], f"{curve.name}: {curve.points[0].setting}"),
                (curve.points[-1], curve.points[-1].setting.split()[-1]),
            )
        ],
        ticks=True, title="x: CLIP direction, how far the edit goes; y: CLIP image similarity, how much is kept",
    )  # fmt: skip


def _range(values: Sequence[float]) -> tuple[float, float]:
    room = 0.08 * (max(values) - min(values)) + 1e-3
    return min(values) - room, max(values) + room


def _frame(point: TradeOffPoint) -> list[tuple[float, float]]:
    """Outline of the intervals of a point in both measures; along a curve, they make its band."""
    x, y = point.x[1:3], point.y[1:3]
    return [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
