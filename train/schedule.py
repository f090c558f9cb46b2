"""How far a run is, in steps or in its time box, and the learning rate that goes with it."""

import math
import time
from collections.abc import Callable

MIN_FACTOR = 0.03  # the learning rate ends at this part of its peak


class Clock:
    """Seconds since it was made."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start = now()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._now() - self._start


def share_done(step: int, steps: int | None, *, seconds: float, minutes: float | None) -> float:
    """Part of a run that is done, 0 to 1: by steps or by its time box of `minutes`, whichever is there and ends first.

    Without a time box it depends on the step alone, and so does everything else in a run.
    """
    timed = seconds / (60 * minutes) if minutes else 0.0
    return min(1.0, max(step / steps if steps else 0.0, timed))


def learning_rate_factor(schedule: str, *, step: int, warmup: int, done: float) -> float:
    """Learning rate as a part of its peak: linear warm-up, then constant, or falling to 3 % at the end of the run.

    Args:
        schedule: constant, linear or cosine.
        step: the step about to be taken, from 0.
        warmup: steps of warm-up; step 0 already learns a little.
        done: part of the run that is done, 0 to 1.
    """
    rise = min(1.0, (step + 1) / (warmup + 1))
    falls = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    return rise * max(MIN_FACTOR, falls[schedule])
