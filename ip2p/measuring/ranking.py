"""Rank several edits of a picture by CLIP's directional similarity."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image

from ip2p.measuring.clip import ClipScorer

MIN_CHANGE = 1e-4
"""Upper bound of the change of a unit vector that rounding can cause."""


def direction_scores(
    clip: ClipScorer,
    source: Image.Image,
    edits: Sequence[Image.Image],
    instruction: str,
    captions: tuple[str, str] | None = None,
) -> list[float]:
    """Directional similarity of each edit, in [-1, 1].

    The score is the cosine between the change of the picture's embedding and that of the text's: edited caption minus
    caption if these are known; else the embedding of the instruction, which is less reliable, as CLIP learns from
    captions.

    Args:
        clip: CLIP model.
        source: picture before the edit.
        edits: edited pictures of any sizes.
        instruction: instruction of the edits.
        captions: captions before and after the edit, if known.
    """
    if captions:
        count = len(edits)
        pairs = clip.scores([source] * count, edits, [captions[0]] * count, [captions[1]] * count)
        return [float(score) for score in pairs.direction]
    change = clip.embed_images(edits) - clip.embed_images([source])
    scores = F.cosine_similarity(change, clip.embed_texts([instruction]), dim=-1)
    return [float(score) for score in scores.where(change.norm(dim=-1) > MIN_CHANGE, 0.0)]


def best_index(scores: Sequence[float]) -> int:
    """Index of the highest score, the first of equal ones."""
    return int(torch.tensor(scores).argmax())
