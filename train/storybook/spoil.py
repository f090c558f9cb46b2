"""Spoiled training pictures for the judge: melted, smeared, blurred, half changed, or blended.

Undertrained models draw such pictures, and a judge trained on clean ones alone would read a clear value from them.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ip2p.storybook.edits import edit_between
from ip2p.storybook.judge import IGNORED, OBJECTS, attribute_target, whole_target
from ip2p.storybook.render import ANIMAL_FOOT, ANIMAL_HEIGHT, FLYER_HEIGHT
from ip2p.storybook.scene import ATTRIBUTES, Scene

Box = tuple[float, float, float, float]

ATTRIBUTE_NAMES = tuple(ATTRIBUTES)
DEPENDENT_ATTRIBUTES = {"building": ("color", "roof", "door")}
"""Attributes that cannot be read once an object has lost its shape."""
LARGE_ATTRIBUTES = ("place", "weather")
"""Attributes of the whole picture, of which half still resembles the whole."""
LARGE_SHARE = 0.5
"""Share of the pictures with an edit of these that are mixed with the edited one, besides those of SPOILED_SHARES."""

SPOILED_SHARES = {"between": 0.15, "half": 0.12, "melted": 0.1, "smeared": 0.08, "vague": 0.05}
"""Share of the pictures spoiled in each way; the others stay clean."""

SOFT_EDGE_WIDTH = 0.05  # width of the soft edge of a spoiled region, as a share of the picture's side
REGION_MARGIN = 0.15  # margin around an object's region, as a share of the object's size
MAX_CLEAN_BLEND = 0.12  # share of another picture up to which a blend still shows the first one


class JudgeExample(NamedTuple):
    """A picture with the targets of the judge.

    Attributes:
        picture: picture in [-1, 1], shape (3, h, w).
        attributes: index of each attribute's value, in the order of `ATTRIBUTES`; the number of values where it is
            unclear, and `IGNORED` where it is unknown.
        whole: 1 for each of `OBJECTS` that is whole, 0 if it is not, and `IGNORED` where it is unknown.
    """

    picture: Float[Tensor, "3 h w"]
    attributes: list[int]
    whole: list[int]

    def unclear(self, *names: str) -> "JudgeExample":
        """Return the example with these attributes unclear, and objects among them not whole."""
        attributes = [
            len(ATTRIBUTES[name]) if name in names else target
            for name, target in zip(ATTRIBUTE_NAMES, self.attributes, strict=True)
        ]
        whole = [0 if name in names else target for name, target in zip(OBJECTS, self.whole, strict=True)]
        return self._replace(attributes=attributes, whole=whole)

    def ignoring(self, *names: str) -> "JudgeExample":
        """Return the example with these attributes left out of the loss."""
        return self._replace(
            attributes=[
                IGNORED if name in names else target
                for name, target in zip(ATTRIBUTE_NAMES, self.attributes, strict=True)
            ]
        )


def clean_example(picture: Float[Tensor, "3 h w"], scene: Scene) -> JudgeExample:
    """Make an example of a clean picture."""
    return JudgeExample(picture, attribute_target(scene), whole_target(scene))


def spoil_picture(
    example: JudgeExample, scene: Scene, other: Float[Tensor, "3 h w"], edited: Scene, rng: random.Random
) -> JudgeExample:
    """Spoil a picture in one of the ways of `SPOILED_SHARES`, or leave it clean.

    Args:
        example: clean example.
        scene: scene of its picture.
        other: picture of `edited`, in [-1, 1], shape (3, h, w).
        edited: the scene after an edit of one attribute.
        rng: random generator.
    """
    if edit_between(scene, edited).attribute in LARGE_ATTRIBUTES and rng.random() < LARGE_SHARE:
        return rng.choice((blend_pictures, join_pictures))(example, scene, other, edited, rng)
    drawn = rng.random()
    for way, share in SPOILED_SHARES.items():
        drawn -= share
        if drawn < 0:
            if way in ("between", "half"):
                return (blend_pictures if way == "between" else join_pictures)(example, scene, other, edited, rng)
            return (blur_picture if way == "vague" else _OBJECT_SPOILERS[way])(example, scene, rng)
    return example


def blend_pictures(
    example: JudgeExample, scene: Scene, other: Float[Tensor, "3 h w"], edited: Scene, rng: random.Random
) -> JudgeExample:
    """Blend both pictures; the edited attribute is unclear, unless one of them is hardly visible."""
    strong = rng.random() < 0.75
    share = rng.uniform(0.35, 0.65) if strong else rng.uniform(0, MAX_CLEAN_BLEND)
    blended = example._replace(picture=torch.lerp(example.picture, other, share))
    return blended.unclear(edit_between(scene, edited).attribute) if strong else blended


def join_pictures(
    example: JudgeExample, scene: Scene, other: Float[Tensor, "3 h w"], edited: Scene, rng: random.Random
) -> JudgeExample:
    """Join the two pictures along a line through the edited object; the edited attribute is unclear."""
    name = edit_between(scene, edited).attribute
    thing = "building" if name in DEPENDENT_ATTRIBUTES["building"] else name
    if thing in OBJECTS:
        shown = scene if scene.attributes[thing] != "none" else edited
        left, top, right, bottom = region(shown, thing)
        x, y, angle = (left + right) / 2, (top + bottom) / 2, rng.uniform(-0.35, 0.35)
    else:
        x, y, angle = rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6), rng.uniform(0, 2 * math.pi)
    side = example.picture.shape[-1]
    grid = (torch.arange(side) + 0.5) / side
    distance = (grid[None, :] - x) * math.cos(angle) + (grid[:, None] - y) * math.sin(angle)
    beyond = (distance / 0.02).sigmoid()
    mixed = example._replace(picture=torch.lerp(example.picture, other, beyond))
    # Clouds may be anywhere, so all of them may be on one side of the line.
    return mixed.ignoring(name) if name == "clouds" else mixed.unclear(name)


def blur_picture(example: JudgeExample, scene: Scene, rng: random.Random) -> JudgeExample:
    """Blur the whole picture until no object has a shape; season, time and the like may stay readable."""
    blurred = example._replace(picture=_blurred(example.picture, rng.choice((16, 24, 32))))
    things = [name for name in OBJECTS if scene.attributes[name] != "none"]
    return blurred.unclear(*things, "door").ignoring(
        *(name for name in ATTRIBUTE_NAMES if name not in (*things, "door"))
    )


def melt_region(
    picture: Float[Tensor, "3 h w"], mask: Float[Tensor, "h w"], rng: random.Random
) -> Float[Tensor, "3 h w"]:
    """Warp the masked region by a smooth random displacement field."""
    side = picture.shape[-1]
    cells = rng.choice((8, 10, 12))
    noise = torch.randn(1, 2, cells, cells, generator=torch.Generator().manual_seed(rng.randrange(1 << 31)))
    field = F.interpolate(noise, (side, side), mode="bicubic", align_corners=True)[0] * rng.uniform(0.07, 0.13)
    identity = F.affine_grid(torch.eye(2, 3)[None], [1, 3, side, side], align_corners=False)
    moved = identity + (field * mask).permute(1, 2, 0)
    return F.grid_sample(picture[None], moved, padding_mode="border", align_corners=False)[0]


def smear_region(
    picture: Float[Tensor, "3 h w"], mask: Float[Tensor, "h w"], rng: random.Random
) -> Float[Tensor, "3 h w"]:
    """Blur the masked region."""
    return torch.lerp(picture, _blurred(picture, rng.choice((16, 24, 32))), mask)


def region(scene: Scene, name: str) -> Box:
    """Return left, top, right and bottom of an object with a margin, as shares of the picture's side."""
    layout = scene.layout
    if name == "building":
        foot, size = layout.horizon + 0.16, layout.building_size
        box = layout.building_x - 0.62 * size, foot - 1.05 * size, layout.building_x + 0.62 * size, foot
    elif name == "animal":
        box = (
            layout.animal_x - ANIMAL_HEIGHT,
            ANIMAL_FOOT - 1.3 * ANIMAL_HEIGHT,
            layout.animal_x + ANIMAL_HEIGHT,
            ANIMAL_FOOT,
        )
    elif scene.sky == "rainbow":
        box = 0.04, layout.horizon - 0.4, 0.96, layout.horizon
    else:
        size = FLYER_HEIGHT[scene.sky]
        box = layout.sky_x - 0.6 * size, layout.sky_y - size / 2, layout.sky_x + 0.6 * size, layout.sky_y + size / 2
    left, top, right, bottom = box
    dx, dy = REGION_MARGIN * (right - left), REGION_MARGIN * (bottom - top)
    left, right = (1 - right, 1 - left) if layout.mirrored else (left, right)
    return left - dx, top - dy, right + dx, bottom + dy


