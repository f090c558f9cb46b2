"""Which of several edits of a picture does best what was asked, by CLIP: whether it has changed as the text has."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image

from ip2p.measuring.clip import ClipScorer

MIN_CHANGE = 1e-4
"""Length of a change of a unit vector that rounding alone makes."""


def direction_scores(
    clip: ClipScorer,
    source: Image.Image,
    edits: Sequence[Image.Image],
    instruction: str,
    captions: tuple[str, str] | None = None,
) -> list[float]:
    """How well the change of each edit points where the text does, in [-1, 1].

    The score is the cosine of the change of the picture and that of the text: edited caption minus caption where these
    are known; else the instruction's own vector, which tells much less to a CLIP that has learned from captions.

    Args:
        clip: that scores.
        source: the picture before.
        edits: pictures after, of any sizes.
        instruction: that they were made by.
        captions: of the picture before and after, if known.
    """
    if captions:
        count = len(edits)
        pairs = clip.scores([source] * count, edits, [captions[0]] * count, [captions[1]] * count)
        return [float(score) for score in pairs.direction]
    change = clip.embed_images(edits) - clip.embed_images([source])
    scores = F.cosine_similarity(change, clip.embed_texts([instruction]), dim=-1)
    return [float(score) for score in scores.where(change.norm(dim=-1) > MIN_CHANGE, 0.0)]


def best_index(scores: Sequence[float]) -> int:
    """Place of the highest score, the first of equal ones."""
    return int(torch.tensor(scores).argmax())
