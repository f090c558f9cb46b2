"""Who may write to a folder: only what ip2p made is replaced, and only one run at a time writes."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ip2p.errors import DataError
from ip2p.shards import atomic_write


def require_own(folder: Path, names: Iterable[str], *, mark: str, keys: Iterable[str]) -> None:
    """Check that a command may write files of some names into a folder: none is there, or ip2p made them.

    Args:
        folder: folder to write to, which need not exist.
        names: names of the files and folders that the command writes, `mark` among them.
        mark: name of a JSON file that the command writes before all others.
        keys: keys of the object in it, by which it is known.

    Raises:
        DataError: the folder is a file, or one of the names is that of a file of somebody else's.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file", "Give another folder")
    try:
        if set(keys) <= json.loads((folder / mark).read_bytes()).keys():
            return
    except (OSError, ValueError, AttributeError):
        pass
    for path in (folder / name for name in names):
        if path.exists() or path.is_symlink():
            raise DataError(f"{path} is there and was not made by ip2p", "Give another folder, or move it away")


def write_new(path: Path, data: bytes, *, beginning: bytes | None = None) -> None:
    """Write a file atomically that is not there yet, has the same bytes, or is known as an earlier one of its kind.

    Args:
        path: file to write.
        data: its bytes.
        beginning: first bytes by which an earlier file of the kind is known; None if there are none.

    Raises:
        DataError: another file is there.
    """
    if path.is_dir() or path.is_symlink():
        is_ours = False
    else:
        found = path.read_bytes() if path.exists() else data
        is_ours = found == data or (beginning is not None and found.startswith(beginning))
    if not is_ours:
        raise DataError(f"{path} is there and is not what would be written", "Give another name, or move it away")
    atomic_write(path, data)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Context manager that locks a folder against other runs. The lock ends with the process, even if it is killed.

    Raises:
        DataError: another run has the lock.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle, folder)
        yield
    finally:
        os.close(handle)


def lock(handle: int, path: Path) -> None:
    """Lock an open file or folder against other runs until it is closed.

    Raises:
        DataError: another run has the lock.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise DataError(f"another run is writing to {path}", "Wait for it, or give another folder") from error
