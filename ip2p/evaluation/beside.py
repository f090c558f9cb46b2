"""The editor beside the other methods of an evaluation, and its edits by phrasing of the instruction."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from ip2p.evaluation.measures import MEASURES, Figures
from ip2p.evaluation.methods import BOUND, COPY, EDITOR
from ip2p.evaluation.results import Result
from ip2p.evaluation.samples import Sample
from ip2p.evaluation.scores import OVERALL, score_methods, show
from ip2p.measuring.intervals import Difference, Interval, compare

LEADING = ("iou", "nearer", "product", "clip_direction", "clip_image")
"""Measures in which the editor is held against the other methods."""
Differences = dict[str, dict[str, Difference]]
"""The editor's figures minus those of other methods, by method and measure."""
Phrasings = dict[str, dict[str, Interval]]
"""Means by how instructions are phrased, and by measure."""


def compare_others(figures: Mapping[str, Mapping[str, Figures]]) -> Differences:
    """Compare the editor with each other method that draws: the editor's figures minus theirs.

    The same samples are compared, and chances are corrected by Holm's method for all that is asked.

    Args:
        figures: figures of each sample, by method in the order of the tables; the bound and the copy are left out.
    """
    others = [name for name in figures if name not in (EDITOR, BOUND, COPY)]
    if EDITOR not in figures or not others:
        return {}
    rows = {}
    for name, measure in product(others, LEADING):
        ours, theirs = figures[EDITOR], figures[name]
        shared = [sample for sample, each in theirs.items() if measure in each and measure in ours.get(sample, {})]
        if shared:
            rows[name, measure] = np.array([(theirs[each][measure], ours[each][measure]) for each in shared]).T
    found = compare({f"{name}/{measure}": (pair[0], pair[1]) for (name, measure), pair in rows.items()}, seed=0)
    differences: Differences = {}
    for name, measure in rows:
        differences.setdefault(name, {})[measure] = found[f"{name}/{measure}"]
    return differences


def describe_others(differences: Differences) -> list[str]:
    """Say in which measures the editor is higher or lower than each other method, a line for each."""
    return [
        f"{EDITOR} beside {name}, on the same samples: "
        + "; ".join(_describe_difference(measure, each) for measure, each in found.items())
        for name, found in differences.items()
    ]


def _describe_difference(measure: str, found: Difference) -> str:
    figures = show(found.interval, MEASURES[measure], unit=True, signed=True)
    return f"{MEASURES[measure].title} {figures}, n {found.interval.rows}, {verdict_of(found)}"


def verdict_of(found: Difference) -> str:
    """Say whether a difference is beyond chance, and in which direction."""
    return "not beyond chance" if not found.beyond_chance else "higher" if found.interval.value > 0 else "lower"


def score_phrasings(samples: Sequence[Sample], results: Sequence[Result], seed: int) -> Phrasings:
    """Compute means where instructions are phrased as in training, and where they have held-out phrasings.

    Args:
        samples: samples with their cases.
        results: results of a method.
        seed: seed of the bootstrap.

    Returns:
        Means of the leading measures; nothing unless there are results of both.
    """
    rephrased = {sample.name: sample.case.is_rephrased for sample in samples if sample.case}
    groups = {
        words: [each for each in results if rephrased.get(each.sample) is held_out and not each.fault]
        for words, held_out in (("phrased as in training", False), ("in held-out phrasings", True))
    }
    if not all(groups.values()):
        return {}
    means = {
        words: {name: found[OVERALL][name] for name in LEADING if name in found[OVERALL]}
        for words, found in score_methods(groups, seed).items()
    }
    return means if all(means.values()) else {}


def describe_phrasings(phrasings: Phrasings) -> list[str]:
    """Say in one line what a method comes to in each kind of phrasing; no line if there is none."""
    said = [
        f"{words} (n {max((each.rows for each in found.values()), default=0)}): "
        + ", ".join(f"{MEASURES[name].title} {show(each, MEASURES[name], unit=True)}" for name, each in found.items())
        for words, found in phrasings.items()
    ]
    return [f"Instructions {'; '.join(said)}"] if said else []
