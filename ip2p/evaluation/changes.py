"""Unasked changes: by kind of edit, how often the judge reads another value of each attribute.

The judge misreads, too. What it reads otherwise from exact targets through the autoencoder stands beside: only what
exceeds that is the editor's.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ip2p.evaluation.results import Result
from ip2p.evaluation.samples import Sample
from ip2p.storybook.edits import Case
from ip2p.storybook.scene import ATTRIBUTES


class Moved(NamedTuple):
    """Share of edits after which an attribute that was not to change was read otherwise.

    Attributes:
        share: share of the edits, 0 to 1.
        floor: the same of exact targets; None where these were not measured.
        edits: number of edits.
    """

    share: float
    floor: float | None
    edits: int


Matrix = dict[str, dict[str, Moved]]
"""Unasked changes by kind of edit and attribute; an edited attribute is left out."""
UNMEASURED = {
    "viewpoint": "scenes have one viewpoint, and no instruction asks for another",
    "isolating one of two objects": "a scene has one building and one animal at most",
    "swapping two objects": "a building and an animal have places of their own",
    "counting": "things of a scene are single",
}
"""Probes of which an evaluation on storybook says nothing, and why."""


def moved_attributes(
    samples: Sequence[Sample], results: Sequence[Result], exact: Sequence[Result] | None = None
) -> Matrix:
    """Count what moved.

    Args:
        samples: samples with their cases.
        results: results of a method that the judge has read.
        exact: results of exact targets through the autoencoder.
    """
    cases = {sample.name: sample.case for sample in samples if sample.case}
    read, floor = (_by_kind(each, cases.keys()) for each in (results, exact or ()))
    matrix: Matrix = {}
    for kind, rows in sorted(read.items()):
        for name in ATTRIBUTES:
            chosen = [row for row in rows if cases[row.sample].edit.attribute != name]
            others = [row for row in floor.get(kind, []) if cases[row.sample].edit.attribute != name]
            if chosen:
                least = _share_moved(others, name, cases) if others else None
                matrix.setdefault(kind, {})[name] = Moved(_share_moved(chosen, name, cases), least, len(chosen))
    return matrix


def _share_moved(rows: Sequence[Result], name: str, cases: Mapping[str, Case]) -> float:
    """Share of the rows in which the judge reads another value of an attribute than the scene has."""
    return round(sum(row.read[name] != cases[row.sample].scene.attributes[name] for row in rows) / len(rows), 4)


def _by_kind(results: Sequence[Result], known: Collection[str]) -> dict[str, list[Result]]:
    """Group the results that the judge has read by kind."""
    found: dict[str, list[Result]] = {}
    for each in results:
        if each.read and each.sample in known:
            found.setdefault(each.kind, []).append(each)
    return found
