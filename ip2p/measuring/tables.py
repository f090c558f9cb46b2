"""Scores with confidence intervals and tables, from measurements of several methods on the same scenes."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

OVERALL = "all"
RESAMPLES = 2000


class Measurement(BaseModel):
    """Measurement of one picture of one method.

    Args:
        success: whether the edited attribute has the requested value.
        attributes_kept, layout_kept, preservation: shares in [0, 1] of what had to stay and did, see `Outcome`.
        psnr: PSNR against the exact target in dB.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    scene: int
    kind: str
    instruction: str
    seed: int
    success: bool
    attributes_kept: float
    layout_kept: float
    preservation: float
    psnr: float

    @property
    def product(self) -> float:
        """success x preservation of this picture, so that unedited pictures and lost scenes both count as zero."""
        return self.success * self.preservation


class Score(BaseModel):
    """Means over scenes; low and high are the 95 % confidence interval of the mean product."""

    model_config = ConfigDict(frozen=True)

    scenes: int
    success: float
    attributes_kept: float
    layout_kept: float
    preservation: float
    product: float
    low: float
    high: float
    psnr: float


def score(rows: Sequence[Measurement], seed: int) -> Score:
    """Compute the means of rows, and a percentile bootstrap interval of the product (2000 resamples)."""
    assert rows, "no rows to score"
    names = ("success", "attributes_kept", "layout_kept", "preservation", "product", "psnr")
    means = {name: round(float(np.mean([getattr(row, name) for row in rows])), 4) for name in names}
    products = np.array([row.product for row in rows])
    picks = np.random.default_rng(seed).integers(len(rows), size=(RESAMPLES, len(rows)))
    low, high = np.percentile(products[picks].mean(axis=1), [2.5, 97.5])
    return Score(scenes=len(rows), low=round(float(low), 4), high=round(float(high), 4), **means)


def scores_by_method(rows: Iterable[Measurement], seed: int) -> dict[str, dict[str, Score]]:
    """Compute scores by method and, within it, over all scenes ("all") and by kind of edit, in order of appearance."""
    found: dict[str, dict[str, list[Measurement]]] = {}
    for row in rows:
        kinds = found.setdefault(row.method, {OVERALL: []})
        kinds[OVERALL].append(row)
        kinds.setdefault(row.kind, []).append(row)
    return {method: {kind: score(chosen, seed) for kind, chosen in kinds.items()} for method, kinds in found.items()}


def overall_table(scores: dict[str, dict[str, Score]]) -> str:
    """Table in Markdown with one line for each method, over all scenes."""
    return _table(["method"], [([method], kinds[OVERALL], []) for method, kinds in scores.items()], [])


def kinds_table(scores: dict[str, dict[str, Score]]) -> str:
    """Table in Markdown by kind of edit: all figures of the first method, success x preservation of the others."""
    first, *others = scores
    lines = [
        ([kind], value, [_share(scores[name][kind].product) for name in others])
        for kind, value in sorted(scores[first].items())
        if kind != OVERALL
    ]
    return _table([f"{first}, by kind of edit"], lines, [f"{name}: s x p" for name in others])


def full_table(scores: dict[str, dict[str, Score]]) -> str:
    """Table in Markdown with one line for each kind of edit and method."""
    kinds = sorted(kind for kind in next(iter(scores.values())) if kind != OVERALL)
    return _table(
        ["kind", "method"], [([kind, method], scores[method][kind], []) for kind in kinds for method in scores], []
    )


def _table(left: list[str], lines: Sequence[tuple[list[str], Score, list[str]]], right: list[str]) -> str:
    """Format lines of names, a score and further cells under their headers."""
    shares = ["success", "attributes kept", "layout kept", "preservation"]
    header = [*left, "scenes", *shares, "success x preservation", "PSNR to target", *right]
    rows = [[*names, str(value.scenes), *_cells(value), *more] for names, value, more in lines]
    return markdown_table(header, rows, names=len(left))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, names: int = 1) -> str:
    """Format a table in Markdown whose columns also align as plain text.

    Args:
        header: titles of the columns.
        rows: cells, line by line.
        names: number of left-aligned columns of words; the others are right-aligned figures.
    """
    table = Table(box=MARKDOWN)
    for column, title in enumerate(header):
        table.add_column(title, justify="left" if column < names else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    stream = io.StringIO()
    Console(file=stream, width=1000, color_system=None, markup=False, emoji=False, highlight=False).print(table)
    return "\n".join(line for line in stream.getvalue().splitlines() if line.strip())


def _cells(value: Score) -> list[str]:
    shares = (value.success, value.attributes_kept, value.layout_kept, value.preservation)
    product = f"{_share(value.product)} ({_share(value.low)} to {_share(value.high)})"
    return [*map(_share, shares), product, f"{value.psnr:.1f} dB"]


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
