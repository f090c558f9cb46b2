"""Preference pairs: siblings of one triple, one kept and one refused, for training that learns from both."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from datasets import Features, Image, Value

from ip2p.data_gen.pairs.pack import instruction_of, provenance_of
from ip2p.pictures.write import GENERATED, mark_png
from ip2p.records import NOT_SEEN_WHOLE, Candidate, Reason, Triple

PICTURES = ("original_image", "chosen", "rejected", "rejected_original_image")
FEATURES = Features(
    {name: Image() for name in PICTURES}
    | {
        name: Value("string")
        for name in (
            "edit_prompt", "original_prompt", "edited_prompt", "reason", "kind", "chosen_id", "rejected_id",
            "provenance",
        )
    }
)  # fmt: skip
"""Columns of preference pairs; both original pictures are the same where siblings share their noise."""
NO_FAULT = (*NOT_SEEN_WHOLE, Reason.NOT_TOP_K, Reason.NOT_JUDGED)
"""Reasons of refusals that say nothing about an edit."""


class Preference(NamedTuple):
    """A kept candidate and a refused sibling."""

    chosen: Candidate
    rejected: Candidate


def pair_siblings(candidates: Iterable[Candidate]) -> Iterator[Preference]:
    """Pair each refused candidate with a kept one of its triple: one of the same noise, or else the best by direction.

    Args:
        candidates: decided candidates whose pictures are stored.
    """
    kept: dict[str, list[Candidate]] = {}
    refused = []
    for each in candidates:
        if each.status == "ok":
            kept.setdefault(each.triple_id, []).append(each)
        elif each.reason not in NO_FAULT:
            refused.append(each)
    for each in refused:
        if siblings := kept.get(each.triple_id):
            yield Preference(max(siblings, key=lambda other: (other.seed == each.seed, other.sim_direction)), each)


def preference_row(
    pair: Preference, triple: Triple, images: Mapping[str, Mapping[str, Any]], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Make a row of the preference pairs.

    Args:
        pair: candidates.
        triple: triple of both.
        images: stored pictures, by id of the candidate and column.
        provenance: models, versions and settings that made the pairs.
    """
    chosen, rejected = images[pair.chosen.id], images[pair.rejected.id]
    pictures = (
        chosen["original_image"], chosen["edited_image"], rejected["edited_image"], rejected["original_image"]
    )  # fmt: skip
    return {
        name: {"bytes": mark_png(each["bytes"], GENERATED), "path": None}
        for name, each in zip(PICTURES, pictures, strict=True)
    } | {
        "edit_prompt": instruction_of(pair.chosen, triple),
        "original_prompt": triple.caption,
        "edited_prompt": triple.edited_caption,
        "reason": pair.rejected.reason.value,
        "kind": triple.kind,
        "chosen_id": pair.chosen.id,
        "rejected_id": pair.rejected.id,
        "provenance": provenance_of(triple, provenance),
    }
