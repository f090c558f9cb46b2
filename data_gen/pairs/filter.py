"""Decide which candidates are kept: thresholds of the four scores, then the best of each triple by direction."""

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence

from ip2p.data_gen.config import FilterConfig, Thresholds
from ip2p.records import Candidate, Reason


def decide(
    candidates: Sequence[Candidate],
    kinds: Mapping[str, str],
    settings: FilterConfig,
    stored: Container[str] | None = None,
) -> list[Candidate]:
    """Set the status of every candidate and the first reason of its refusal (paper, section 3.1).

    The reasons are, in order: unsafe (found by the safety checker), rejected_early (while it was drawn), low_source,
    low_edited, low_image, high_image (hardly anything was edited), low_direction, not_stored (it passes, but its
    pictures were not stored), not_top_k (a better one of the same seed counts, too).

    Args:
        candidates: scored candidates, all of each triple; earlier reasons other than the first two are ignored.
        kinds: kind of edit of each triple, by the triple's id.
        settings: thresholds for all kinds and for single ones, and the number of pairs kept for each triple.
        stored: ids of the candidates whose pictures are stored; None for all of them.
    """
    reasons = {each.id: find_fault(each, settings.thresholds(kinds[each.triple_id])) for each in candidates}
    passed = defaultdict(list)
    for candidate in candidates:
        if reasons[candidate.id] is Reason.OK and stored is not None and candidate.id not in stored:
            reasons[candidate.id] = Reason.NOT_STORED
        if reasons[candidate.id] is Reason.OK:
            passed[candidate.triple_id].append(candidate)
    for group in passed.values():
        best_first = sorted(group, key=lambda each: (-each.sim_direction, each.id))
        best_of_seed = {each.seed: each.id for each in reversed(best_first)}  # those of a seed are all but the same
        kept = [each.id for each in best_first if best_of_seed[each.seed] == each.id][: settings.top_k]
        reasons |= {each.id: Reason.NOT_TOP_K for each in group if each.id not in kept}
    return [
        each.model_copy(
            update={"status": "ok" if reasons[each.id] is Reason.OK else "refused", "reason": reasons[each.id]}
        )
        for each in candidates
    ]


def find_fault(candidate: Candidate, bounds: Thresholds) -> Reason:
    """Return the first reason to refuse a candidate, or Reason.OK; NaN is below every threshold."""
    if candidate.reason in (Reason.UNSAFE, Reason.REJECTED_EARLY):
        return candidate.reason
    if not candidate.sim_source >= bounds.source:
        return Reason.LOW_SOURCE
    if not candidate.sim_edited >= bounds.edited:
        return Reason.LOW_EDITED
    if not candidate.sim_image >= bounds.image:
        return Reason.LOW_IMAGE
    if candidate.sim_image > bounds.image_max:
        return Reason.HIGH_IMAGE
    return Reason.OK if candidate.sim_direction >= bounds.direction else Reason.LOW_DIRECTION
