"""calibration.html: thresholds, what they are worth, and curves of precision over recall by score and kind of edit."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ip2p.data_gen.calibration.calibrate import Calibration, explain_bounds, halves
from ip2p.data_gen.calibration.search import MIN_OF_KIND, Examples, fits_bound, follow_path, limits_of
from ip2p.data_gen.pairs.filter import BOUNDS
from ip2p.pictures.pages import Chart, Curve, render_page

TEMPLATE = Path(__file__).with_name("calibration.html")
WIDTH, HEIGHT = 170, 90
POINTS = 24
"""Thresholds that a curve shows."""
COLOR = "#37a"


def render_calibration(calibration: Calibration, examples: Examples) -> str:
    """Render the page as HTML.

    Args:
        calibration: thresholds and figures.
        examples: all labelled candidates.
    """
    kinds = [each.kind for each in calibration.kinds]
    shown = [kind for kind in kinds if (examples.kinds == kind).sum() >= MIN_OF_KIND]
    groups = {"all kinds": np.ones(len(examples), bool)} | {kind: examples.kinds == kind for kind in shown}
    limits = limits_of(calibration.box, kinds)
    return render_page(
        TEMPLATE, title="Calibration of the filter",
        facts={
            "wanted": f"{100 * calibration.wanted:g}% of the kept pairs fine",
            "measured": f"{calibration.measured} fine, {calibration.kept:.1%} of the candidates kept",
            "all candidates": f"{calibration.before} fine",
            "labels": f"{calibration.labels} of {calibration.origin}",
        },
        calibration=calibration, path=_path_chart(calibration, examples), fragment=calibration.to_yaml(),
        bounds={kind or "all kinds": explain_bounds(each) for kind, each in limits.items() if each},
        charts={
            name: [_curve_chart(examples.select(rows), bound, calibration.wanted) for bound in examples.bounds]
            for name, rows in groups.items()
        },
    )  # fmt: skip


def curve(examples: Examples, bound: str) -> list[tuple[float, float]]:
    """Return recall and precision at thresholds of one score, from the one that keeps all to the tightest.

    Args:
        examples: labelled candidates.
        bound: name of the bound.
    """
    values = examples.values(bound)
    if np.isnan(values).all():  # the judge was asked about none of this kind
        return []
    places = np.linspace(0, 1, POINTS, endpoint=False)
    points = []
    for limit in np.nanquantile(values, places if BOUNDS[bound].is_least else 1 - places):
        points.append(_recall_and_precision(examples, fits_bound(values, bound, float(limit))))
    return points


def _recall_and_precision(examples: Examples, kept: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Share of the fine candidates that are kept, and share of the kept ones that are fine."""
    weights, fine = examples.weights, examples.fine
    good = float(weights[kept & fine].sum())
    return good / max(float(weights[fine].sum()), 1e-9), good / max(float(weights[kept].sum()), 1e-9)


def _curve_chart(examples: Examples, bound: str, wanted: float) -> Chart:
    """Plot precision over recall for one score, with the wanted precision as a gray line."""
    name, sign = BOUNDS[bound].score.removeprefix("sim_"), BOUNDS[bound].sign
    return Chart(
        WIDTH, HEIGHT, x=(0, 1), y=(0, 1), title=f"{name} {sign}", right="recall, 0 to 1", top="precision, 0 to 1",
        curves=[Curve([(0, wanted), (1, wanted)], "#bbb", 0), Curve(curve(examples, bound), COLOR, 0)],
    )  # fmt: skip


def _path_chart(calibration: Calibration, examples: Examples) -> Chart:
    """Plot precision over recall as the bounds grow tighter, on the half that did not choose them."""
    choosing, measuring = halves(examples)
    points = [_recall_and_precision(measuring, step.box.contains(measuring)) for step in follow_path(choosing)]
    chosen = _recall_and_precision(measuring, calibration.box.contains(measuring))
    line = Curve([(0, calibration.wanted), (1, calibration.wanted)], "#bbb", 0)
    return Chart(
        3 * WIDTH, 3 * HEIGHT, x=(0, 1), y=(0, 1), ticks=True, top="precision: share of the kept pairs that is fine",
        right="recall: share of the fine pairs that is kept", bounds=[chosen[0]],
        curves=[line, Curve(points, COLOR, 2)],
        legend=[
            ("all bounds together, ever tighter", COLOR),
            ("the chosen bounds", "#a33"),
            ("the wanted precision", "#bbb"),
        ],
    )  # fmt: skip
