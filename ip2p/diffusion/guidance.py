"""Guidance: several UNet predictions made into one. It wraps the UNet call; a sampler never knows that it exists.

Dual guidance (InstructPix2Pix, arXiv 2211.09800, section 3.2.1), with I the picture and T the instruction:

    guided = e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0))
           = (1 - s_I) e(0,0) + (s_I - s_T) e(I,0) + s_T e(I,T)

The second line tells which predictions are needed: one whose weight is zero is never computed. The differences in the
first line vary slowly over the denoising steps and need not be computed at every one (`guidance_cache.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ip2p.conditioning import Conditioning, join_rows

UNetCall = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""Prediction (b c h w) from the UNet's input (b c+ h w), the timestep, and the embedded texts of the rows."""


class Branch(NamedTuple):
    """One of the predictions that guidance combines.

    Args:
        text: embedded texts of the rows.
        condition: latents of the pictures that an editor reads, shape (b, c, h, w); None in a text-to-image model.
        weight: factor of this prediction in the guided one; a number, or a tensor with one number for each row.
    """

    text: Conditioning
    condition: Tensor | None
    weight: float | Tensor


class Branches(NamedTuple):
    """The three predictions of an editor, in the order in which they stand in a batch."""

    text_image: Float[Tensor, "b c h w"]
    image: Float[Tensor, "b c h w"]
    null: Float[Tensor, "b c h w"]


def combine(branches: Branches, text_scale: float, image_scale: float) -> Float[Tensor, "b c h w"]:
    """e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0)), for any scales, also below 1."""
    text_image, image, null = branches
    # Added in the order of diffusers' pipeline, so that rounding is the same too.
    return null + text_scale * (text_image - image) + image_scale * (image - null)


