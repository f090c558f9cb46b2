"""Costs of a build over all of its sessions: seconds by stage, and money for the writer.

Seconds of drawing are stored with each batch and counted with its shard, so that those of a killed session count as its
UNet rows do. Only what the session had not stored, the batch it was killed in, counts in neither.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

from ip2p.errors import told_if_unwritable
from ip2p.plurals import duration
from ip2p.remote.ledger import LEDGERS, read_spending

SECONDS_FILE = "seconds.jsonl"


class Costs(NamedTuple):
    """Seconds of each stage, and USD of all requests to language models."""

    seconds: dict[str, float]
    usd: float

    def per_pair(self, pairs: int, unet_rows: int) -> str:
        """Describe what each kept pair has cost; what all cost together if none was kept."""
        share = max(pairs, 1)
        seconds = sum(self.seconds.values()) / share
        said = f"{duration(seconds)}, {unet_rows / share:.0f} UNet rows and {self.usd / share:.2g} USD"
        return f"{said} for each kept pair" if pairs else f"{said}, and no pair was kept"

    def by_stage(self) -> str:
        """Describe how long each stage took."""
        return ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in self.seconds.items()) or "not recorded"


def record_seconds(out: Path, stage: str, seconds: float, *, of: str = "") -> None:
    """Record how long some work has taken.

    Args:
        out: folder of the build, locked.
        stage: name of the stage.
        seconds: duration.
        of: name of the work, if it may be recorded more than once, as by the run that resumes it: the last time counts.
    """
    line = json.dumps({"stage": stage, "seconds": round(seconds, 3)} | ({"of": of} if of else {})) + "\n"
    with told_if_unwritable(out / SECONDS_FILE):
        handle = os.open(out / SECONDS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


def read_costs(out: Path) -> Costs:
    """Read the costs of a build; a line that was torn by a power cut is left out.

    Raises:
        DataError: another run writes to the ledger.
    """
    found: dict[tuple[str, str], float] = {}
    try:
        lines = (out / SECONDS_FILE).read_text().splitlines()
    except FileNotFoundError:
        lines = []
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
            found[row["stage"], row.get("of") or str(number)] = float(row["seconds"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    seconds: dict[str, float] = {}
    for (stage, _), each in found.items():
        seconds[stage] = seconds.get(stage, 0.0) + each
    usd = sum(read_spending(out, name).cost.usd for name in LEDGERS)
    return Costs(seconds, usd)
