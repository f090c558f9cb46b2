"""What differs between two evaluations, and whether it is beyond chance."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ip2p.errors import DataError
from ip2p.evaluation.measures import MEASURES, Figures
from ip2p.evaluation.report import Evaluation
from ip2p.evaluation.scores import OVERALL, show
from ip2p.measuring.intervals import Difference, Interval, compare
from ip2p.measuring.tables import markdown_table

SAME_DATA = (
    "data", "samples", "seed", "measures", "judge_weights", "clip_weights", "clip_side", "clip_range", "clip_resize",
)  # fmt: skip
"""Facts that two evaluations must have in common for their figures to be comparable. What a judge or a CLIP is called
is none: the weights tell."""
MEASURED_BY = {
    "asked": ("asked", "asked_edit", "asked_kept", "asked_clean"),
    "dino_weights": tuple(name for name in MEASURES if "DINO" in name or "structure distance" in name),
}
"""Measures of a vision model and of DINO, compared where both evaluations had the same one."""


class Compared(NamedTuple):
    """A measure in two evaluations, over the samples that both have.

    Attributes:
        method: name of the method in both.
        kind: kind of edit, or "all".
        measure: name of the measure.
        first, second: its means.
        difference: second minus first, sample by sample, and whether that is beyond chance.
    """

    method: str
    kind: str
    measure: str
    first: float
    second: float
    difference: Difference


def compare_evaluations(first: Evaluation, second: Evaluation) -> list[Compared]:
    """Compare the methods that two evaluations have in common, sample by sample.

    Args:
        first, second: evaluations on the same data.

    Raises:
        DataError: they are of other data, or have no sample in common.
    """
    for name in SAME_DATA:
        if first.about.get(name) != second.about.get(name):
            told = " and ".join(_tell(each.about, name) for each in (first, second))
            raise DataError(
                f"the evaluations differ in {name}: {told}",
                "Evaluate both on the same data, with the same seed, CLIP and judge",
            )
    others = [whose for whose in MEASURED_BY if first.about.get(whose) != second.about.get(whose)]
    left_out = {name for whose in others for name in MEASURED_BY[whose]}
    measures = [name for name in MEASURES if name not in left_out]
    found = []
    shared_methods = [name for name in first.methods if name in second.methods]
    for method in shared_methods:
        before, after = first.methods[method].figures, second.methods[method].figures
        shared = {name: kind for name, kind in first.samples.items() if name in before and name in after}
        found += _compare(method, measures, shared, before, after, len(shared_methods))
    if not found:
        raise DataError("the evaluations have no sample in common", "Evaluate both on the same data and seed")
    return found


def _tell(about: Mapping[str, Any], name: str) -> str:
    """Tell a fact of an evaluation; beside a hash of weights, what has them."""
    value, model = about.get(name) or "none", about.get(name.removesuffix("_weights"))
    return f"{value} ({model})" if name.endswith("_weights") and about.get(name) and model else f"{value}"


def _compare(
    method: str,
    measures: Sequence[str],
    kinds: Mapping[str, str],
    before: Mapping[str, Figures],
    after: Mapping[str, Figures],
    methods: int,
) -> list[Compared]:
    """Compare all measures of a method on paired samples, over all kinds and by kind.

    The two are corrected each by itself, at half the level of each of the `methods`: what is asked first must not drown
    among the questions about kinds.
    """
    keys = list(product([OVERALL, *sorted(set(kinds.values()))], measures))
    rows = {}
    for kind, measure in keys:
        names = [name for name, own in kinds.items() if kind in (OVERALL, own)]
        both = [
            (before[name][measure], after[name][measure])
            for name in names if measure in before[name] and measure in after[name]
        ]  # fmt: skip
        if both:
            rows[f"{kind}/{measure}"] = np.array(both).T
    overall = {name for name in rows if name.startswith(f"{OVERALL}/")}
    families = [family for family in (overall, rows.keys() - overall) if family]
    differences = {
        name: found
        for family in families
        for name, found in compare(
            {name: tuple(rows[name]) for name in rows if name in family}, seed=0, families=methods * len(families)
        ).items()
    }
    return [
        Compared(method, kind, measure, float(each[0].mean()), float(each[1].mean()), differences[f"{kind}/{measure}"])
        for kind, measure in keys if (each := rows.get(f"{kind}/{measure}")) is not None
    ]  # fmt: skip


def comparison_table(compared: Sequence[Compared]) -> str:
    """Table in Markdown of all measures over all kinds, and of those by kind that differ beyond chance."""
    lines = [
        [
            each.method, each.kind, MEASURES[each.measure].title, str(each.difference.interval.rows),
            *(_show(value, each.measure) for value in (each.first, each.second)),
            show(each.difference.interval, MEASURES[each.measure]), f"{each.difference.adjusted:.3f}",
            "yes" if each.difference.beyond_chance else "no",
        ]
        for each in compared if each.kind == OVERALL or each.difference.beyond_chance
    ]  # fmt: skip
    header = ["method", "kind", "measure", "n", "first", "second", "second - first", "p (Holm)", "beyond chance"]
    return markdown_table(header, lines, names=3)


def _show(value: float, measure: str) -> str:
    return show(Interval(value, value, value, 1), MEASURES[measure], bounds=False)
