"""The pairs of a data set that can be trained on, as a `datasets` table, and what is wrong with the others.

Every row is read once before training begins, and its pictures are decoded, so that a bad one is never found in the
middle of a run. A row without a picture to edit can be used: it is trained without one.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, Features, Value, concatenate_datasets
from datasets import Image as Picture

from ip2p.errors import DataError
from ip2p.manifest import read_manifest, verify_dataset
from ip2p.pairs.check import check_pairs
from ip2p.pairs.columns import Reading, find_columns
from ip2p.pairs.damaged import DamagedFile, find_damaged
from ip2p.pairs.layouts import find_layout, split_of
from ip2p.pairs.memory import Checked, key_of_files, key_of_table, recall, remember
from ip2p.pairs.read import is_saved, local_finder, locate, open_files, open_splits, stored_pairs, table_pairs
from ip2p.pairs.rows import StoredPair
from ip2p.pairs.stored import Stored
from ip2p.records import content_id

ENCODED = Picture(decode=False)
MASK = "edit_mask"
FEATURES = Features({"original_image": ENCODED, "edit_prompt": Value("string"), "edited_image": ENCODED})
"""Columns of every table; that of a source with masks has MASK, too."""
COLUMNS = {"source": "original_image", "edited": "edited_image", "mask": MASK}
"""Columns of pictures by field."""
MOST_FAULTS, MOST_PLACES = 10, 3
"""Faults that are told, and rows that are named for each."""


class BadRow(NamedTuple):
    """A row that cannot be used: where it is, and why."""

    place: str
    fault: str


class UsablePairs(NamedTuple):
    """The usable pairs of one split.

    Attributes:
        table: data set with the columns of `FEATURES`; a row without a picture to edit has None in its place.
        sizes: width and height of each edited picture.
        triples: id of the triple that each pair was drawn for; that of the row itself where no captions tell it.
        without: whether each row has no picture to edit.
        bad: rows that were left out.
        digest: hash of the picture files of all that can be used.
    """

    table: Dataset
    sizes: list[tuple[int, int]]
    triples: list[str]
    without: list[bool]
    bad: list[BadRow]
    digest: str


def usable_pairs(
    source: str | Path,
    reading: Reading | None = None,
    *,
    masks: bool = False,
    skip: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, UsablePairs]:
    """Read and check a data set of any layout.

    Args:
        source: file, folder, or name of a data set on the hub.
        reading: names of columns, and an instruction for all.
        masks: whether a damaged mask of changed pixels makes a row unusable.
        skip: whether parquet files that are damaged are left out, with all of their rows.
        say: function that prints a line of progress.

    Returns:
        What can be used of each split, "train" and "test"; only those that are there.

    Raises:
        DataError: the source does not exist, has none of the known layouts, or differs from its manifest.
    """
    path, reading = locate(source), reading or Reading()
    found: dict[str, UsablePairs] = {}
    tables, damaged = _tables(source, path, skip=skip)
    for split, table in tables.items():
        key = key_of_table(table, split, reading, masks=masks)
        pairs = table_pairs(table, split, local_finder(source), reading)
        checked = recall(key) or check_pairs(pairs, masks=masks, say=say, name=f"{source}, {split}")
        if not any(_named(getattr(each.pair, side)) for each in checked for side in COLUMNS):
            remember(key, checked)  # pictures in files of their own may change, and the table stays the same
        side = checked[0].pair.split if checked else "train"
        part = _assemble(source, checked, _pictures_of(table, reading))
        found[side] = _join(found[side], part) if side in found else part
    if not found:
        rows = list(stored_pairs(source, reading))
        key = key_of_files(rows, reading, masks=masks)
        checked = recall(key) or check_pairs(rows, masks=masks, say=say, name=str(source))
        remember(key, checked)
        for side in sorted({each.pair.split for each in checked}):
            found[side] = _assemble(source, [each for each in checked if each.pair.split == side], None)
    for file in damaged:
        name = file.path.relative_to(path).as_posix()
        rows_of = [BadRow(f"{name}, row {number}", file.fault) for number in range(file.rows)]
        found.get(split_of(name), next(iter(found.values()))).bad.extend(rows_of)
    return found


def _tables(source: str | Path, path: Path, *, skip: bool) -> tuple[dict[str, Dataset], list[DamagedFile]]:
    """Open a source that `datasets` maps into memory; nothing for layouts whose pictures are in files.

    Args:
        source: file, folder, or name of a data set on the hub.
        path: its path.
        skip: whether to leave out damaged files.

    Returns:
        Its splits by name, and the files that are left out.

    Raises:
        DataError: it cannot be read, or differs from its manifest.
    """
    layout = find_layout(path) if path.exists() and not is_saved(path) else None
    files = layout[0] if layout and layout[0][0].suffix == ".parquet" else []
    damaged: list[DamagedFile] = []
    try:
        if path.is_dir():
            verify_dataset(path)  # `datasets` would not notice rows that a damaged file has lost
        if files or not layout and (is_saved(path) or not path.exists()):
            return open_splits(source), damaged
    except DataError as error:
        damaged = find_damaged(path, files, manifest := read_manifest(path)) if files and path.is_dir() else []
        good = [file for file in files if file not in [each.path for each in damaged]]
        if not damaged or not good:
            raise
        if not skip:
            told = "; ".join(f"{each.path}: {each.fault}" for each in damaged)
            fix = error.fix if manifest else "Bring these files anew"
            what = f"files of the data set {source} cannot be read: {told}"
            raise DataError(what, f"{fix}, or leave their rows out with bad_rows=skip") from error
        return open_files(good, path), damaged
    return {}, damaged


def _named(stored: Stored | None) -> Stored | None:
    return stored if stored and stored["path"] else None


def _pictures_of(table: Dataset, reading: Reading) -> Dataset | None:
    """Return the columns of pictures that are mapped into memory; those whose rows name files are left out."""
    found = find_columns(table.column_names, reading.columns)
    names = {column: found[side] for side, column in COLUMNS.items() if side in found}
    mapped = {column: name for column, name in names.items() if _is_mapped(table, name)}
    if not mapped:
        return None
    pictures = table.select_columns(list(mapped.values())).rename_columns({b: a for a, b in mapped.items()})
    for name in mapped:
        pictures = pictures.cast_column(name, ENCODED)
    return pictures


def _is_mapped(table: Dataset, name: str) -> bool:
    """Return whether a column holds pictures as bytes."""
    kind = table.features[name]
    in_record = isinstance(kind, dict) and kind.keys() == {"bytes", "path"}
    return isinstance(kind, Picture) or in_record or getattr(kind, "dtype", "") in ("binary", "large_binary")


def _assemble(source: str | Path, checked: list[Checked], pictures: Dataset | None) -> UsablePairs:
    """Put the usable rows together: their pictures stay mapped into memory, or are paths."""
    texts: dict[str, list[Any]] = {"edit_prompt": [each.pair.instruction for each in checked]}
    good = [number for number, each in enumerate(checked) if not each.fault]
    for side, column in COLUMNS.items():
        stored = [_named(getattr(each.pair, side)) for each in checked]
        if (pictures is None or column not in pictures.column_names) and (column != MASK or any(stored)):
            texts[column] = stored
    features = Features({name: ENCODED if name == MASK else FEATURES[name] for name in texts})
    others = Dataset.from_dict(texts, features=features)
    table = others if pictures is None else concatenate_datasets([pictures, others], axis=1)
    kept = [checked[number].pair for number in good]
    return UsablePairs(
        table.select_columns([name for name in (*FEATURES, MASK) if name in table.column_names]).select(good),
        [checked[number].size for number in good],
        [_triple(source, pair) for pair in kept],
        [pair.source is None for pair in kept],
        [BadRow(each.pair.place, each.fault) for each in checked if each.fault],
        _digest(checked[number].digest for number in good),
    )


def _triple(source: str | Path, pair: StoredPair) -> str:
    """Return the id of the triple of a pair; rows without captions are triples of their own, in each data set."""
    told = (pair.caption, pair.instruction, pair.edited_caption)
    return content_id(*told) if pair.caption and pair.edited_caption else content_id(str(source), pair.place)


def _join(first: UsablePairs, second: UsablePairs) -> UsablePairs:
    """Join two splits of one side, such as test and validation."""
    return UsablePairs(
        join_tables([first.table, second.table]), first.sizes + second.sizes, first.triples + second.triples,
        first.without + second.without, first.bad + second.bad, _digest([first.digest, second.digest]),
    )  # fmt: skip


def _digest(parts: Iterable[str]) -> str:
    """Hash hashes, in order: 16 hexadecimal digits."""
    whole = hashlib.blake2b(digest_size=8)
    for part in parts:
        whole.update(part.encode())
    return whole.hexdigest()


def join_tables(tables: Sequence[Dataset]) -> Dataset:
    """Concatenate tables; rows of those without masks have None in their place if others have some."""
    return concatenate_datasets(list(tables))


def require_usable(source: str | Path, found: Mapping[str, UsablePairs]) -> None:
    """Check that every row can be used.

    Args:
        source: name of the data set.
        found: its splits.

    Raises:
        DataError: rows cannot be used.
    """
    bad = [row for part in found.values() for row in part.bad]
    if bad:
        raise DataError(
            f"{tell_bad(source, found)} cannot be used: {'; '.join(group_faults(bad))}",
            f"Mend or remove them (`ip2p dataset check {source}` lists all), or leave them out with bad_rows=skip",
        )


def tell_bad(source: str | Path, found: Mapping[str, UsablePairs]) -> str:
    """Tell how many rows of a data set cannot be used."""
    bad = sum(len(part.bad) for part in found.values())
    return f"{bad} of {bad + sum(len(part.table) for part in found.values())} rows of the data set {source}"


def group_faults(bad: Sequence[BadRow]) -> list[str]:
    """Tell each fault once, with the rows that have it; of many, the first ones."""
    places: dict[str, list[str]] = {}
    for row in bad:
        places.setdefault(row.fault, []).append(row.place)
    told = []
    for fault, rows in list(places.items())[:MOST_FAULTS]:
        more = f" and {len(rows) - MOST_PLACES} more" if len(rows) > MOST_PLACES else ""
        told.append(f"{fault} ({'; '.join(rows[:MOST_PLACES])}{more})")
    return told + ([f"{len(places) - MOST_FAULTS} other faults"] if len(places) > MOST_FAULTS else [])
