"""The judge's verdicts on pairs of pictures: whether an edit happened, and nothing but the edit.

Two readings of one value may differ where the judge is in doubt, such as of a roof that is brown or red. So what it
holds likely is compared, and the bounds are those at which exact pairs are fine and pairs with one more change are not;
see docs/decisions.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image

from ip2p.pictures.tensors import to_tensor
from ip2p.storybook.edits import edit_between_captions
from ip2p.storybook.judge import Judge
from ip2p.storybook.scene import ATTRIBUTES, Edit

HAPPENED = 0.3
"""Probability of the requested value in the second picture from which an edit has happened."""
ALIKE = 0.3
"""Overlap of the probabilities of an attribute's values in both pictures from which these are alike."""
MAX_MOVED = 0.08
"""Movement of the layout, in fractions of the side, from which a pair is not fine."""


class Verdict(NamedTuple):
    """The judge's verdict on one pair.

    Attributes:
        fine: whether the edit happened, all other attributes are alike, and the layout moved by less than MAX_MOVED.
        happened: whether the second picture shows the requested value.
        alike: share of the other attributes that are alike in both pictures.
    """

    fine: bool
    happened: bool
    alike: float


def judge_pairs(judge: Judge, edits: Sequence[Edit], pairs: Sequence[tuple[Image.Image, Image.Image]]) -> list[Verdict]:
    """Judge pairs of storybook pictures of one size by what the judge reads from both.

    Args:
        judge: judge that reads the pictures.
        edits: edit of each pair.
        pairs: picture before and after each edit.
    """
    if not pairs:
        return []
    before, after = (judge.believe(to_tensor(each)) for each in zip(*pairs, strict=True))
    moved = (before.layout - after.layout).abs().amax(1).tolist()
    overlaps = {
        name: torch.minimum(before.attributes[name], after.attributes[name]).sum(-1).tolist() for name in ATTRIBUTES
    }
    found = []
    for row, edit in enumerate(edits):
        value = ATTRIBUTES[edit.attribute].index(edit.value)
        happened = float(after.attributes[edit.attribute][row, value]) >= HAPPENED
        alike = [overlaps[name][row] >= ALIKE for name in ATTRIBUTES if name != edit.attribute]
        fine = happened and all(alike) and moved[row] < MAX_MOVED
        found.append(Verdict(fine, happened, sum(alike) / len(alike)))
    return found


def label_pairs(
    judge: Judge, captions: Sequence[tuple[str, str]], pairs: Sequence[tuple[Image.Image, Image.Image]]
) -> list[bool | None]:
    """Label pairs as fine or not; None where the captions are no edit of a storybook scene.

    Args:
        judge: judge that reads the pictures.
        captions: caption before and after each edit.
        pairs: picture before and after each edit, all of one size.
    """
    edits = [edit_between_captions(*each) for each in captions]
    known = [row for row, edit in enumerate(edits) if edit]
    verdicts = judge_pairs(judge, [edit for edit in edits if edit], [pairs[row] for row in known])
    labels: list[bool | None] = [None] * len(pairs)
    for row, verdict in zip(known, verdicts, strict=True):
        labels[row] = verdict.fine
    return labels
