"""Metrics of a run: metrics.jsonl, one JSON object per step."""

import json
from pathlib import Path

from ip2p.shards import atomic_write


def read_metrics(path: Path) -> list[dict[str, int | float]]:
    """Read all rows of a metrics.jsonl, except a last row that was cut off by a kill."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


class Metrics:
    """Writes metrics, one row at a time.

    Args:
        path: path of metrics.jsonl. Rows of steps beyond `step` come from a session that was killed after its last
            checkpoint; they are removed, since these steps are taken again.
        step: step from which the run resumes.
        active: whether to write; False on all ranks but one.
    """

    def __init__(self, path: Path, *, step: int, active: bool = True) -> None:
        self.path, self.active = path, active
        if active:
            kept = [row for row in read_metrics(path) if row["step"] <= step]
            atomic_write(path, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def write(self, **row: int | float) -> None:
        """Append a row; `step` is the number of steps taken."""
        if self.active:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
