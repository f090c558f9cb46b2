"""Read texts from files of several formats and from data sets: one for each row, in order.

Files are read row by row, and errors name the line. Data sets are streamed, so none is downloaded as a whole.
"""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ip2p.data_folders import dataset_arguments
from ip2p.data_gen.config import CaptionsConfig
from ip2p.errors import DataError, reason

SOURCE_HINT = (
    "Give captions.source as storybook, a text, JSONL, CSV, TSV or parquet file, a folder, or owner/name of the hub"
)
ENCODING_HINT = "Save it as UTF-8; `iconv -f WINDOWS-1252 -t UTF-8 old > new` does so, or another name of what it is in"
SUFFIXES = (".txt", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".json", ".gz")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
ROWS_AT_ONCE = 1024
"""Rows of a parquet file that are in memory at a time."""
MAX_CELL = 2**24
"""Characters of a cell of CSV. The limit of Python's own reader is for short texts; none at all would take the rest of
a file for one cell where a quotation mark is not closed."""


def is_hub_name(source: str) -> bool:
    """Return whether a source that is no file or folder looks like the name of a hub data set."""
    return bool(HUB_NAME.fullmatch(source)) and not source.lower().endswith(SUFFIXES) and not Path(source).exists()


def read_texts(settings: CaptionsConfig) -> Iterator[str]:
    """Read the texts of a file or a data set, stripped; "" for a row without text.

    A text file gives its lines, empty ones too; other sources the column `text_column`. Files may be gzipped.

    Raises:
        DataError: the source is missing, a row cannot be read, or there is no such column or split.
    """
    path = Path(settings.source)
    if path.is_dir() or is_hub_name(settings.source):
        yield from _read_dataset(settings)
    elif not path.is_file():
        raise DataError(f"there is no file of captions {path}", SOURCE_HINT)
    else:
        try:
            yield from _read_file(path, settings.text_column)
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            raise DataError(f"cannot read captions from {path} ({reason(error, 160)})", SOURCE_HINT) from error


def _read_file(path: Path, column: str) -> Iterator[str]:
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind == ".parquet":
        return _read_parquet(path, column)
    if kind in (".jsonl", ".ndjson"):
        return _read_jsonl(path, column)
    if kind in (".csv", ".tsv"):
        return _read_csv(path, column, "\t" if kind == ".tsv" else ",")
    if kind == ".json":
        raise DataError(f"{path} may be JSON of any shape", "Write one object a line, and name it .jsonl")
    return (_replace_surrogates(line) for line in _lines(path))


def _read_jsonl(path: Path, column: str) -> Iterator[str]:
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{place} is not JSON", "Write one JSON object a line") from error
            if not isinstance(row, dict):
                raise DataError(f"{place} is JSON, but no object", f'Write it as {{"{column}": "a red barn"}}')
            yield _text(row, column, place)


def _read_csv(path: Path, column: str, delimiter: str) -> Iterator[str]:
    csv.field_size_limit(MAX_CELL)
    with closing(_lines(path, newline="")) as lines:  # an error leaves no open file
        rows = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            names = rows.fieldnames or []
            if names and column not in names:
                _raise_no_column(str(path), column, names)
            for row in rows:
                place = f"{path}, line {rows.line_num}"
                if None in row:
                    fix = "Quote texts that have commas or tabs"
                    raise DataError(f"{place} has more cells than the first line", fix)
                yield _text(row, column, place)
        except csv.Error as error:
            fix = "Close every quotation mark, and double those inside of quoted cells"
            raise DataError(f"{path} is not CSV from line {rows.line_num + 1} on ({error})", fix) from error


def _read_parquet(path: Path, column: str) -> Iterator[str]:
    done = 0
    with pq.ParquetFile(path) as table:
        if column not in table.schema_arrow.names:
            _raise_no_column(str(path), column, table.schema_arrow.names)
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=[column]):
            try:
                rows = batch.to_pylist()
            except UnicodeDecodeError as error:
                place = f"{path}, rows {done + 1} to {done + len(batch)}"
                raise DataError(f"{column!r} in {place} is not UTF-8", "Write the column anew, as strings") from error
            for number, row in enumerate(rows, done + 1):
                yield _text(row, column, f"{path}, row {number}")
            done += len(batch)


def _read_dataset(settings: CaptionsConfig) -> Iterator[str]:
    """Stream the rows of a folder or hub data set."""
    rows = iter(_open_dataset(settings))
    number = 0
    while True:
        number += 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # whatever files, formats and networks raise: each has errors of its own
            _raise_unreadable(settings, error)
        yield _text(row, settings.text_column, f"{settings.source}, row {number}")


def _open_dataset(settings: CaptionsConfig) -> Iterable[dict[str, Any]]:
    """Open a stream of rows, with the column of captions only if the columns are known."""
    from datasets import load_dataset, load_dataset_builder  # takes a second, which no other source needs

    try:
        place = dataset_arguments(settings.source, settings.subset or None)
        builder = load_dataset_builder(**place)
        rows = builder.as_streaming_dataset(settings.split)
        names = rows.column_names
        if names and settings.text_column in names:
            if builder.name == "parquet":  # other columns are not even read
                only = {"columns": [settings.text_column]}
                rows = load_dataset(**place, split=settings.split, streaming=True, **only)
            else:
                rows = rows.select_columns([settings.text_column])
    except Exception as error:  # as above
        _raise_unreadable(settings, error)
    if names and settings.text_column not in names:
        _raise_no_column(settings.source, settings.text_column, names)
    return cast(Iterable[dict[str, Any]], rows)


def _raise_unreadable(settings: CaptionsConfig, error: Exception) -> NoReturn:
    """Raise a DataError that explains why a data set cannot be read."""
    source = settings.source
    if Path(source).is_dir():
        fix = "Check its files (parquet, JSONL, CSV or text), captions.split and captions.subset"
    else:
        fix = (
            f"There is no file or folder {source}, so it is looked for on the hub: check the name, the connection "
            "(HF_HUB_OFFLINE too), captions.split and captions.subset; log in by `hf auth login` if it is gated; "
            "or download it and give the folder"
        )
    raise DataError(f"cannot read captions from {source} ({reason(error, 160)})", fix) from error


def _lines(path: Path, newline: str | None = None) -> Generator[str, None, None]:
    """Yield the lines of a text file, gzipped or not, with or without a byte order mark.

    Bytes that are not UTF-8 become surrogates, so that an error can name their line.
    """
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=newline) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.encode()
            except UnicodeEncodeError as error:
                place = f"{path}, line {number}, character {error.start + 1}"
                raise DataError(f"{place} is not UTF-8", ENCODING_HINT) from error
            yield line


def _text(row: dict[str, Any], column: str, place: str) -> str:
    """Return the caption in a row."""
    if column not in row:
        _raise_no_column(place, column, list(row))
    text = row[column]
    if not isinstance(text, str | None):
        raise DataError(
            f"{column!r} in {place} is no text but {type(text).__name__}",
            f"Name another column by captions.text_column (there are {', '.join(map(str, row))}), or write it as text",
        )
    return _replace_surrogates(text or "")


def _replace_surrogates(text: str) -> str:
    """Replace surrogates, which JSON may contain and UTF-8 cannot encode."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()


def _raise_no_column(place: str, column: str, names: Sequence[str]) -> NoReturn:
    found = f"; there are {', '.join(names)}" if names else ""
    raise DataError(f"no column {column!r} in {place}", f"Name the column of captions by captions.text_column{found}")
