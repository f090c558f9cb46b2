"""Writes what a program has measured as JSON, with the command and the versions."""

import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from ip2p.ownership import require_own
from ip2p.shards import atomic_write


def require_figures(path: Path) -> None:
    """Check, before anything is measured, that figures may be written to a file: it is not there, or has such figures.

    Raises:
        DataError: something else is there.
    """
    require_own(path.parent, [path.name], mark=path.name, keys=("command", "versions"))


def write_figures(path: Path, figures: Mapping[str, Any], console: Console) -> None:
    """Write figures and whatever else tells how they came about, and say where they are."""
    about = {
        "command": "python " + " ".join(sys.argv),
        "versions": {name: version(name) for name in ("ip2p", "torch", "diffusers")},
    }
    atomic_write(path, (json.dumps(about | dict(figures), indent=1) + "\n").encode())
    console.print(f"wrote {path}", highlight=False)
