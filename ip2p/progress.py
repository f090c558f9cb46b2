"""Progress on a terminal as a bar, elsewhere as plain lines."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_INTERVAL = 10.0
"""Seconds between plain lines."""


class StageProgress:
    """How far one stage is; a context.

    Args:
        name: of the stage.
        unit: what it counts, such as "candidates".
        total: of them.
        done: that were there already.
        say: prints a plain line.
    """

    def __init__(self, name: str, unit: str, *, total: int, done: int, say: Callable[[str], None]) -> None:
        self.name, self.unit, self.total, self.done = name, unit, total, done
        self.say = say
        self.started = self._said = time.monotonic()
        self.made = 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        console = Console()
        if console.is_terminal:
            columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
            self._bar = Progress(
                *columns, TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.fields[note]}"),
                console=console,
            )  # fmt: skip

    def __enter__(self) -> "StageProgress":
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self.name, total=self.total, completed=self.done, note="")
        elif self.done < self.total:
            already = f", {self.done} already there" if self.done else ""
            self.say(f"{self.name}: {self.total} {self.unit}{already}")
        return self

    def advance(self, count: int, note: str = "") -> None:
        """So many more are made; `note` is shown beside them."""
        self.made += count
        self.done += count
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=", ".join(filter(None, (self.rate, note))))
        elif time.monotonic() - self._said >= LINE_INTERVAL:
            self._said = time.monotonic()
            left = (self.total - self.done) * self.seconds / max(self.made, 1)
            self.say(
                f"{self.name}: {self.done} of {self.total} {self.unit}, {self.rate}"
                f"{', ' + note if note else ''}, about {left / 60:.0f} min left"
            )

    @property
    def rate(self) -> str:
        """Made in this session, by the second."""
        return f"{self.made / self.seconds:.1f} a second"

    @property
    def seconds(self) -> float:
        """Since the stage began, in this session."""
        return max(time.monotonic() - self.started, 1e-9)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
