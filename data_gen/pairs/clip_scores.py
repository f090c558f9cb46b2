"""The four CLIP scores of every candidate; all are stored, so that thresholds can change without a GPU."""

from collections.abc import Sequence

from PIL import Image

from ip2p.measuring.clip import ClipScorer
from ip2p.records import Candidate, Triple


def score_candidates(
    candidates: Sequence[Candidate],
    images: Sequence[tuple[Image.Image, Image.Image]],
    triples: Sequence[Triple],
    scorer: ClipScorer,
) -> list[Candidate]:
    """Score candidates: similarities of captions and pictures, of the two pictures, and of the two changes.

    Args:
        candidates: candidates to score.
        images: source and edited picture of each.
        triples: triple of each.
        scorer: CLIP that scores.
    """
    if not candidates:
        return []
    measured = scorer.scores(
        [source for source, _ in images],
        [edited for _, edited in images],
        [triple.caption for triple in triples],
        [triple.edited_caption for triple in triples],
    )
    columns = {f"sim_{name}": values.tolist() for name, values in measured._asdict().items()}
    return [
        candidate.model_copy(update={name: round(values[row], 6) for name, values in columns.items()})
        for row, candidate in enumerate(candidates)
    ]
