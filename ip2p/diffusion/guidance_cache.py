"""Guidance with cached differences, computed at some denoising steps and reused between.

What an instruction changes in a prediction (the text difference) and what the picture changes in it (the image
difference) vary slowly from step to step, while the prediction itself does not. So the fully conditioned prediction is
computed at every step, and each difference on a schedule of its own.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ip2p.conditioning import Conditioning, join_rows
from ip2p.diffusion.guidance import DualGuidance, Guidance, TextGuidance, concatenate_condition


class CacheSchedule(NamedTuple):
    """When differences are computed; by default at every step, which is exact.

    Attributes:
        text_every: denoising steps between computations of the text difference e(I,T) - e(I,0), at least 1.
        image_every: denoising steps between computations of the image difference e(I,0) - e(0,0), at least 1.
        tolerance: if above 0, each picture has its own schedule instead: a difference is computed when its expected
            change since would move the guided prediction by more than this share of its norm. 0 is off.
        extrapolate: share of its last change per step that is added to a cached difference at each step, 0 to 1.
        stop: share of the noise schedule, 0 to 1, after which no difference is computed.
    """

    text_every: int = 1
    image_every: int = 1
    tolerance: float = 0.0
    extrapolate: float = 0.0
    stop: float = 1.0


MAX_STEPS_CACHED = 8
"""Most steps for which a tolerance keeps a difference cached: a small rate of change may grow."""


class CachedDifference:
    """The cached difference of two neighboring branches, for each picture of a batch.

    The schedule of a picture depends on its own predictions alone, not on the others in its batch.

    Args:
        every: denoising steps between computations, used if the tolerance is 0.
        weight: weight of this difference in the guided prediction, shape () or (b,).
        schedule: cache schedule, for tolerance, extrapolation and stop.
    """

    def __init__(self, every: int, weight: Tensor, schedule: CacheSchedule) -> None:
        self.every = every
        self.weight = weight
        self.schedule = schedule
        self.value: Tensor | None = None
        self.trend: Tensor | None = None
        self.computed_at: list[int] = []
        self.due: list[int] = []

    def due_pictures(self, step: int, share: float, count: int) -> list[bool]:
        """Whether the difference has to be computed, for each of `count` pictures.

        Args:
            step: index of the denoising step.
            share: share of the noise schedule, 0 to 1.
            count: number of pictures.
        """
        if self.value is None:
            return [True] * count
        if share >= self.schedule.stop:
            return [False] * count
        return [step >= due for due in self.due]

    def at(self, step: int) -> Float[Tensor, "b c h w"]:
        """The difference at a step: the last computed value, extrapolated along its trend."""
        assert self.value is not None, "it was never computed"
        if self.trend is None or not self.schedule.extrapolate:
            return self.value
        since = self.value.new_tensor([step - before for before in self.computed_at]).reshape(-1, 1, 1, 1)
        return self.value + self.schedule.extrapolate * since * self.trend

    def refresh(
        self, step: int, which: Bool[Tensor, " b"], value: Float[Tensor, "b c h w"], size: Float[Tensor, " b"]
    ) -> None:
        """Store newly computed values.

        Args:
            step: index of the denoising step.
            which: mask of the pictures with a new value.
            value: new values, shape (b, c, h, w); ignored where `which` is False.
            size: norm of each picture's prediction, to which the tolerance is relative.
        """
        if self.value is None:
            self.value, self.computed_at = value, [step] * len(value)
            self.due = [step + self._gap(1, None)] * len(value)
            return
        since = [step - before for before in self.computed_at]
        change = (value - self.value) / value.new_tensor(since).clamp(min=1).reshape(-1, 1, 1, 1)
        rates = (change.flatten(1).norm(dim=1) * self.weight / size).tolist() if self.schedule.tolerance else None
        self.trend = torch.where(which[:, None, None, None], change, 0 if self.trend is None else self.trend)
        self.value = torch.where(which[:, None, None, None], value, self.value)
        for row in which.nonzero()[:, 0].tolist():
            self.computed_at[row] = step
            self.due[row] = step + self._gap(since[row], rates[row] if rates else None)

    def _gap(self, last: int, rate: float | None) -> int:
        """Steps to the next computation, from the `last` interval in steps and the rate of change measured over it."""
        if not self.schedule.tolerance:
            return self.every
        if rate is None:
            return 1
        return max(1, min(MAX_STEPS_CACHED, 2 * last, math.floor(self.schedule.tolerance / max(rate, 1e-12))))


class CachedGuidance(Guidance):
    """Guidance that computes the fully conditioned branch at every step, and differences when they are due.

    A branch follows from the one before it and the cached difference of the two; only branches of due differences take
    UNet rows. This is a mixin: it precedes a guidance among the base classes.

    Args:
        arguments, others: arguments of the guidance.
        schedule: cache schedule.
    """

    def __init__(self, *arguments: Any, schedule: CacheSchedule, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.step = 0
        self.texts: dict[tuple[tuple[int, ...], ...], Conditioning] = {}
        weights: list[Any] = [branch.weight for branch in self.needed.values()]
        every = {"null": schedule.text_every if self.full.condition is None else schedule.image_every}
        self.differences = [
            CachedDifference(
                every.get(name, schedule.text_every), torch.as_tensor(sum(weights[place:])).abs(), schedule
            )
            for place, name in enumerate([*self.needed][1:], start=1)
        ]

    def predict(self, x: Tensor, timestep: Tensor, share: float) -> list[Tensor]:
        """Predictions of the needed branches, each computed, or derived from its neighbor and a cached difference."""
        due = self._due_rows(share, len(x))
        computed = self._compute(x, timestep, due)
        predicted = computed[:1]
        size = predicted[0].flatten(1).norm(dim=1)
        for place, difference in enumerate(self.differences, start=1):
            which = torch.tensor(due[place], device=x.device)
            if which.any():
                difference.refresh(self.step, which, computed[place - 1] - computed[place], size)
            derived = predicted[-1] - difference.at(self.step)
            predicted.append(torch.where(which[:, None, None, None], computed[place], derived))
        self.step += 1
        return predicted

    def _due_rows(self, share: float, count: int) -> list[list[bool]]:
        """Whether each branch has to be computed, for each picture: a difference needs both of its branches."""
        due = [[False] * count]
        for difference in reversed(self.differences):
            own = difference.due_pictures(self.step, share, count)
            due.append([this or further for this, further in zip(own, due[-1], strict=True)])
        return [[True] * count, *due[:0:-1]]

    def _compute(self, x: Tensor, timestep: Tensor, due: Sequence[Sequence[bool]]) -> list[Tensor]:
        """Compute the due rows in one UNet call; the others are zero."""
        places = [[row for row, now in enumerate(each) if now] for each in due]
        chosen = [(place, branch) for place, branch in zip(places, self.needed.values(), strict=True) if place]
        rows = torch.cat(
            [
                concatenate_condition(x[place], None if branch.condition is None else branch.condition[place])
                for place, branch in chosen
            ]
        )
        key = tuple(map(tuple, places))  # the same object for the same texts, as the text cache compares by identity
        if key not in self.texts:
            self.texts[key] = join_rows([branch.text[place] for place, branch in chosen])
        predicted = self.unet(rows, timestep, self.texts[key])
        self.count_rows(due)
        chunks, computed = iter(predicted.split([len(place) for place, _ in chosen])), []
        for place in places:
            chunk = next(chunks) if place else predicted[:0]
            if len(place) < len(x):
                chunk = torch.zeros_like(x, dtype=predicted.dtype).index_copy(
                    0, torch.tensor(place, dtype=torch.long, device=x.device), chunk
                )
            computed.append(chunk)
        return computed


class CachedDualGuidance(CachedGuidance, DualGuidance):
    """Dual guidance with cached text and image differences."""


class CachedTextGuidance(CachedGuidance, TextGuidance):
    """Classifier-free guidance with a cached text difference."""
