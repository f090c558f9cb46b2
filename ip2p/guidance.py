"""Guidance: several UNet predictions made into one. It wraps the UNet call; a sampler never knows that it exists.

Dual guidance (InstructPix2Pix, arXiv 2211.09800, section 3.2.1), with I the picture and T the instruction:

    guided = e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0))
           = (1 - s_I) e(0,0) + (s_I - s_T) e(I,0) + s_T e(I,T)

The second line tells which predictions are needed: one whose weight is zero is never computed.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

UNetCall = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Prediction (b c h w) from what the UNet sees (b c+ h w), the timestep, and text embeddings (b n d)."""


class Branches(NamedTuple):
    """The three predictions of an editor, in the order in which they stand in a batch."""

    text_image: Float[Tensor, "b c h w"]
    image: Float[Tensor, "b c h w"]
    null: Float[Tensor, "b c h w"]


def combine(branches: Branches, text_scale: float, image_scale: float) -> Float[Tensor, "b c h w"]:
    """e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0)), for any scales, also below 1."""
    text_image, image, null = branches
    return null + image_scale * (image - null) + text_scale * (text_image - image)


class DualGuidance:
    """An editor's guided prediction, of as few UNet rows as the scales need.

    Three rows for each picture; two at s_I = 1, at s_I = s_T, and at s_T = 0; one where only one weight is left.

    Args:
        unet: called once a step, with rows [text and image, image, neither] of those that are needed.
        condition: latents of the pictures, the mode of the autoencoder, not scaled. No picture is a zero latent.
        text: embeddings of the instructions.
        null_text: embedding of the empty prompt, one row.
        text_scale: s_T.
        image_scale: s_I.
    """

    def __init__(
        self,
        unet: UNetCall,
        condition: Float[Tensor, "b c h w"],
        text: Float[Tensor, "b n d"],
        null_text: Float[Tensor, "1 n d"],
        *,
        text_scale: float,
        image_scale: float,
    ) -> None:
        self.unet = unet
        self.text_scale = text_scale
        self.image_scale = image_scale
        self.rows = 0
        weights = {"text_image": text_scale, "image": image_scale - text_scale, "null": 1 - image_scale}
        nothing, no_text = torch.zeros_like(condition), null_text.expand_as(text)
        inputs = {"text_image": (condition, text), "image": (condition, no_text), "null": (nothing, no_text)}
        self.needed = [name for name, weight in weights.items() if weight != 0]
        self.condition = torch.cat([inputs[name][0] for name in self.needed])
        self.text = torch.cat([inputs[name][1] for name in self.needed])

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """The guided prediction for latents x, scaled as the UNet wants them."""
        rows = torch.cat([torch.cat([x] * len(self.needed)), self.condition], dim=1)
        self.rows += len(rows)
        predicted = dict(zip(self.needed, self.unet(rows, timestep, self.text).chunk(len(self.needed)), strict=True))
        return combine(_filled(predicted), self.text_scale, self.image_scale)


class TextGuidance:
    """Classifier-free guidance of a text-to-image model (arXiv 2207.12598): e(0) + s (e(T) - e(0)).

    Two rows for each picture, one at s = 1 and at s = 0.

    Args:
        unet: called once a step, with rows [with text, without] of those that are needed.
        text: embeddings of the captions.
        null_text: embedding of the empty prompt, one row.
        scale: s, one for all or one for each row.
    """

    def __init__(
        self,
        unet: UNetCall,
        text: Float[Tensor, "b n d"],
        null_text: Float[Tensor, "1 n d"],
        *,
        scale: float | Float[Tensor, " b"],
    ) -> None:
        self.unet = unet
        self.scale = torch.as_tensor(scale, dtype=text.dtype, device=text.device).reshape(-1, 1, 1, 1)
        self.rows = 0
        texts = {"text": (self.scale != 0, text), "null": (self.scale != 1, null_text.expand_as(text))}
        self.needed = [name for name, (wanted, _) in texts.items() if wanted.any()]
        self.text = torch.cat([texts[name][1] for name in self.needed])

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """The guided prediction for latents x, scaled as the UNet wants them."""
        rows = torch.cat([x] * len(self.needed))
        self.rows += len(rows)
        text, *others = self.unet(rows, timestep, self.text).chunk(len(self.needed))
        return others[0] + self.scale * (text - others[0]) if others else text


def _filled(predicted: dict[str, Tensor]) -> Branches:
    """All three branches: a missing one is its neighbour, so that the difference it has no part in vanishes."""
    last = next(iter(predicted.values()))
    image = predicted.get("image", predicted.get("null", last))
    return Branches(predicted.get("text_image", image), image, predicted.get("null", image))
