"""The record of a run: metrics.jsonl, one row per step."""

import json
from pathlib import Path

from ip2p.shards import atomic_write


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
    """Writes rows.

    Args:
        path: place of metrics.jsonl. Rows of steps beyond `step` are of a session that was killed after its last
            checkpoint; they will be written again, so they go.
        step: where the run goes on.
        active: False on all ranks but one: nothing is written.
    """

    def __init__(self, path: Path, *, step: int, active: bool = True) -> None:
        self.path, self.active = path, active
        if active:
            kept = [row for row in read_metrics(path) if row["step"] <= step]
            atomic_write(path, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def write(self, **row: int | float) -> None:
        """Append a row; `step` counts the steps that are done."""
        if self.active:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
