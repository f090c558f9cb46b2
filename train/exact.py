"""Pixel truth of a run: its edits of held-out scenes against their exact targets, as its model card leads with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ip2p.train.metrics import read_metrics

NAMES = ("pixel_truth", "pixel_accuracy", "pixel_preservation")
"""Names of the figures in metrics.jsonl."""


class ExactFigures(NamedTuple):
    """Mean figures of a validation, 0 to 1.

    Attributes:
        step: optimizer steps before it.
        truth: IoU of the pixels that should change and those that do, where they are right.
        accuracy: share of the pixels to change that are as in the exact target.
        preservation: share of the other pixels that are as in the input.
    """

    step: int
    truth: float
    accuracy: float
    preservation: float


def exact_figures(step: int, figures: Mapping[str, int | float]) -> ExactFigures | None:
    """Return the figures of a validation; None where it measured none."""
    if not set(NAMES) <= figures.keys():
        return None
    return ExactFigures(step, *(float(figures[name]) for name in NAMES))


def read_exact(metrics: Path) -> ExactFigures | None:
    """Read the latest figures in a metrics.jsonl; None where there are none."""
    found = (exact_figures(int(row["step"]), row) for row in reversed(read_metrics(metrics)))
    return next((each for each in found if each), None)
