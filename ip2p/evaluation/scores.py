"""Scores: means with intervals, by method, kind of edit and measure."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ip2p.evaluation.measures import MEASURES, Measure
from ip2p.evaluation.results import Result
from ip2p.measuring.intervals import Interval, bootstrap, share_interval
from ip2p.measuring.tables import markdown_table

OVERALL = "all"
Scores = dict[str, dict[str, dict[str, Interval]]]
"""Intervals of means by method, kind of edit and measure; the kind "all" is over all of them."""


class Column(NamedTuple):
    """A column of a table: name of a measure, and the measure."""

    name: str
    measure: Measure


def score_methods(results: Mapping[str, Sequence[Result]], seed: int) -> Scores:
    """Compute the mean of every measure with its interval, by method and kind.

    Args:
        results: results by method, in the order of the tables.
        seed: seed of the bootstrap.
    """
    found: Scores = {}
    for method, rows in results.items():
        kinds = [OVERALL, *sorted({each.kind for each in rows})]
        by_kind = {kind: [each for each in rows if kind in (OVERALL, each.kind)] for kind in kinds}
        found[method] = {kind: _score(chosen, seed) for kind, chosen in by_kind.items()}
    return found


def _score(rows: Sequence[Result], seed: int) -> dict[str, Interval]:
    values = {name: [row.figures[name] for row in rows if name in row.figures] for name in MEASURES}
    return {
        name: share_interval(each) if MEASURES[name].yes_or_no else bootstrap(each, seed=seed)
        for name, each in values.items() if each
    }  # fmt: skip


def columns_of(scores: Scores) -> list[Column]:
    """List the measures that any method has, the one that matters most first."""
    there = {name for kinds in scores.values() for each in kinds.values() for name in each}
    return [Column(name, measure) for name, measure in MEASURES.items() if name in there]


def show(
    interval: Interval | None, measure: Measure, *, bounds: bool = True, unit: bool = False, signed: bool = False
) -> str:
    """Format a mean with its interval, in per cent where the measure is a share.

    Args:
        interval: mean with its interval; None where nothing was measured.
        measure: measure that it is of.
        bounds: whether to show the bounds.
        unit: whether to show the sign of per cent, outside of tables whose titles have it.
        signed: whether to show a plus, too, as of a difference.
    """
    if interval is None:
        return "-"
    factor, digits = (100, 1) if measure.percent else (1, 1 if measure.title == "PSNR" else 3)
    numbers = [round(factor * each, digits) + 0.0 for each in interval[:3]]  # which makes -0.0 into 0.0
    value, low, high = (f"{each:{'+' if signed else ''}.{digits}f}" for each in numbers)
    value += " %" if unit and measure.percent else ""
    return f"{value} ({low} to {high})" if bounds and math.isfinite(interval.low) else value


def cells(
    found: Mapping[str, Interval], columns: Sequence[Column], *, bounds: bool = True, signed: bool = False
) -> tuple[int, list[str]]:
    """Format a line of a table: its number of samples, and its figures, with their own numbers where these differ.

    Args:
        found: intervals by measure.
        columns: measures.
        bounds: whether to show the bounds of intervals.
        signed: whether to show a plus, too.
    """
    count = max((each.rows for each in found.values()), default=0)
    told = []
    for name, measure in columns:
        interval = found.get(name)
        own = f", n {interval.rows}" if interval and interval.rows != count else ""
        told.append(show(interval, measure, bounds=bounds, signed=signed) + own)
    return count, told


def overall_table(scores: Scores) -> str:
    """Table in Markdown with one line for each method, over all kinds."""
    columns = columns_of(scores)
    header = ["method", "n", *(each.measure.title + (" %" if each.measure.percent else "") for each in columns)]
    return markdown_table(header, [_line(name, kinds.get(OVERALL, {}), columns) for name, kinds in scores.items()])


def kinds_table(scores: Scores, method: str) -> str:
    """Table in Markdown of a method: its means, with one line for each kind of edit."""
    columns = columns_of(scores)
    header = ["kind", "n", *(each.measure.title + (" %" if each.measure.percent else "") for each in columns)]
    lines = [
        _line(kind, each, columns, bounds=False) for kind, each in scores.get(method, {}).items() if kind != OVERALL
    ]
    return markdown_table(header, lines)


def _line(name: str, found: Mapping[str, Interval], columns: Sequence[Column], *, bounds: bool = True) -> list[str]:
    count, figures = cells(found, columns, bounds=bounds)
    return [name, str(count), *figures]
