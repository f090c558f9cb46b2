"""Inverse pairs: a kept pair the other way round, which costs no drawing where an instruction undoes its edit."""

import json
from collections.abc import Mapping
from typing import Any

from ip2p.data_gen.config import ChecksConfig, FilterConfig
from ip2p.data_gen.kinds import inverse_kind
from ip2p.data_gen.pairs.filter import find_fault
from ip2p.data_gen.pairs.pack import JUDGE
from ip2p.data_gen.score_config import judge_bounds
from ip2p.data_gen.triples.checks import find_fault as find_text_fault
from ip2p.data_gen.triples.proposals import Proposal
from ip2p.records import JUDGE_SCORES, Candidate, Reason, Triple, content_id

SWAPPED = {
    "original_prompt": "edited_prompt", "original_image": "edited_image", "sim_source": "sim_edited",
}  # fmt: skip
"""Columns that change places; all other scores are the same in both directions."""


def swap_scores(candidate: Candidate) -> Candidate:
    """Return the candidate the other way round: both changes turn, so that their direction stays.

    It has no verdict, for the judge has not seen the pair this way round, nor read this instruction.
    """
    swapped = {"sim_source": candidate.sim_edited, "sim_edited": candidate.sim_source}
    unjudged = dict.fromkeys(JUDGE_SCORES) | {"judge_said": ""}
    return candidate.model_copy(update=swapped | unjudged | {"id": content_id("inverse", candidate.id)})


def find_inverse_fault(candidate: Candidate, triple: Triple, checks: ChecksConfig, bounds: FilterConfig) -> Reason:
    """Return the reason why a kept pair has no inverse one, or Reason.OK.

    The instruction has to pass the checks of any triple, and the pair the thresholds of its own kind. If these ask for
    marks of the judge, it is not judged.

    Args:
        candidate: kept candidate.
        triple: its triple.
        checks: checks of triples.
        bounds: thresholds of the filter.
    """
    if not triple.inverse:
        return Reason.NO_INVERSE
    kind = inverse_kind(triple.kind)
    fault = find_text_fault(triple.edited_caption, Proposal(triple.inverse, triple.caption, kind), checks)
    own = bounds.thresholds(kind)
    return fault or find_fault(swap_scores(candidate), own) or (Reason.NOT_JUDGED if judge_bounds(own) else Reason.OK)


def inverse_row(row: Mapping[str, Any], triple: Triple) -> dict[str, Any]:
    """Make the packed row of the inverse pair.

    Args:
        row: packed row of a pair.
        triple: its triple, which has an inverse instruction.
    """
    swapped = {ours: row[theirs] for pair in SWAPPED.items() for ours, theirs in (pair, pair[::-1])}
    own = {"id": content_id("inverse", row["id"]), "inverse_of": row["id"], "edit_prompt": triple.inverse}
    told = {name: value for name, value in json.loads(row["provenance"]).items() if name != JUDGE}
    own |= {"kind": inverse_kind(triple.kind), "provenance": json.dumps(told, ensure_ascii=False)}
    return {**row, **swapped, **own}
