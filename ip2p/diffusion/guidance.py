"""Classifier-free guidance: several UNet predictions combined into one. It wraps the UNet call of the sampler.

Dual guidance (InstructPix2Pix, arXiv 2211.09800, section 3.2.1), with I the picture and T the instruction:

    guided = e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0))
           = (1 - s_I) e(0,0) + (s_I - s_T) e(I,0) + s_T e(I,T)

The second line shows which predictions are needed: one whose weight is zero is not computed. The differences in the
first line vary slowly over the denoising steps and need not be computed at every one (`guidance_cache.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ip2p.conditioning import Conditioning, join_rows

UNetCall = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""Function from the UNet's input (b, k, h, w), the timestep and the embedded texts to its prediction (b, c, h, w)."""


class Branch(NamedTuple):
    """One of the predictions that guidance combines.

    Args:
        text: embedded texts, one for each row.
        condition: image latents that an editor is conditioned on, shape (b, c, h, w); None in a text-to-image model.
        weight: weight of this prediction in the guided one; a number, or a tensor of shape (b,).
    """

    text: Conditioning
    condition: Tensor | None
    weight: float | Tensor


class Branches(NamedTuple):
    """The three predictions of an editor, in their order in a batch."""

    text_image: Float[Tensor, "b c h w"]
    image: Float[Tensor, "b c h w"]
    null: Float[Tensor, "b c h w"]


def combine(branches: Branches, text_scale: float, image_scale: float) -> Float[Tensor, "b c h w"]:
    """Dual guidance: e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0)), for any scales, also below 1."""
    text_image, image, null = branches
    # Added in the order of diffusers' pipeline, so that rounding is equal.
    return null + text_scale * (text_image - image) + image_scale * (image - null)


class Guidance:
    """Base class of guidance: one UNet call a step for all branches that are needed.

    Args:
        unet: UNet call, made once a step with the rows of all needed branches, branch by branch.
        branches: all branches by name, the fully conditioned one first.
        interval: shares of the noise schedule, from 0 (pure noise) to 1 (no noise), between which guidance is applied
            (arXiv 2404.07724); outside of them only the fully conditioned branch is predicted.
        rescale: share by which the guided prediction gets the standard deviation of the fully conditioned one
            (arXiv 2305.08891, equations 15 and 16), 0 to 1; 0 is off.
        timesteps: number of training timesteps of the noise schedule.
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
        """Number of UNet rows computed so far."""
        return sum(self.rows_each)

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """The guided prediction for latents x, scaled by the scheduler."""
        share = 1 - float(timestep) / self.timesteps
        start, stop = self.interval
        if not start <= share <= stop:
            self.count_rows([[True] * len(x)])
            return self.unet(concatenate_condition(x, self.full.condition), timestep, self.full.text)
        predicted = self.predict(x, timestep, share)
        guided = self.combine(dict(zip(self.needed, predicted, strict=True)))
        return _rescale(guided, predicted[0], self.rescale) if self.rescale else guided

    def predict(self, x: Tensor, timestep: Tensor, share: float) -> list[Tensor]:
        """Compute the predictions of all needed branches, at a share of the noise schedule."""
        count = len(self.needed)
        self.count_rows([[True] * len(x)] * count)
        rows = concatenate_condition(torch.cat([x] * count), self.condition)
        return list(self.unet(rows, timestep, self.text).chunk(count))

    def combine(self, predicted: dict[str, Tensor]) -> Float[Tensor, "b c h w"]:
        """Combine the predictions of the needed branches into the guided one."""
        raise NotImplementedError

    def count_rows(self, computed: Sequence[Sequence[bool]]) -> None:
        """Add the UNet rows of a call; `computed` has a flag for each branch and row."""
        self.rows_each = [before + sum(now) for before, *now in zip(self.rows_each, *computed, strict=True)]


class DualGuidance(Guidance):
    """Dual guidance of an editor, with as few UNet rows as the scales need.

    Three rows for each picture; two at s_I = 1, at s_I = s_T, and at s_T = 0; one where only one weight is left.

    Args:
        unet: UNet call; its rows are [text and image, image, neither], without those that are not needed.
        condition: image latents: the mode of the autoencoder's posterior, not scaled, shape (b, c, h, w). Zeros stand
            for no picture.
        text: embedded instructions, b rows.
        null_text: embedded empty or negative prompt, one row.
        text_scale, image_scale: guidance scales s_T and s_I, any numbers.
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
        """Equation 3 of the paper; a branch that was not computed is replaced by its neighbor and cancels out."""
        last = next(iter(predicted.values()))
        image = predicted.get("image", predicted.get("null", last))
        branches = Branches(predicted.get("text_image", image), image, predicted.get("null", image))
        return combine(branches, self.text_scale, self.image_scale)


class TextGuidance(Guidance):
    """Classifier-free guidance of a text-to-image model (arXiv 2207.12598): e(0) + s (e(T) - e(0)).

    Two rows for each picture, one at s = 1 and at s = 0.

    Args:
        unet: UNet call; its rows are [with text, without text], without those that are not needed.
        text: embedded captions, b rows.
        null_text: embedded empty or negative prompt, one row.
        scale: guidance scale s, one number or a tensor of shape (b,).
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
        """e(0) + s (e(T) - e(0))."""
        text, *others = predicted.values()
        scale = self.scale.reshape(-1, 1, 1, 1)
        return others[0] + scale * (text - others[0]) if others else text


def concatenate_condition(x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b c h w"] | None) -> Tensor:
    """Concatenate the UNet's input: noisy latents and, in an editor, the image latents as further channels."""
    return x if condition is None else torch.cat([x, condition], dim=1)


def _rescale(
    guided: Float[Tensor, "b c h w"], conditioned: Float[Tensor, "b c h w"], share: float
) -> Float[Tensor, "b c h w"]:
    """Rescale each row of a guided prediction towards the standard deviation of the fully conditioned one."""
    ratio = conditioned.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    return guided * (1 - share + share * ratio.reshape(-1, 1, 1, 1))
