"""Read anybody's pairs: from a file or folder of any layout, from `save_to_disk`, or from the hub."""

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets import Image as Picture
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from datasets.utils.logging import disable_progress_bar

from ip2p.builds import BUILD_FILE, PACKED_FOLDER
from ip2p.data_folders import dataset_arguments, file_arguments
from ip2p.errors import DataError, ImageError, reason
from ip2p.manifest import MANIFEST_FILE, find_faults, read_manifest
from ip2p.pairs.columns import Columns, Reading, find_columns, missing_columns
from ip2p.pairs.layouts import find_layout, split_of
from ip2p.pairs.rows import SIDES, PairRow, StoredPair, to_pair
from ip2p.pairs.stored import find_inside, read_stored

SAVED = ("dataset_dict.json", "state.json")
"""Files of a folder that `save_to_disk` wrote: of several splits, or of one."""
LAYOUT_HINT = (
    "Give a folder or file of parquet, JSONL, CSV or tar, folders control/ and target/ with pictures of the same "
    "names, a folder of save_to_disk, or the name of a data set on the hub; `make dataset` builds one"
)


def read_pairs(source: str | Path, reading: Reading | None = None) -> Iterator[PairRow]:
    """Read all pairs with the bytes of their pictures; a folder is compared with its manifest first, if it has one.

    Args:
        source: file, folder, or name of a data set on the hub.
        reading: names of columns, and an instruction for all.

    Raises:
        DataError: it does not exist, or has none of the known layouts.
    """
    path = locate(source)
    root = path if path.is_dir() else path.parent
    manifest = read_manifest(root) if path.exists() else None
    for fault in find_faults(root, manifest) if manifest else ():
        yield PairRow(MANIFEST_FILE, fault=fault.what)
    for pair in stored_pairs(source, reading or Reading()):
        yield _with_bytes(pair)


def stored_pairs(source: str | Path, reading: Reading) -> Iterator[StoredPair]:
    """Read all pairs of a source, whose pictures stay where they are stored.

    Raises:
        DataError: see `read_pairs`.
    """
    path = locate(source)
    if is_saved(path) or not path.exists():
        for split, table in open_splits(source).items():
            yield from table_pairs(table, split, find_file, reading)
        return
    found = find_layout(path)
    if found is None:
        raise DataError(f"{path} has pairs in no layout that is known", LAYOUT_HINT)
    files, read = found
    root = path if path.is_dir() else path.parent
    for file in files:
        split = split_of(file.relative_to(root).as_posix())
        for pair in read(root, file, reading):
            yield pair if split == "train" else StoredPair(**{**vars(pair), "split": split})


def locate(source: str | Path) -> Path:
    """Return the path of a source; that of a build is its data set, and that of a hub data set does not exist.

    Raises:
        DataError: there is nothing at the path, and it is no name of a data set on the hub.
    """
    path = Path(source)
    if (path / BUILD_FILE).exists():
        path = path / PACKED_FOLDER
    if not path.exists() and (path.is_absolute() or len(path.parts) != 2 or ".." in path.parts or path.suffix):
        raise DataError(f"there is no data set at {source}", LAYOUT_HINT)
    return path


def is_saved(path: Path) -> bool:
    """Return whether `save_to_disk` wrote a folder."""
    return any((path / name).is_file() for name in SAVED)


def open_splits(source: str | Path) -> dict[str, Dataset]:
    """Open a data set by `datasets`, memory-mapped: parquet, a folder of save_to_disk, or one on the hub.

    Returns:
        Its splits by name, whose pictures stay encoded.

    Raises:
        DataError: it cannot be read, or cannot be had.
    """
    path = locate(source)
    disable_progress_bar()
    try:
        if is_saved(path):
            found = load_from_disk(str(path))
        else:
            found = load_dataset(**(file_arguments(path) if path.is_file() else dataset_arguments(path)))
    except (DatasetNotFoundError, ConnectionError) as error:
        if path.exists():
            raise DataError(f"cannot read the data set {source} ({_reason(error)})", LAYOUT_HINT) from error
        raise DataError(
            f"there is no data set at {source}, and the hub cannot be asked for one or has none of this name",
            f"Give a path that is here, or bring it: `hf download --repo-type dataset {source} --local-dir FOLDER`, or "
            "build one with `make dataset`",
        ) from error
    except (OSError, ValueError, RuntimeError, DatasetsError, pa.ArrowException) as error:
        raise DataError(f"cannot read the data set {source} ({_reason(error)})", LAYOUT_HINT) from error
    splits = dict(found) if isinstance(found, DatasetDict) else {"train": found}
    return {str(name): keep_encoded(table) for name, table in splits.items()}


