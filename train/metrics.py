"""The record of a run: metrics.jsonl, one row per step, and a progress line."""

import json
import sys
import time
from pathlib import Path
from typing import TextIO

from ip2p.shards import atomic_write

QUIET_SECONDS = 10.0  # between progress lines, where the output is not a terminal


def read_metrics(path: Path) -> list[dict[str, int | float]]:
    """All rows of a metrics.jsonl; a last row that was cut off by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


class Metrics:
    """Writes rows and shows where the run is.

    Args:
        path: of metrics.jsonl. Rows of steps beyond `step` are of a session that was killed after its last checkpoint;
            they will be written again, so they go.
        step: where the run goes on.
        steps: where it ends; None where only the time ends it.
        active: False on all ranks but one: nothing is written or shown.
        stream: to show progress on.
        unit: what a sample is called.
    """

    def __init__(
        self,
        path: Path,
        *,
        step: int,
        steps: int | None,
        active: bool = True,
        stream: TextIO = sys.stderr,
        unit: str = "samples",
    ) -> None:
        self.path = path
        self.steps = steps
        self.active = active
        self._stream = stream
        self._unit = unit
        self._shown = float("-inf")
        self._since = (time.monotonic(), 0.0)
        self._open_line = False
        if active:
            kept = [row for row in read_metrics(path) if row["step"] <= step]
            atomic_write(path, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def write(self, **row: int | float) -> None:
        """Append a row; `step` counts the steps that are done."""
        if self.active:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def progress(self, *, step: int, samples: int, loss: float, done: float) -> None:
        """Show step, share done, samples/s since the last line, and loss."""
        now = time.monotonic()
        terminal = self._stream.isatty()
        last = done >= 1 or step == self.steps
        if not self.active or (now - self._shown < (0.2 if terminal else QUIET_SECONDS) and not last):
            return
        seconds, before = now - self._since[0], self._since[1]
        rate = f"{(samples - before) / seconds:6.1f} {self._unit}/s" if before else f"     - {self._unit}/s"
        self._shown, self._since = now, (now, samples)
        line = f"step {step}{f'/{self.steps}' if self.steps else ''}  {done:4.0%}  {rate}  loss {loss:.4f}"
        self._stream.write(f"\r{line}\033[K" if terminal else line + "\n")
        self._stream.flush()
        self._open_line = terminal

    def say(self, line: str) -> None:
        """A line of its own, under whatever progress stands there."""
        if self.active:
            self._stream.write(("\n" if self._open_line else "") + line + "\n")
            self._stream.flush()
            self._open_line = False

    def close(self) -> None:
        """End the progress line."""
        self._stream.write("\n" if self._open_line else "")
        self._open_line = False