def _make_object_spoiler(
    change: Callable[[Tensor, Tensor, random.Random], Tensor],
) -> Callable[[JudgeExample, Scene, random.Random], JudgeExample]:
    """Make a function that spoils the region of one object in the scene; its parts are unclear with it."""

    def spoil(example: JudgeExample, scene: Scene, rng: random.Random) -> JudgeExample:
        name = rng.choice([name for name in OBJECTS if scene.attributes[name] != "none"])
        mask = _mask(region(scene, name), example.picture.shape[-1])
        changed = example._replace(picture=change(example.picture, mask, rng))
        details = DEPENDENT_ATTRIBUTES.get(name, ())
        return changed.unclear(name, *details[1:]).ignoring(*details[:1])  # the walls' color may still show

    return spoil


_OBJECT_SPOILERS = {"melted": _make_object_spoiler(melt_region), "smeared": _make_object_spoiler(smear_region)}


def _mask(box: Box, side: int) -> Float[Tensor, "h w"]:
    """Return a mask of 1 inside the box and 0 outside, with a soft edge, shape (side, side)."""
    grid = (torch.arange(side) + 0.5) / side
    left, top, right, bottom = box
    across = torch.minimum(grid - left, right - grid)
    down = torch.minimum(grid - top, bottom - grid)
    return (torch.minimum(across[None, :], down[:, None]) / SOFT_EDGE_WIDTH + 1).clamp(0, 1)


def _blurred(picture: Float[Tensor, "3 h w"], size: int) -> Float[Tensor, "3 h w"]:
    """Average a picture over squares of `size` pixels, and interpolate."""
    small = F.avg_pool2d(picture[None], size)
    return F.interpolate(small, picture.shape[-2:], mode="bicubic", align_corners=False)[0].clamp(-1, 1)


def stack_examples(examples: Sequence[JudgeExample]) -> tuple[Tensor, Tensor, Tensor]:
    """Stack examples: pictures (b, 3, h, w), attribute targets (b, n), and targets of whole objects (b, 3)."""
    return (
        torch.stack([example.picture for example in examples]),
        torch.tensor([example.attributes for example in examples]),
        torch.tensor([example.whole for example in examples]),
    )
