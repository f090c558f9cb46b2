"""Rows of tables read again one by one, so that nobody has to hold the bytes of their pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ip2p.errors import DataError, one_line
from ip2p.pairs.columns import Reading
from ip2p.pairs.read import find_file, is_saved, locate, open_splits, wanted_columns
from ip2p.pairs.rows import SIDES, StoredPair, to_pair
from ip2p.pairs.stored import find_inside


class _Group(NamedTuple):
    """A row group of a parquet file, and the number of its first row."""

    file: Path
    first: int
    rows: pa.Table


class RowReader:
    """Reads the rows of a source again: of parquet files, of `save_to_disk`, of the hub.

    Args:
        source: file, folder, or name of a data set on the hub.
        reading: names of columns, and an instruction for all.

    Raises:
        DataError: there is no such source.
    """

    def __init__(self, source: str | Path, reading: Reading) -> None:
        path, self.reading = locate(source), reading
        self.root = path if path.is_dir() else path.parent
        self.tables = open_splits(source) if is_saved(path) or not path.exists() else {}
        self._group: _Group | None = None

    def release(self, pair: StoredPair) -> Callable[[], StoredPair]:
        """Return a function that gives a pair, and holds none of its bytes if they can be read again."""
        held = any((stored := getattr(pair, side)) and stored["bytes"] for side in SIDES)
        place, (name, _, number) = pair.place, pair.place.rpartition(", row ")
        if held and name in self.tables:
            return lambda: self._read_table(name, int(number))
        if held and name.endswith(".parquet") and (file := self.root / name).is_file():
            return lambda: self._read_file(file, int(number), place)
        return lambda: pair

    def _read_table(self, split: str, number: int) -> StoredPair:
        table = self.tables[split]
        names = wanted_columns(table.column_names, self.reading.columns)
        return to_pair(table.select_columns(names)[number], f"{split}, row {number}", find_file, self.reading)

    def _read_file(self, file: Path, number: int, place: str) -> StoredPair:
        """Read a row of a parquet file; its row group stays in memory until another is asked for.

        Raises:
            DataError: the file cannot be read any more.
        """
        group = self._group
        if group is None or group.file != file or not 0 <= number - group.first < len(group.rows):
            self._group = None  # so that there are never two in memory
            try:
                self._group = group = _read_group(file, number, self.reading)
            except (OSError, IndexError, pa.ArrowException) as error:
                raise DataError(
                    f"{place} cannot be read any more ({one_line(error)})", "Bring the file anew"
                ) from error
        (values,) = group.rows.slice(number - group.first, 1).to_pylist()
        return to_pair(values, place, find_inside(self.root, file.parent), self.reading)


def _read_group(file: Path, number: int, reading: Reading) -> _Group:
    """Read the row group of a row."""
    with pq.ParquetFile(file, page_checksum_verification=True) as table:
        first, group = 0, 0
        while number >= first + (size := table.metadata.row_group(group).num_rows):
            first, group = first + size, group + 1
        return _Group(
            file, first, table.read_row_group(group, wanted_columns(table.schema_arrow.names, reading.columns))
        )
