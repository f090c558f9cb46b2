"""Progress of a run in steps or minutes, and the learning rate schedule over it."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MIN_FACTOR = 0.03  # smallest share of the peak learning rate


class Clock:
    """Measures the seconds since it was made, without its pauses.

    Args:
        now: clock that returns seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start = now()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._now() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose seconds are not counted."""
        began = self._now()
        try:
            yield
        finally:
            self._start += self._now() - began


def share_done(step: int, steps: int | None, *, seconds: float, minutes: float | None) -> float:
    """Return the share of a run that is done, 0 to 1, by steps or by time, whichever ends first.

    Without a time limit it depends on the step alone, and so does everything else in a run.

    Args:
        step: optimizer steps taken.
        steps: optimizer steps of the run; None for no limit.
        seconds: duration so far.
        minutes: time limit; None for no limit.
    """
    timed = seconds / (60 * minutes) if minutes else 0.0
    return min(1.0, max(step / steps if steps else 0.0, timed))


def learning_rate_factor(schedule: str, *, step: int, warmup: int, done: float) -> float:
    """Return the learning rate as a share of its peak: linear warm-up, then constant, or falling to 3 % at the end.

    Args:
        schedule: constant, linear or cosine.
        step: index of the next step, from 0.
        warmup: steps of warm-up; the learning rate of step 0 is above zero.
        done: share of the run that is done, 0 to 1.
    """
    rise = min(1.0, (step + 1) / (warmup + 1))
    falls = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    return rise * max(MIN_FACTOR, falls[schedule])
