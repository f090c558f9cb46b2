"""Who may write to a folder: only what ip2p made is replaced, and only one run at a time writes.

Locks are those of the operating system (flock), on files where several machines share a folder: they end with the
process that has them, even if it is killed, and are inherited by processes that get the open file.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ip2p.errors import BusyError, DataError, reason, write_hint
from ip2p.shards import atomic_write

LOCK_HINT = "Give a folder on a file system with locks; a network drive may have to be mounted with them"


def require_own(folder: Path, names: Iterable[str], *, mark: str, keys: Iterable[str]) -> None:
    """Check that a command may write files of some names into a folder: none is there, or ip2p made them.

    Args:
        folder: folder to write to, which need not exist.
        names: names of the files and folders that the command writes, `mark` among them.
        mark: name of a JSON file that the command writes before all others.
        keys: keys of the object in it, by which it is known.

    Raises:
        DataError: the folder is a file or would lie in one, or one of the names is that of a file of somebody else's.
    """
    require_way(folder)
    try:
        if set(keys) <= json.loads((folder / mark).read_bytes()).keys():
            return
    except (OSError, ValueError, AttributeError):
        pass
    for path in (folder / name for name in names):
        if path.exists() or path.is_symlink():
            raise DataError(f"{path} is there and was not made by ip2p", "Give another folder, or move it away")


def require_way(folder: Path) -> None:
    """Check that a folder is there or can be made: no file is in its place, or in that of a folder above it.

    Raises:
        DataError: a file is.
    """
    found = next(each for each in (folder, *folder.parents) if each.exists())
    if not found.is_dir():
        raise DataError(f"{found} is a file", "Give another folder")


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
def sole_writer(folder: Path, *, file: str = "", shared: bool = False) -> Iterator[int]:
    """Context manager that locks a folder against other runs. The lock ends with the process, even if it is killed.

    Args:
        folder: folder to lock.
        file: name of a file in it that is locked in its stead, and made if missing; only that locks a folder on a
            network against other machines.
        shared: whether other runs may share the lock; a run that wants it alone is refused as long as any has it.

    Yields:
        The open file, or folder. A process that inherits it keeps the lock until it ends, too.

    Raises:
        BusyError: another run has the lock.
        DataError: the file system cannot lock.
    """
    with _opened(folder / file, flags=os.O_RDWR | os.O_CREAT if file else os.O_RDONLY) as handle:
        lock(handle, folder, shared=shared)
        yield handle


@contextmanager
def lease(file: Path) -> Iterator[bool]:
    """Context manager that tries to get a piece of work for this process alone; gives False if another one has it.

    Raises:
        DataError: the file system cannot lock.
    """
    with _opened(file) as handle:
        try:
            lock(handle, file)
        except BusyError:
            yield False
        else:
            yield True


@contextmanager
def mutex(file: Path) -> Iterator[None]:
    """Context manager that waits until no other process is in it, for changes that take a moment.

    Raises:
        DataError: the file system cannot lock.
    """
    with _opened(file) as handle:
        lock(handle, file, wait=True)
        yield


def lock(handle: int, path: Path, *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file or folder against other runs until it is closed.

    Args:
        handle: open file or folder.
        path: its path, for errors.
        shared: whether other runs may share the lock.
        wait: whether to wait for another run that has it.

    Raises:
        BusyError: another run has the lock.
        DataError: the file system cannot lock.
    """
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        raise BusyError(f"another run is writing to {path}", "Wait for it, or give another folder") from error
    except OSError as error:
        raise DataError(f"{path} cannot be locked ({reason(error)})", LOCK_HINT) from error


@contextmanager
def _opened(file: Path, *, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """Context manager that opens a file to be locked, and makes it and its folder if missing.

    Raises:
        DataError: it cannot be made.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, flags, 0o644)
    except OSError as error:
        raise DataError(f"{file} cannot be made ({reason(error)})", write_hint(error.errno)) from error
    try:
        yield handle
    finally:
        os.close(handle)
