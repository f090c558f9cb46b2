"""Pictures where they are stored: bytes in a row, a file, or a part of a tar file. None is copied."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from ip2p.errors import ImageError
from ip2p.pictures.read import read_bytes

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Endings of picture files."""
PART = re.compile(r"(?P<file>.+\.tar)#(?P<start>\d+)\+(?P<size>\d+)", re.DOTALL)
"""Path of a part of a tar file: shards/000.tar#1536+20480 is 20480 bytes from byte 1536 on."""
MISSING_HINT = "Give it, or remove the row"


class Stored(TypedDict):
    """A picture as `datasets` stores it: its bytes, or the path of its file, or of a part of a tar file."""

    bytes: bytes | None
    path: str | None


def find_inside(root: Path, *folders: Path) -> Callable[[str], Path | None]:
    """Return a function that finds a picture file by a name that a row gives; None if it is outside of `root`.

    Args:
        root: folder of the data set.
        folders: folders to look in.
    """

    def find(name: str) -> Path | None:
        for folder in folders or (root,):
            try:
                path = (folder / name).resolve()
                if path.is_relative_to(root.resolve()) and path.is_file():
                    return path
            except (OSError, ValueError):  # a name that no file can have
                return None
        return None

    return find


def part_of(file: Path, start: int, size: int) -> Stored:
    """Point to `size` bytes of a tar file from byte `start` on."""
    return Stored(bytes=None, path=f"{file}#{start}+{size}")


def read_stored(stored: Mapping[str, Any] | None, name: str) -> bytes:
    """Read the bytes of a stored picture.

    Args:
        stored: bytes or path, see `Stored`; None if there is no picture.
        name: name of the picture, for errors.

    Raises:
        ImageError: there is no picture, or its file cannot be read.
    """
    if stored is None or (stored["bytes"] is None and stored["path"] is None):
        raise ImageError(f"{name} is missing", MISSING_HINT)
    if stored["bytes"] is not None:
        return bytes(stored["bytes"])
    part = PART.fullmatch(stored["path"])
    return _read_part(Path(part["file"]), int(part["start"]), int(part["size"])) if part else read_bytes(stored["path"])


def _read_part(file: Path, start: int, size: int) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(start)
            return stream.read(size)
    except OSError as error:
        raise ImageError(f"cannot read {file} ({error.strerror})", "Check its name and permissions") from error
