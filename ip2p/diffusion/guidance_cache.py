"""Differences of guidance that are computed now and then, and held between.

What an instruction changes in a prediction (the text difference) and what the picture changes in it (the image
difference) vary slowly from step to step, while the prediction itself does not. So only the prediction is computed at
every step, and each difference on a schedule of its own.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class CacheSchedule(NamedTuple):
    """When differences are computed anew. The one that stands here by default is exact: at every step.

    Attributes:
        text_every: steps from one computation of the text difference e(I,T) - e(I,0) to the next, at least 1.
        image_every: of the image difference e(I,0) - e(0,0), at least 1.
        tolerance: if above 0, each picture finds its own steps instead: a difference is computed anew when what it is
            likely to have changed since would move the guided prediction by more than this share of its norm. 0 is
            off.
        extrapolate: share of its last change, per step, by which a held difference goes on changing; 0 to 1.
        stop: share of the noise schedule after which no difference is computed any more; 1 is never.
    """

    text_every: int = 1
    image_every: int = 1
    tolerance: float = 0.0
    extrapolate: float = 0.0
    stop: float = 1.0


MAX_STEPS_CACHED = 8
"""Steps that a tolerance holds a difference at most: what was small may grow."""


class CachedDifference:
    """The difference of two neighbouring branches, for each picture of a batch.

    A picture's schedule depends on its own predictions alone, so it does not depend on what else is in its batch.

    Args:
        every: steps between computations, where the tolerance is 0.
        weight: of this difference in the guided prediction.
        schedule: the rest of it.
    """

    def __init__(self, every: int, weight: float, schedule: CacheSchedule) -> None:
        self.every = every
        self.weight = weight
        self.schedule = schedule
        self.value: Tensor | None = None
        self.trend: Tensor | None = None
        self.seen: list[int] = []
        self.due: list[int] = []

    def due_pictures(self, step: int, share: float, count: int) -> list[bool]:
        """For which of so many pictures it is to be computed at a step, at a share of the noise schedule."""
        if self.value is None:
            return [True] * count
        if share >= self.schedule.stop:
            return [False] * count
        return [step >= due for due in self.due]

    def at(self, step: int) -> Float[Tensor, "b c h w"]:
        """Its value at a step: as last computed, and moved on along its trend."""
        assert self.value is not None, "it was never computed"
        if self.trend is None or not self.schedule.extrapolate:
            return self.value
        since = self.value.new_tensor([step - seen for seen in self.seen]).reshape(-1, 1, 1, 1)
        return self.value + self.schedule.extrapolate * since * self.trend

    def refresh(
        self, step: int, which: Bool[Tensor, " b"], value: Float[Tensor, "b c h w"], size: Float[Tensor, " b"]
    ) -> None:
        """Take in new values.

        Args:
            step: of them.
            which: pictures that have a new one.
            value: new where there is one, anything elsewhere.
            size: norm of each picture's prediction, which a tolerance is a share of.
        """
        if self.value is None:
            self.value, self.seen = value, [step] * len(value)
            self.due = [step + self._gap(1, None)] * len(value)
            return
        since = [step - seen for seen in self.seen]
        change = (value - self.value) / value.new_tensor(since).clamp(min=1).reshape(-1, 1, 1, 1)
        rates = (change.flatten(1).norm(dim=1) * self.weight / size).tolist() if self.schedule.tolerance else None
        self.trend = torch.where(which[:, None, None, None], change, 0 if self.trend is None else self.trend)
        self.value = torch.where(which[:, None, None, None], value, self.value)
        for row in which.nonzero()[:, 0].tolist():
            self.seen[row] = step
            self.due[row] = step + self._gap(since[row], rates[row] if rates else None)

    def _gap(self, last: int, rate: float | None) -> int:
        """Steps until it is due again, after one that came `last` steps after the one before and told its rate."""
        if not self.schedule.tolerance:
            return self.every
        if rate is None:
            return 1
        return max(1, min(MAX_STEPS_CACHED, 2 * last, math.floor(self.schedule.tolerance / max(rate, 1e-12))))
