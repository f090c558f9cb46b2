"""Differences, and whether they are beyond chance: two evaluations, the methods of one, and kinds of phrasings."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ip2p.errors import DataError
from ip2p.evaluation.measures import MEASURES, Figures
from ip2p.evaluation.methods import BOUND, COPY, EDITOR
from ip2p.evaluation.report import Evaluation, MethodReport
from ip2p.evaluation.results import Result
from ip2p.evaluation.samples import Sample
from ip2p.evaluation.scores import OVERALL, score_methods, show
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

LEADING = ("iou", "nearer", "product", "clip_direction", "clip_image")
"""Measures in which the editor is held against the other methods."""


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
    model = about.get(name.removesuffix("_weights"))
    return f"{about.get(name)} ({model})" if name.endswith("_weights") and model else f"{about.get(name)}"


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


def compare_others(methods: Mapping[str, MethodReport]) -> dict[str, dict[str, Difference]]:
    """Compare the editor with each other method that draws, by method and measure: the editor's figures minus theirs.

    The same samples are compared, and chances are corrected by Holm's method for all that is asked.

    Args:
        methods: methods in the order of the tables; the bound and the copy are left out.
    """
    others = [name for name in methods if name not in (EDITOR, BOUND, COPY)]
    if EDITOR not in methods or not others:
        return {}
    rows = {}
    for name, measure in product(others, LEADING):
        ours, theirs = methods[EDITOR].figures, methods[name].figures
        shared = [sample for sample, each in theirs.items() if measure in each and measure in ours.get(sample, {})]
        if shared:
            rows[name, measure] = np.array([(theirs[each][measure], ours[each][measure]) for each in shared]).T
    found = compare({f"{name}/{measure}": (pair[0], pair[1]) for (name, measure), pair in rows.items()}, seed=0)
    differences: dict[str, dict[str, Difference]] = {}
    for name, measure in rows:
        differences.setdefault(name, {})[measure] = found[f"{name}/{measure}"]
    return differences


def describe_others(methods: Mapping[str, MethodReport]) -> list[str]:
    """Say in which measures the editor is higher or lower than each other method that draws, a line for each.

    Args:
        methods: methods in the order of the tables; see `compare_others`.
    """
    return [
        f"{EDITOR} beside {name}, on the same samples: "
        + "; ".join(_describe_difference(measure, each) for measure, each in differences.items())
        for name, differences in compare_others(methods).items()
    ]


def _describe_difference(measure: str, found: Difference) -> str:
    figures = show(found.interval, MEASURES[measure], unit=True, signed=True)
    return f"{MEASURES[measure].title} {figures}, n {found.interval.rows}, {verdict_of(found)}"


def verdict_of(found: Difference) -> str:
    """Say whether a difference is beyond chance, and in which direction."""
    return "not beyond chance" if not found.beyond_chance else "higher" if found.interval.value > 0 else "lower"


def describe_phrasings(samples: Sequence[Sample], results: Sequence[Result], seed: int) -> list[str]:
    """Say what a method comes to where instructions have phrasings of the training, and where they have held-out ones.

    Args:
        samples: samples with their cases.
        results: results of the method.
        seed: seed of the bootstrap.
    """
    rephrased = {sample.name: sample.case.is_rephrased for sample in samples if sample.case}
    groups = {
        words: [each for each in results if rephrased.get(each.sample) is held_out and not each.fault]
        for words, held_out in (("phrased as in training", False), ("in held-out phrasings", True))
    }
    if not all(groups.values()):
        return []
    scores = score_methods(groups, seed)
    said = [
        f"{words} (n {len(groups[words])}): " + ", ".join(
            f"{MEASURES[name].title} {show(found[OVERALL][name], MEASURES[name], unit=True)}"
            for name in LEADING if name in found[OVERALL]
        )
        for words, found in scores.items()
    ]  # fmt: skip
    return [f"Instructions {'; '.join(said)}"]


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
