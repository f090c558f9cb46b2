"""Guidance: several UNet predictions made into one. It wraps the UNet call; a sampler never knows that it exists.

Dual guidance (InstructPix2Pix, arXiv 2211.09800, section 3.2.1), with I the picture and T the instruction:

    guided = e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0))
           = (1 - s_I) e(0,0) + (s_I - s_T) e(I,0) + s_T e(I,T)

The second line tells which predictions are needed: one whose weight is zero is never computed. The others can be told
by their differences, which vary slowly and need not be computed at every step (`guidance_cache.py`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ip2p.diffusion.guidance_cache import CachedDifference, CacheSchedule

UNetCall = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Prediction (b c h w) from what the UNet sees (b c+ h w), the timestep, and text embeddings (b n d)."""
EXACT = CacheSchedule()


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


class DualGuidance:
    """An editor's guided prediction, of as few UNet rows as the scales and the schedule need.

    Three rows for each picture; two at s_I = 1, at s_I = s_T, and at s_T = 0; one where only one weight is left. The
    first of those that are needed is computed at every step. The others follow from differences that are held between
    the steps of a schedule; what is not refreshed takes no row.

    Args:
        unet: called once a step, with rows [text and image, image, neither] of those that are needed.
        condition: latents of the pictures, the mode of the autoencoder, not scaled. No picture is a zero latent.
        text: embeddings of the instructions.
        null_text: embedding of the empty prompt, one row.
        text_scale: s_T.
        image_scale: s_I.
        schedule: of the differences; exact by default.
        interval: shares of the noise schedule, from 0 (noise) to 1, between which there is guidance at all
            (arXiv 2404.07724); outside, e(I,T) alone.
        rescale: share by which the guided prediction gets the standard deviation of e(I,T) (arXiv 2305.08891,
            equations 15 and 16); 0 is off.
        timesteps: of the noise schedule.
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
        schedule: CacheSchedule = EXACT,
        interval: tuple[float, float] = (0.0, 1.0),
        rescale: float = 0.0,
        timesteps: int = 1000,
    ) -> None:
        self.unet = unet
        self.text_scale, self.image_scale = text_scale, image_scale
        self.interval, self.rescale, self.timesteps = interval, rescale, timesteps
        self.exact = schedule == EXACT
        self.rows_each = [0] * len(condition)
        self.step = 0
        weights = {"text_image": text_scale, "image": image_scale - text_scale, "null": 1 - image_scale}
        nothing, no_text = torch.zeros_like(condition), null_text.expand_as(text)
        inputs = {"text_image": (condition, text), "image": (condition, no_text), "null": (nothing, no_text)}
        self.needed = [name for name, weight in weights.items() if weight != 0]
        self.inputs = [inputs[name] for name in self.needed]
        self.whole = torch.cat([row for row, _ in self.inputs]), torch.cat([words for _, words in self.inputs])
        self.full = (condition, text)
        self.texts: dict[tuple[tuple[int, ...], ...], Tensor] = {}
        self.differences = [
            CachedDifference(
                schedule.image_every if name == "null" else schedule.text_every,
                abs(sum(weights[each] for each in self.needed[place:])),
                schedule,
            )
            for place, name in enumerate(self.needed[1:], start=1)
        ]

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """The guided prediction for latents x, scaled as the UNet wants them."""
        share = 1 - float(timestep) / self.timesteps
        start, stop = self.interval
        if not start <= share <= stop:
            self._count([[True] * len(x)])
            return self.unet(torch.cat([x, self.full[0]], dim=1), timestep, self.full[1])
        branches = self._all(x, timestep) if self.exact else self._branches(x, timestep, share)
        guided = combine(
            _fill_missing(dict(zip(self.needed, branches, strict=True))), self.text_scale, self.image_scale
        )
        self.step += 1
        return _rescale(guided, branches[0], self.rescale) if self.rescale else guided

    @property
    def rows(self) -> int:
        """UNet rows that were computed so far."""
        return sum(self.rows_each)

    def _count(self, wanted: Sequence[Sequence[bool]]) -> None:
        """Add the rows of a call, for each branch and picture."""
        self.rows_each = [before + sum(now) for before, *now in zip(self.rows_each, *wanted, strict=True)]

    def _all(self, x: Tensor, timestep: Tensor) -> list[Tensor]:
        """The needed predictions, all computed."""
        count = len(self.needed)
        self._count([[True] * len(x)] * count)
        condition, text = self.whole
        return list(self.unet(torch.cat([torch.cat([x] * count), condition], dim=1), timestep, text).chunk(count))

    def _branches(self, x: Tensor, timestep: Tensor, share: float) -> list[Tensor]:
        """The needed predictions, computed or made of a neighbour and a cached difference."""
        wanted = self._due_rows(share, len(x))
        computed = self._compute(x, timestep, wanted)
        branches = computed[:1]
        size = branches[0].flatten(1).norm(dim=1)
        for place, difference in enumerate(self.differences, start=1):
            which = torch.tensor(wanted[place], device=x.device)
            if which.any():
                difference.refresh(self.step, which, computed[place - 1] - computed[place], size)
            made = branches[-1] - difference.at(self.step)
            branches.append(torch.where(which[:, None, None, None], computed[place], made))
        return branches

    def _due_rows(self, share: float, count: int) -> list[list[bool]]:
        """For each branch, which pictures' rows are computed: a difference takes both of its branches."""
        wanted = [[False] * count]
        for difference in reversed(self.differences):
            due = difference.due_pictures(self.step, share, count)
            wanted.append([this or further for this, further in zip(due, wanted[-1], strict=True)])
        return [[True] * count, *wanted[:0:-1]]

    def _compute(self, x: Tensor, timestep: Tensor, wanted: Sequence[Sequence[bool]]) -> list[Tensor]:
        """Predictions of the wanted rows in one call; what was not wanted is zero."""
        places = [[row for row, due in enumerate(each) if due] for each in wanted]
        there = [(place, *inputs) for place, inputs in zip(places, self.inputs, strict=True) if place]
        rows = torch.cat([torch.cat([x[place], condition[place]], dim=1) for place, condition, _ in there])
        key = tuple(map(tuple, places))  # the same tensor for the same texts, which the UNet may remember
        if key not in self.texts:
            self.texts[key] = torch.cat([text[place] for place, _, text in there])
        predicted = self.unet(rows, timestep, self.texts[key])
        self._count(wanted)
        parts, computed = iter(predicted.split([len(place) for place, _, _ in there])), []
        for place in places:
            part = next(parts) if place else predicted[:0]
            if len(place) < len(x):
                part = torch.zeros_like(x, dtype=predicted.dtype).index_copy(
                    0, torch.tensor(place, dtype=torch.long, device=x.device), part
                )
            computed.append(part)
        return computed


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


def _fill_missing(predicted: dict[str, Tensor]) -> Branches:
    """All three branches: a missing one is its neighbour, so that the difference it has no part in vanishes."""
    last = next(iter(predicted.values()))
    image = predicted.get("image", predicted.get("null", last))
    return Branches(predicted.get("text_image", image), image, predicted.get("null", image))


def _rescale(
    guided: Float[Tensor, "b c h w"], plain: Float[Tensor, "b c h w"], share: float
) -> Float[Tensor, "b c h w"]:
    """A guided prediction with the standard deviation, picture by picture, of one that is not guided."""
    ratio = plain.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    return guided * (1 - share + share * ratio.reshape(-1, 1, 1, 1))
