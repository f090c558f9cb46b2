"""Show progress: a bar if stderr is a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

LINE_INTERVAL = 10.0
"""Seconds between plain lines."""
BAR_INTERVAL = 0.2
"""Seconds between updates of a rate on a terminal."""


class _Display:
    """Context manager that shows a bar or prints lines; a bar hides the cursor until it ends.

    Args:
        columns: columns of the bar; the last one shows `note`.
        say: function that prints a plain line.
        transient: whether the bar is removed at the end.
        active: whether anything is shown.
    """

    def __init__(
        self, *columns: ProgressColumn, say: Callable[[str], None], transient: bool = False, active: bool = True
    ) -> None:
        console = Console(stderr=True)
        self.say, self._active = say if active else lambda _: None, active
        self._bar = Progress(*columns, console=console, transient=transient) if console.is_terminal and active else None
        self._said = time.monotonic()

    def _start(self) -> None:
        if self._bar:
            self._bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def _draw(self, **values: Any) -> None:
        """Update the bar; the first update starts it."""
        if self._bar and self._bar.tasks:
            self._bar.update(self._bar.tasks[0].id, **values)
        elif self._bar:
            self._bar.add_task(**{"description": "", "note": "", **values})

    def _due(self, interval: float) -> bool:
        """Whether `interval` seconds have passed since the last True."""
        now = time.monotonic()
        if now - self._said < interval:
            return False
        self._said = now
        return True


class StageProgress(_Display):
    """Context manager that shows the progress of one stage.

    Args:
        name: name of the stage.
        unit: name of what is counted, such as "candidates".
        total: number of units in all.
        done: number of units that exist already.
        say: function that prints a plain line.
        transient: whether the bar is removed at the end.
        active: whether anything is shown.

    Attributes:
        remark: text that is shown behind the note.
    """

    def __init__(
        self,
        name: str,
        unit: str,
        *,
        total: int,
        done: int,
        say: Callable[[str], None],
        transient: bool = False,
        active: bool = True,
    ) -> None:
        super().__init__(
            TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
            TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.fields[note]}"),
            say=say, transient=transient, active=active,
        )  # fmt: skip
        self.name, self.unit, self.total, self.done = name, unit, total, done
        self.remark = ""
        self.started = self._said
        self.made = 0

    def __enter__(self) -> "StageProgress":
        self._draw(description=self.name, total=self.total, completed=self.done)
        if not self._bar and self.done < self.total:
            already = f", {self.done} already there" if self.done else ""
            self.say(f"{self.name}: {self.total} {self.unit}{already}")
        self._start()
        return self

    def advance(self, count: int, note: str = "") -> None:
        """Count `count` more units as done; `note` is shown beside the rate."""
        self.made += count
        self.done += count
        note = ", ".join(filter(None, (note, self.remark)))
        if self._bar:
            self._draw(completed=self.done, note=", ".join(filter(None, (self.rate, note))))
        elif self._due(LINE_INTERVAL):
            left = (self.total - self.done) * self.seconds / max(self.made, 1)
            self.say(
                f"{self.name}: {self.done} of {self.total} {self.unit}, {self.rate}"
                f"{', ' + note if note else ''}, about {left / 60:.0f} min left"
            )

    @property
    def rate(self) -> str:
        """Units per second in this session."""
        return f"{self.made / self.seconds:.1f} a second"

    @property
    def seconds(self) -> float:
        """Seconds since the stage started in this session."""
        return max(time.monotonic() - self.started, 1e-9)


class TrainingProgress(_Display):
    """Context manager that shows the progress of a training, its speed and its loss.

    Args:
        steps: number of steps; None if only time ends the training.
        unit: name of what is counted, such as "samples".
        active: whether anything is shown: True on one rank only.

    Attributes:
        remark: text that is shown behind the loss.
    """

    def __init__(self, steps: int | None, unit: str, *, active: bool = True) -> None:
        super().__init__(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), say=lambda line: print(line, file=sys.stderr, flush=True), active=active,
        )  # fmt: skip
        self.steps, self.unit, self.remark = steps, unit, ""
        self._since: tuple[float, int] | None = None

    def __enter__(self) -> "TrainingProgress":
        self._start()
        return self

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose seconds do not count for the speed."""
        began = time.monotonic()
        try:
            yield
        finally:
            if self._since:
                self._since = (self._since[0] + time.monotonic() - began, self._since[1])

    def show(self, *, step: int, samples: int, loss: float, done: float) -> None:
        """Show the step, the share done (0 to 1), samples per second since the last call, and the loss."""
        first, last = self._since is None, done >= 1 or step == self.steps
        if not (self._active and (self._due(BAR_INTERVAL if self._bar else LINE_INTERVAL) or first or last)):
            return
        name = f"step {step}{f'/{self.steps}' if self.steps else ''}"
        note = "  ".join(filter(None, (self._rate(samples), f"loss {loss:.4f}", self.remark)))
        if self._bar:
            self._draw(description=name, total=1.0, completed=done, note=note)
        else:
            self.say(f"{name}  {done:4.0%}  {note}")

    def _rate(self, samples: int) -> str:
        now, before = time.monotonic(), self._since
        self._since = (now, samples)
        speed = f"{(samples - before[1]) / max(now - before[0], 1e-9):.1f}" if before else "-"
        return f"{speed:>6} {self.unit}/s"
