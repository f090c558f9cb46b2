"""Files that a person has edited in a packed data set, or put there: kept when the pairs are packed again."""

import filecmp
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ip2p.errors import DataError
from ip2p.manifest import MANIFEST_FILE, DatasetManifest, read_manifest
from ip2p.shards import ROW_GROUP_SIZE, TEMPORARY, atomic_file, hash_file

PACKED = re.compile(r"\w+/(train|test)-\d{5}-of-\d{5}\.parquet")
"""Paths of packed pairs inside the folder, by which they are known where no manifest can be read."""
SHOWN = 3
"""Kept files that are named on the screen."""
MAX_NAME = 255
"""Bytes in the name of a file at most."""


def keep_edited(folder: Path, place: Path, say: Callable[[str], None]) -> None:
    """Copy what is a person's in a data set to another folder, over nothing that is there.

    Args:
        folder: folder of the data set, which is about to be replaced; need not exist.
        place: folder of the copies: of a file of the data set by its name, and of those in subfolders by their paths.
        say: function that prints a line.

    Raises:
        DataError: the disk is full.
    """
    kept = [_keep(path, folder, place) for path in _find_edited(folder)]
    if kept:
        shown = ", ".join(map(_show, kept[:SHOWN])) + (f" and {len(kept) - SHOWN} more" if kept[SHOWN:] else "")
        whose, were = ("file of yours", "it was") if len(kept) == 1 else ("files of yours", "they were")
        say(f"{len(kept)} {whose} in {folder} will be replaced with the pairs; as {were}, kept as {shown}")


def _find_edited(folder: Path) -> Iterator[Path]:
    """Yield the files that ip2p did not write, or that are not as it wrote them; no empty ones."""
    manifest: DatasetManifest | None = None
    with suppress(DataError):  # then nobody knows what was edited
        manifest = read_manifest(folder)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield path
        elif path.is_file() and path.stat().st_size and not _is_ours(path, name, manifest):
            yield path


def _is_ours(path: Path, name: str, manifest: DatasetManifest | None) -> bool:
    """Return whether a file is what ip2p wrote, or damage of it."""
    if name == MANIFEST_FILE or TEMPORARY.fullmatch(path.name):
        return True
    if manifest and name in manifest.files:  # what a person has edited can be read
        return hash_file(path) == manifest.files[name].sha256 or not _is_whole(path)
    if manifest and name in manifest.documents:
        return hash_file(path) == manifest.documents[name]
    return manifest is None and bool(PACKED.fullmatch(name))


def _is_whole(path: Path) -> bool:
    """Return whether all of a parquet file can be read; checksums tell bits that have flipped in its rows."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as reader:
            for _ in reader.iter_batches(ROW_GROUP_SIZE):
                pass
    except (OSError, pa.ArrowException):
        return False
    return True


def _keep(path: Path, folder: Path, place: Path) -> Path:
    """Copy a file, or a link, over nothing that is there; returns the path of the copy, or of an equal one."""
    relative = path.relative_to(folder)
    for number in itertools.count(1):
        more = f"-{number}" if number > 1 else ""
        if relative.parent == Path():
            kept = place / _with_ending(path.name, f".edited{more}")
        else:
            kept = place / f"{folder.name}.edited" / relative.with_name(_with_ending(path.name, more))
        if not os.path.lexists(kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                kept.symlink_to(path.resolve())
            else:
                with atomic_file(kept) as temporary:
                    shutil.copyfile(path, temporary)
        if kept.resolve() == path.resolve() or (kept.is_file() and path.is_file() and filecmp.cmp(path, kept, False)):
            break
    return kept


def _with_ending(name: str, more: str) -> str:
    """Return the name of a file with more before its suffix, in the 255 bytes that file systems allow."""
    path = Path(name)
    longer = f"{path.stem}{more}{path.suffix}"
    if len(os.fsencode(longer)) > MAX_NAME:
        longer = os.fsdecode(os.fsencode(name)[: MAX_NAME - len(more)]) + more
    return longer


def _show(path: Path) -> str:
    """Write a path so that any screen can show it."""
    return os.fsencode(path).decode(errors="replace")
