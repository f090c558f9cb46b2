"""Which of several edits of one picture did best what was asked, by CLIP's direction: cos(change of picture, of text)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image

from ip2p.errors import InstructionError
from ip2p.similarity import ClipScorer


def direction_scores(
    clip: ClipScorer,
    source: Image.Image,
    edits: Sequence[Image.Image],
    instruction: str,
    captions: tuple[str, str] | None = None,
) -> list[float]:
    """How well the change of each edit points where the text does, in [-1, 1].

    The change of the text is edited caption minus caption where these are known. Else it is the instruction's own vector,
    which tells CLIP, who learned from captions, much less.

    Args:
        clip: that scores.
        source: the picture before.
        edits: pictures after, of any sizes.
        instruction: that they were made by.
        captions: of the picture before and after, if known.

    Raises:
        InstructionError: both captions are the same.
    """
    if captions and captions[0].split() == captions[1].split():
        raise InstructionError(
            f"both captions are {captions[0]!r}", "Say in the edited caption what is to be different"
        )
    if captions:
        count = len(edits)
        scores = clip.scores([source] * count, edits, [captions[0]] * count, [captions[1]] * count)
        return [float(score) for score in scores.direction]
    change = clip.embed_images(edits) - clip.embed_images([source])
    return [float(score) for score in F.cosine_similarity(change, clip.embed_texts([instruction]), dim=-1)]


def best(scores: Sequence[float]) -> int:
    """Place of the highest score, the first of equal ones."""
    return int(torch.tensor(scores).argmax())