class Guidance:
    """The frame of every guidance: one UNet call a step for all branches that are needed.

    Args:
        unet: called once a step, with the rows of all needed branches, one branch after the other.
        branches: all predictions by name, the fully conditioned one first.
        interval: shares of the noise schedule, from 0 (pure noise) to 1 (no noise), between which there is guidance
            (arXiv 2404.07724); outside, the fully conditioned prediction alone.
        rescale: share by which the guided prediction gets the standard deviation of the fully conditioned one
            (arXiv 2305.08891, equations 15 and 16), 0 to 1; 0 is off.
        timesteps: training timesteps of the noise schedule.
    """

    def __init__(
        self, unet: UNetCall, branches: dict[str, Branch], *,
        interval: tuple[float, float] = (0.0, 1.0), rescale: float = 0.0, timesteps: int = 1000,
    ) -> None:  # fmt: skip
        self.unet = unet
        self.interval, self.rescale, self.timesteps = interval, rescale, timesteps
        self.full = next(iter(branches.values()))
        self.needed = {
            name: branch for name, branch in branches.items() if torch.as_tensor(branch.weight).count_nonzero()
        }
        self.text = join_rows([branch.text for branch in self.needed.values()])
        conditions = [branch.condition for branch in self.needed.values() if branch.condition is not None]
        self.condition = torch.cat(conditions) if conditions else None
        self.rows_each = [0] * len(self.full.text)

    @property
    def rows(self) -> int:
        """UNet rows that were computed so far."""
        return sum(self.rows_each)

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """The guided prediction for latents x, scaled as the UNet wants them."""
        share = 1 - float(timestep) / self.timesteps
        start, stop = self.interval
        if not start <= share <= stop:
            self.count_rows([[True] * len(x)])
            return self.unet(beside(x, self.full.condition), timestep, self.full.text)
        predicted = self.predict(x, timestep, share)
        guided = self.combine(dict(zip(self.needed, predicted, strict=True)))
        return _rescale(guided, predicted[0], self.rescale) if self.rescale else guided

    def predict(self, x: Tensor, timestep: Tensor, share: float) -> list[Tensor]:
        """Predictions of the needed branches at a share of the noise schedule, all of them computed."""
        count = len(self.needed)
        self.count_rows([[True] * len(x)] * count)
        rows = beside(torch.cat([x] * count), self.condition)
        return list(self.unet(rows, timestep, self.text).chunk(count))

    def combine(self, predicted: dict[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """The guided prediction from those of the needed branches."""
        raise NotImplementedError

    def count_rows(self, computed: Sequence[Sequence[bool]]) -> None:
        """Add the UNet rows of a call, told for each branch and picture."""
        self.rows_each = [before + sum(now) for before, *now in zip(self.rows_each, *computed, strict=True)]


class DualGuidance(Guidance):
    """An editor's guided prediction, of as few UNet rows as the scales need.

    Three rows for each picture; two at s_I = 1, at s_I = s_T, and at s_T = 0; one where only one weight is left.

    Args:
        unet: called with the rows [text and image, image, neither], without those that are not needed.
        condition: latents of the pictures: the mode of the autoencoder's posterior, not scaled, shape (b, c, h, w).
            No picture is a zero latent.
        text: embedded instructions, b rows.
        null_text: the embedded empty prompt, one row.
        text_scale, image_scale: s_T and s_I, any numbers.
        others: interval, rescale and timesteps of `Guidance`.
    """

    def __init__(
        self, unet: UNetCall, condition: Float[Tensor, "b c h w"], text: Conditioning, null_text: Conditioning, *,
        text_scale: float, image_scale: float, **others: Any,
    ) -> None:  # fmt: skip
        no_text = null_text.expand(len(text))
        branches = {
            "text_image": Branch(text, condition, text_scale),
            "image": Branch(no_text, condition, image_scale - text_scale),
            "null": Branch(no_text, torch.zeros_like(condition), 1 - image_scale),
        }
        super().__init__(unet, branches, **others)
        self.text_scale, self.image_scale = text_scale, image_scale

    def combine(self, predicted: dict[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """Equation 3 of the paper; a branch that was not needed cancels out as its neighbour."""
        last = next(iter(predicted.values()))
        image = predicted.get("image", predicted.get("null", last))
        branches = Branches(predicted.get("text_image", image), image, predicted.get("null", image))
        return combine(branches, self.text_scale, self.image_scale)


class TextGuidance(Guidance):
    """Classifier-free guidance of a text-to-image model (arXiv 2207.12598): e(0) + s (e(T) - e(0)).

    Two rows for each picture, one at s = 1 and at s = 0.

    Args:
        unet: called with the rows [with text, without], without those that are not needed.
        text: embedded captions, b rows.
        null_text: the embedded empty or negative prompt, one row.
        scale: s, one number for all rows or a tensor with one for each.
        others: interval, rescale and timesteps of `Guidance`.
    """

    def __init__(
        self, unet: UNetCall, text: Conditioning, null_text: Conditioning, *,
        scale: float | Float[Tensor, " b"], **others: Any,
    ) -> None:  # fmt: skip
        self.scale = torch.as_tensor(scale, dtype=text.tokens.dtype, device=text.tokens.device)
        branches = {
            "text": Branch(text, None, self.scale),
            "null": Branch(null_text.expand(len(text)), None, 1 - self.scale),
        }
        super().__init__(unet, branches, **others)

    def combine(self, predicted: dict[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """The formula of the class."""
        text, *others = predicted.values()
        scale = self.scale.reshape(-1, 1, 1, 1)
        return others[0] + scale * (text - others[0]) if others else text


def beside(x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b c h w"] | None) -> Tensor:
    """The UNet's input: noisy latents, and in an editor the latents of the pictures as more channels."""
    return x if condition is None else torch.cat([x, condition], dim=1)


def _rescale(
    guided: Float[Tensor, "b c h w"], plain: Float[Tensor, "b c h w"], share: float
) -> Float[Tensor, "b c h w"]:
    """A guided prediction with the standard deviation, picture by picture, of one that is not guided."""
    ratio = plain.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    return guided * (1 - share + share * ratio.reshape(-1, 1, 1, 1))
