"""The scores of every candidate; all are stored, so that thresholds can change without a GPU."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from ip2p.editing.changes import visible_share
from ip2p.measuring.alignment import find_shift
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.layout import DinoLayout
from ip2p.records import Candidate, Triple


class Scorers(NamedTuple):
    """The networks that score: CLIP, and DINOv2 for the layout where one is given."""

    clip: ClipScorer
    dino: DinoLayout | None = None


def score_candidates(
    candidates: Sequence[Candidate],
    images: Sequence[tuple[Image.Image, Image.Image]],
    triples: Sequence[Triple],
    scorers: Scorers,
) -> list[Candidate]:
    """Score candidates, in any order and number; a candidate's scores depend on no other candidate.

    These are the similarities of captions and pictures, of the two pictures, and of the two changes by CLIP; the
    distance of the layouts, by DINOv2 or else by the agreement of the edges; the share of pixels that differ visibly;
    and the shift in pixels.

    Args:
        candidates: candidates to score.
        images: source and edited picture of each.
        triples: triple of each.
        scorers: networks that score.
    """
    if not candidates:
        return []
    before, after = [source for source, _ in images], [edited for _, edited in images]
    measured = scorers.clip.scores(
        before, after, [triple.caption for triple in triples], [triple.edited_caption for triple in triples]
    )
    shifts = [find_shift(*pair) for pair in images]
    columns = {f"sim_{name}": values.tolist() for name, values in measured._asdict().items()} | {
        "layout": scorers.dino.distances(before, after) if scorers.dino else [1 - each.agreement for each in shifts],
        "changed": [visible_share(*pair) for pair in images],
        "shift": [each.length for each in shifts],
    }
    return [
        candidate.model_copy(update={name: round(values[row], 6) for name, values in columns.items()})
        for row, candidate in enumerate(candidates)
    ]
