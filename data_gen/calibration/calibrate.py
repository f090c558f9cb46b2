"""Calibrate the filter: thresholds for a wanted precision, chosen by one half of the labels and measured by the other.

Both halves are whole triples. What is written: calibration.yaml, a `filter` to put into a config, and calibration.html.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from ip2p.data_gen.calibration.labels import order
from ip2p.data_gen.calibration.search import (
    ALL_KINDS,
    MIN_KEPT,
    Box,
    Examples,
    Interval,
    choose_box,
    limits_of,
)  # fmt: skip
from ip2p.data_gen.config import Thresholds
from ip2p.data_gen.kinds import general_kind
from ip2p.data_gen.pairs.filter import BOUNDS
from ip2p.errors import ConfigError, DataError

OPEN = {
    "source": -1.0, "edited": -1.0, "image": -1.0, "image_max": 1.0, "direction": -1.0, "layout_max": 2.0,
    "changed_min": 0.0, "changed_max": 1.0, "shift_max": 1e6,
    "judge_edit_min": 0.0, "judge_kept_min": 0.0, "judge_clean_min": 0.0,
}  # fmt: skip
"""Limits that bound nothing."""


@dataclass(frozen=True)
class KindFigures:
    """Figures of a kind of edit, on the half that did not choose.

    Attributes:
        kind: kind of edit.
        labels: number of its labels.
        before: share of its candidates that are fine.
        kept: share of its candidates within the bounds.
        after: share of these that are fine.
    """

    kind: str
    labels: int
    before: Interval
    kept: float
    after: Interval


@dataclass(frozen=True)
class Calibration:
    """Thresholds, and what they are worth on the half of the labels that did not choose them.

    Attributes:
        wanted: wanted precision.
        reached: whether cross-validation on the choosing half found bounds that have it.
        origin: where the labels are from.
        box: bounds.
        labels: number of all labels.
        before: share of all candidates that are fine.
        kept: share of the candidates within the bounds.
        measured: share of these that are fine.
        kinds: figures by kind of edit.
    """

    wanted: float
    reached: bool
    origin: str
    box: Box
    labels: int
    before: Interval
    kept: float
    measured: Interval
    kinds: list[KindFigures]

    def __str__(self) -> str:
        asked = f"{100 * self.wanted:g}% fine pairs" + (
            "" if self.reached else " are out of reach of these scores; these come nearest"
        )
        return (
            f"{asked}: {self.measured} of the kept pairs are fine, {self.kept:.1%} of the candidates are kept "
            f"(all candidates: {self.before} fine); {self.labels} labels of {self.origin}, half of them to measure"
        )

    def fragment(self) -> dict[str, Any]:
        """Return the thresholds as the section `filter` of a config has them."""
        return filter_section(self.box, [each.kind for each in self.kinds])

    def to_yaml(self) -> str:
        """Write the thresholds as YAML, with what was measured as a comment."""
        comment = "".join(f"# {line}\n" for line in str(self).replace("; ", ";\n").splitlines())
        return comment + yaml.safe_dump(
            {"filter": self.fragment()}, sort_keys=False, default_flow_style=None, width=120
        )


def filter_section(box: Box, kinds: Sequence[str]) -> dict[str, Any]:
    """Return a box as the section `filter` of a config, which keeps what the box contains.

    Args:
        box: bounds.
        kinds: kinds of edit that may have bounds of their own.
    """
    limits = limits_of(box, kinds)
    common = limits[ALL_KINDS]
    needed = {name: OPEN[name] for name, field in Thresholds.model_fields.items() if field.default is not None}
    per_kind = {}
    for kind in kinds:
        # Kinds of storybook also take the bounds of their general kinds, unless they have their own.
        general = limits.get(general_kind(kind), {}) if general_kind(kind) != kind else {}
        if bounds := {name: common.get(name, OPEN[name]) for name in general} | limits[kind]:
            per_kind[kind] = bounds
    return needed | common | ({"per_kind": per_kind} if per_kind else {})


def require_share(precision: float) -> None:
    """Check a wanted precision, before anything is labelled.

    Raises:
        ConfigError: it is not between 0 and 1.
    """
    if not 0 < precision < 1:
        raise ConfigError(f"the precision {precision:g} is not between 0 and 1", "Give one such as 0.95")


def halves(examples: Examples) -> tuple[Examples, Examples]:
    """Split examples by their triples: those that choose, and those that measure."""
    first = np.array([int(order(str(group)), 16) % 2 == 0 for group in examples.groups])
    return examples.select(first), examples.select(~first)


def calibrate(examples: Examples, precision: float, origin: str) -> Calibration:
    """Choose thresholds by one half of the examples, and measure them by the other.

    Args:
        examples: labelled candidates.
        precision: wanted share of fine pairs among the kept ones, above 0 and below 1.
        origin: where the labels are from.

    Raises:
        ConfigError: the precision is no share.
        DataError: all of a half are fine, or none.
    """
    require_share(precision)
    choosing, measuring = halves(examples)
    if min(len(choosing), len(measuring)) < MIN_KEPT:
        raise DataError(f"the labels of {origin} are of too few triples to split", "Label pairs of more triples")
    choice = choose_box(choosing, precision)
    inside = choice.box.contains(measuring)
    return Calibration(
        wanted=precision, reached=choice.reached, origin=origin, box=choice.box, labels=len(examples),
        before=measuring.precision(np.ones(len(measuring), bool)), kept=measuring.share(inside),
        measured=measuring.precision(inside), kinds=_by_kind(examples, measuring, inside),
    )  # fmt: skip


def _by_kind(examples: Examples, measuring: Examples, inside: Any) -> list[KindFigures]:
    """Measure each kind of edit."""
    figures = []
    for kind in sorted({str(each) for each in examples.kinds}):
        of_kind = measuring.kinds == kind
        total = float(measuring.weights[of_kind].sum())
        figures.append(
            KindFigures(
                kind=kind,
                labels=int((examples.kinds == kind).sum()),
                before=measuring.precision(of_kind),
                kept=float(measuring.weights[of_kind & inside].sum()) / total if total else 0.0,
                after=measuring.precision(of_kind & inside),
            )
        )
    return figures


def explain_bounds(limits: Mapping[str, float]) -> str:
    """Write bounds as text, such as "direction ≥ 0.6"."""
    return ", ".join(
        f"{BOUNDS[name].score.removeprefix('sim_')} {BOUNDS[name].sign} {limit:g}" for name, limit in limits.items()
    )