def open_files(files: Sequence[Path], root: Path) -> dict[str, Dataset]:
    """Open parquet files by `datasets`, memory-mapped: splits by name, as the files' names tell them.

    Args:
        files: files that can be read.
        root: folder of the data set.

    Raises:
        DataError: they cannot be read together.
    """
    splits: dict[str, list[str]] = {}
    for file in files:
        splits.setdefault(split_of(file.relative_to(root).as_posix()), []).append(glob.escape(str(file.resolve())))
    try:
        found = load_dataset("parquet", data_files=splits)
    except (OSError, ValueError, RuntimeError, DatasetsError, pa.ArrowException) as error:
        raise DataError(f"cannot read the data set {root} ({_reason(error)})", LAYOUT_HINT) from error
    return {str(name): keep_encoded(table) for name, table in found.items()}


def table_pairs(
    table: Dataset, split: str, find: Callable[[str], Path | None], reading: Reading
) -> Iterator[StoredPair]:
    """Read the pairs of a data set; only columns that are known or named are read.

    Args:
        table: data set whose pictures stay encoded.
        split: name of its split.
        find: function that finds a picture file that a row names.
        reading: names of columns, and an instruction for all.
    """
    side = split_of(split)
    for number, values in enumerate(table.select_columns(wanted_columns(table.column_names, reading.columns))):
        pair = to_pair(values, f"{split}, row {number}", find, reading)
        yield pair if side == "train" else StoredPair(**{**vars(pair), "split": side})


def wanted_columns(names: list[str], columns: Columns) -> list[str]:
    """Return the columns that hold a field; all of them if one is missing, so that its error can name them."""
    found = find_columns(names, columns)
    missing = missing_columns(found, columns) or not {"edited", "instruction"} <= found.keys()
    return names if missing else [name for name in names if name in found.values()]


def find_file(name: str) -> Path | None:
    """Find a picture file that a data set of `datasets` names; its paths are absolute."""
    path = Path(name)
    return path if path.is_absolute() and path.is_file() else None


def _reason(error: Exception) -> str:
    """Say why `datasets` cannot read files: as the error behind its own says, which is an odd one for no rows."""
    behind = error.__cause__ if isinstance(error, DatasetsError) and error.__cause__ else error
    return "a parquet file of it has no rows" if "BatchSize must be greater" in str(behind) else reason(behind)


def local_finder(source: str | Path) -> Callable[[str], Path | None]:
    """Return the function that finds the picture files that the rows of a source name."""
    path = locate(source)
    if is_saved(path) or not path.exists():
        return find_file
    return find_inside(path if path.is_dir() else path.parent)


def keep_encoded(table: Dataset) -> Dataset:
    """Make a data set give its pictures as files, for `datasets` decodes them without regard to depth and profile."""
    for name, feature in table.features.items():
        if isinstance(feature, Picture):
            table = table.cast_column(name, Picture(decode=False))
    return table


def _with_bytes(pair: StoredPair) -> PairRow:
    """Read the pictures of a pair; one that is not readable is its fault."""
    values = {field.name: getattr(pair, field.name) for field in fields(pair)}
    faults = [pair.fault] if pair.fault else []
    for side in SIDES:
        if values[side] is not None:
            try:
                values[side] = read_stored(values[side], f"the {side} picture")
            except ImageError as error:
                values[side], faults = None, [*faults, error.what]
    return PairRow(**values | {"fault": " and ".join(faults)})
