"""Decide which candidates are kept: thresholds of the scores, then the best of each triple by direction."""

import math
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from ip2p.data_gen.score_config import FilterConfig, Thresholds, judge_bounds
from ip2p.records import JUDGE_SCORES, NOT_SEEN_WHOLE, Candidate, Reason

LOWEST = dict.fromkeys(("layout", "changed", "shift", *JUDGE_SCORES), 0.0)
"""Lowest values of the scores that are no cosine, whose lowest is -1."""
HIGHEST = {"layout": math.inf, "shift": math.inf}
"""Highest values of scores of which it is not 1."""


class Bound(NamedTuple):
    """Bound that a threshold sets: on which column, from below or from above, and the reason of a refusal."""

    score: str
    is_least: bool
    reason: Reason

    @property
    def sign(self) -> str:
        """Sign between the score of a kept pair and the threshold."""
        return "≥" if self.is_least else "≤"

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest value of the score."""
        return LOWEST.get(self.score, -1.0), HIGHEST.get(self.score, 1.0)

    def can_refuse(self, limit: float | None) -> bool:
        """Whether some value of the score is beyond a threshold; None is no threshold."""
        low, high = self.ends
        return limit is not None and (limit > low if self.is_least else limit < high)


BOUNDS = {
    "source": Bound("sim_source", True, Reason.LOW_SOURCE),
    "edited": Bound("sim_edited", True, Reason.LOW_EDITED),
    "image": Bound("sim_image", True, Reason.LOW_IMAGE),
    "image_max": Bound("sim_image", False, Reason.HIGH_IMAGE),
    "direction": Bound("sim_direction", True, Reason.LOW_DIRECTION),
    "layout_max": Bound("layout", False, Reason.HIGH_LAYOUT),
    "changed_min": Bound("changed", True, Reason.LOW_CHANGED),
    "changed_max": Bound("changed", False, Reason.HIGH_CHANGED),
    "shift_max": Bound("shift", False, Reason.HIGH_SHIFT),
    "judge_edit_min": Bound("judge_edit", True, Reason.LOW_JUDGE_EDIT),
    "judge_kept_min": Bound("judge_kept", True, Reason.LOW_JUDGE_KEPT),
    "judge_clean_min": Bound("judge_clean", True, Reason.LOW_JUDGE_CLEAN),
}
"""Bounds by the `Thresholds`, in the order in which they are applied."""


def decide(
    candidates: Sequence[Candidate],
    kinds: Mapping[str, str],
    settings: FilterConfig,
    stored: Container[str] | None = None,
    *,
    judged: bool = False,
) -> list[Candidate]:
    """Set the status of every candidate and the first reason of its refusal (paper, section 3.1).

    The reasons are, in order: unsafe (found by the safety checker), rejected_early (while it was drawn), those of
    `BOUNDS`, not_stored (it passes, but its pictures were not stored), not_judged (a threshold asks for the judge's
    marks, and there are none), and not_top_k (a better one of the same seed counts, too).

    Args:
        candidates: scored candidates, all of each triple; earlier reasons other than the first two are ignored.
        kinds: kind of edit of each triple, by the triple's id.
        settings: thresholds for all kinds and for single ones, and the number of pairs kept for each triple.
        stored: ids of the candidates whose pictures are stored; None for all of them.
        judged: whether the judge has been asked; before that, pairs count as passing its thresholds.
    """
    reasons = {each.id: find_fault(each, settings.thresholds(kinds[each.triple_id])) for each in candidates}
    passed = defaultdict(list)
    for candidate in candidates:
        if reasons[candidate.id] is Reason.OK and stored is not None and candidate.id not in stored:
            reasons[candidate.id] = Reason.NOT_STORED
        if reasons[candidate.id] is Reason.OK:
            passed[candidate.triple_id].append(candidate)
    for triple, group in passed.items():
        asks, seeds = bool(judge_bounds(settings.thresholds(kinds[triple]))), set[int]()
        unknown = {each.id for each in group if asks and each.judge_edit is None}
        for each in sorted(group, key=lambda each: (judged and each.id in unknown, -each.sim_direction, each.id)):
            if each.id in unknown and each.judge_said:  # it was asked, and gave no verdict
                reasons[each.id] = Reason.NOT_JUDGED
            elif each.seed in seeds or len(seeds) == settings.top_k:  # those of a seed are all but the same
                reasons[each.id] = Reason.NOT_TOP_K
            else:
                seeds.add(each.seed)
                reasons[each.id] = Reason.NOT_JUDGED if judged and each.id in unknown else Reason.OK
    return [
        each.model_copy(
            update={"status": "ok" if reasons[each.id] is Reason.OK else "refused", "reason": reasons[each.id]}
        )
        for each in candidates
    ]


def find_fault(candidate: Candidate, bounds: Thresholds) -> Reason:
    """Return the first reason to refuse a candidate, or Reason.OK; NaN is outside of all bounds."""
    if candidate.reason in NOT_SEEN_WHOLE:
        return candidate.reason
    for name, bound in BOUNDS.items():
        value, limit = getattr(candidate, bound.score), getattr(bounds, name)
        if value is None:  # not judged, which `decide` looks at
            continue
        if limit is not None and not (value >= limit if bound.is_least else value <= limit):
            return bound.reason
    return Reason.OK
