"""Folders of builds of data sets, as those know them who read what is inside: settings, and how to mend damage."""

import json
from pathlib import Path
from typing import Any

BUILD_FILE = "build.json"
"""Settings of a build, in the folder above those of its stages."""
PACKED_FOLDER = "packed"
"""Folder of the data set in that of a build."""
FINGERPRINT = "fingerprint"
"""Key of the fingerprint that the packed data set of these settings has."""
DEPTH = 3
"""Folders above a file of a build in which its settings may be: those of a batch are three above."""


def find_build(path: Path) -> Path | None:
    """Return the folder of the build that a file or folder inside belongs to; None if there is none."""
    return next((each for each in list(path.parents)[:DEPTH] if (each / BUILD_FILE).exists()), None)


def find_packed_build(folder: Path) -> Path | None:
    """Return the folder of the build whose packed data set a folder is; None if it is none."""
    is_packed = folder.resolve().name == PACKED_FOLDER and (folder / ".." / BUILD_FILE).exists()
    return (folder.parent if folder.name == PACKED_FOLDER else folder.resolve().parent) if is_packed else None


def read_fingerprint(build: Path) -> str | None:
    """Return the fingerprint that the data set of a build should have; None if its settings do not say."""
    try:
        settings: dict[str, Any] = json.loads((build / BUILD_FILE).read_bytes())
        return settings.get(FINGERPRINT)
    except (OSError, ValueError, AttributeError):
        return None


def redo_hint(path: Path) -> str:
    """Say how a damaged or missing shard is made again, whatever command has read it."""
    first = f"Delete {path.name} and run" if path.exists() else "Run"
    if build := find_build(path):
        return f"{first} `ip2p dataset build out={build}`, which makes what is missing"
    return f"{first} the command that wrote it again, which makes what is missing"


def repack_hint(folder: Path) -> str:
    """Say how a damaged data set is made again."""
    if build := find_packed_build(folder):
        return f"Run `ip2p dataset filter out={build}`, which packs it again"
    return "Make the data set again, or copy it again from where it is whole"
