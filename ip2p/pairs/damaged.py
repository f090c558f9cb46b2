"""Parquet files of a data set that cannot be read, so that the rows of the others can be used."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ip2p.errors import DataError, reason
from ip2p.manifest import DatasetManifest
from ip2p.shards import Contents, verify_parquet


class DamagedFile(NamedTuple):
    """A file that cannot be read, its number of rows as far as it can be told, and why."""

    path: Path
    rows: int
    fault: str


def find_damaged(folder: Path, files: list[Path], manifest: DatasetManifest | None) -> list[DamagedFile]:
    """Read parquet files whole, and return those that cannot be read or are not as their manifest says.

    Args:
        folder: folder of the data set.
        files: its parquet files.
        manifest: its manifest; None if it has none.
    """
    contents = manifest.files if manifest else {}
    found = []
    for file in files:
        known = contents.get(file.relative_to(folder).as_posix())
        if known is None:
            fault = _reading_fault(file)
        else:
            fault = _difference(file, known)
        if fault:
            found.append(DamagedFile(file, known.rows if known else _count_rows(file), fault))
    return found


def _difference(file: Path, contents: Contents) -> str:
    """Return how a file differs from its manifest, "" if it does not."""
    try:
        verify_parquet(file, contents)
    except DataError as error:
        return error.what
    return ""


def _reading_fault(file: Path) -> str:
    """Read all of a file; returns why that does not go, "" if it does."""
    try:
        for _ in _batches(file):
            pass
    except (OSError, ValueError, pa.ArrowException) as error:
        return f"the file is damaged ({reason(error, 120)})"
    return ""


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file, page_checksum_verification=True) as table:
        yield from table.iter_batches(64)


def _count_rows(file: Path) -> int:
    """Return the rows of a file by its footer; one if that is damaged, too."""
    try:
        return max(1, int(pq.read_metadata(file).num_rows))
    except (OSError, ValueError, pa.ArrowException):
        return 1
