"""The layouts in which people keep pairs, and readers of each, row by row. Pictures in files are pointed to, not read.

parquet            columns of pictures, by any of the names in `ip2p.pairs.columns`
*.tar              WebDataset: members of one key are a row
seeds.json         the tree of InstructPix2Pix's authors: prompt.json, {seed}_0.jpg, {seed}_1.jpg in each folder
prompt.json        such folders without the list of their seeds
*.jsonl, *.csv     columns with names of picture files; before/ after/ edits.csv, too
edit_sessions.json MagicBrush's test set; mapping_file.json, PIE-Bench, which has no targets
*_input.*          problems of PaintBench: {name}_answer.* beside it, and the instruction in {name}.json or .txt
control/, target/  pictures of the same name in two folders, and instructions in text files beside them
"""

import csv
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ip2p.data_folders import PREFERENCES
from ip2p.errors import one_line
from ip2p.pairs.benchmarks import read_pie_bench, read_problem, read_sessions
from ip2p.pairs.columns import Reading, find_columns
from ip2p.pairs.rows import StoredPair, to_pair
from ip2p.pairs.stored import PICTURES, find_inside, part_of

ROWS_AT_ONCE = 64
END_OF_TAR = 1024
"""Zero bytes at the end of every whole tar file."""
SOURCES = ("control", "controls", "source", "input", "original", "before")
TARGETS = ("target", "targets", "edited", "images", "output", "after")
AUTHORS = {"caption": "original_prompt", "input": "original_prompt", "edit": "edit_prompt", "output": "edited_prompt"}
"""Names of columns for the keys of prompt.json."""
AUTHORS_TRAIN = 0.9
"""Share of seeds.json that the authors train on, from its beginning."""
SPLIT = re.compile(r"(?:^|[/_.-])(train|test|dev|validation|val)(?=[/_.-]|$)")

Read = Callable[[Path, Path, Reading], Iterator[StoredPair]]
"""Function that reads a file or folder of a data set: its root, the file, and how rows are read."""


def find_layout(path: Path) -> tuple[list[Path], Read] | None:
    """Return the files of a data set, or the folders that count as such, and what reads each; None if there are none.

    Args:
        path: file or folder.
    """
    for patterns, read in LAYOUTS:
        files = [path] if path.is_file() else sorted({each for pattern in patterns for each in path.rglob(pattern)})
        files = [each for each in files if any(each.match(pattern) for pattern in patterns)]
        root = path if path.is_dir() else path.parent
        files = [each for each in files if PREFERENCES not in each.relative_to(root).parts[:-1]]  # pairs of pairs
        if read is _read_two_folders:
            files = [each for each in files if each.is_dir() and _targets_of(each)]
        if files:
            return files, read
    return None


def split_of(name: str) -> str:
    """Return the split that the name of a file, a folder or a split means: "train" or "test"."""
    found = SPLIT.search(name)
    return "train" if not found or found[1] == "train" else "test"


def _read_parquet(root: Path, file: Path, reading: Reading) -> Iterator[StoredPair]:
    name, number = file.relative_to(root), 0
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as table:
            for batch in table.iter_batches(ROWS_AT_ONCE):
                for values in batch.to_pylist():
                    yield to_pair(values, f"{name}, row {number}", find_inside(root, file.parent), reading)
                    number += 1
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        yield _unreadable(f"{name}, row {number}", error)


def _read_metadata(root: Path, file: Path, reading: Reading) -> Iterator[StoredPair]:
    name, number = file.relative_to(root), 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows: Iterable[Any] = csv.DictReader(stream) if file.suffix == ".csv" else stream
            for number, row in enumerate(rows):
                place = f"{name}, row {number}"
                try:
                    values = row if isinstance(row, dict) else json.loads(row)
                    if not isinstance(values, dict):
                        raise ValueError("it is no JSON object")
                except ValueError as error:
                    yield StoredPair(place, fault=f"not readable ({one_line(error)})")
                else:
                    values = {str(key): value for key, value in values.items() if key is not None}
                    yield to_pair(*_beside(values, place, root, file.parent, reading), reading)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        yield _unreadable(f"{name}, row {number}", error)


def _beside(
    values: dict[str, Any], place: str, root: Path, folder: Path, reading: Reading
) -> tuple[dict[str, Any], str, Callable[[str], Path | None]]:
    """Return the row, its place, and what finds its pictures, in the folder or in two folders beside the file.

    A row with one name only means the pictures of this name in both folders.
    """
    columns = find_columns(values, reading.columns)
    source, target = (next((folder / each for each in names if (folder / each).is_dir()), None) for names in SIDES)
    if source and target:
        names = [values[columns[side]] for side in ("source", "edited") if side in columns]
        other = next((values[key] for key in ("file", "filename", "name", "picture") if values.get(key)), None)
        named = names[0] if len(names) == 1 else other if not names else None
        if isinstance(named, str) and named and find_inside(root, folder)(named) is None:
            values = {key: value for key, value in values.items() if key not in columns.values() or value != named}
            values |= {side: f"{each.name}/{named}" for side, each in (("source", source), ("edited", target))}
        elif len(names) == 2:
            pairs = zip(("source", "edited"), (source, target), strict=True)
            for side, place_of in pairs:
                value = values[columns[side]]
                if isinstance(value, str) and value and find_inside(root, folder)(value) is None:
                    values = values | {columns[side]: f"{place_of.name}/{value}"}
    return values, place, find_inside(root, folder)


def _read_tar(root: Path, file: Path, reading: Reading) -> Iterator[StoredPair]:
    """Read members in order; those of one row follow each other and have the same name up to the first dot."""
    name, key, values = file.relative_to(root), "", dict[str, Any]()
    where = re.compile(re.escape(str(file)) + r"#\d+\+\d+")

    def row() -> StoredPair:
        def find(text: str) -> Path | None:
            return Path(text) if where.fullmatch(text) else None

        return to_pair(values, f"{name}, {key.lstrip('/')}", find, reading)

    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                folder, _, base = member.name.rpartition("/")
                stem, _, field = base.partition(".")
                if f"{folder}/{stem}" != key and values:
                    yield row()
                    values = {}
                key = f"{folder}/{stem}"
                values |= _member(archive, member, field, file) if member.isfile() else {}
    except (OSError, tarfile.TarError, ValueError) as error:
        yield _unreadable(f"{name}, {key.lstrip('/')}", error)
        return
    if values:
        yield row()
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - END_OF_TAR))
        if any(stream.read()):
            yield StoredPair(f"{name}, end", fault="the file is cut off: rows may be missing")


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, field: str, file: Path) -> dict[str, Any]:
    """Return the values in a member of a tar file, by the ending of its name."""
    stem, _, ending = field.rpartition(".")
    if f".{ending.lower()}" in PICTURES:
        return {stem or "image": part_of(file, member.offset_data, member.size)}
    stream = archive.extractfile(member)
    data = stream.read() if stream else b""
    if ending == "json":
        found = json.loads(data)
        return found if isinstance(found, dict) else {}
    return {field: data.decode("utf-8", "replace").strip()}


def _read_two_folders(root: Path, folder: Path, reading: Reading) -> Iterator[StoredPair]:
    """Read the pictures of one folder with those of the same names in the folder beside it."""
    targets = _targets_of(folder)
    if targets is None:
        return
    stems = {each.stem for side in (folder, targets) for each in side.iterdir() if each.suffix.lower() in PICTURES}
    for stem in sorted(stems):
        text = next((path for side in (targets, folder) if (path := side / f"{stem}.txt").is_file()), None)
        values = {
            "source": _picture_named(root, folder, stem),
            "edited": _picture_named(root, targets, stem), "id": stem,
            "instruction": text.read_text(errors="replace").strip() if text else "",
        }  # fmt: skip
        plain = reading.model_copy(update={"columns": type(reading.columns)()})  # folders have no columns
        yield to_pair(values, f"{targets.relative_to(root)}, {stem}", find_inside(root), plain)


def _read_prompt(root: Path, file: Path, reading: Reading) -> Iterator[StoredPair]:
    """Read a folder of the authors of InstructPix2Pix: one prompt, and two pictures for each seed."""
    seeds = [each.stem[:-2] for each in sorted(file.parent.glob("*_0.jpg"))]
    yield from _read_seeds_of(root, file, seeds, reading)


def _read_seeds(root: Path, file: Path, reading: Reading) -> Iterator[StoredPair]:
    """Read the folders and seeds that seeds.json lists; the last tenth of the folders is for tests, as the authors'."""
    name = file.relative_to(root)
    try:
        listed = [(str(folder), [str(seed) for seed in seeds]) for folder, seeds in json.loads(file.read_text())]
    except (OSError, ValueError, TypeError) as error:
        yield _unreadable(str(name), error)
        return
    for number, (folder, seeds) in enumerate(listed):
        split = "train" if number < AUTHORS_TRAIN * len(listed) else "test"
        prompt = file.parent / folder / "prompt.json"
        if not prompt.resolve().is_relative_to(root.resolve()):
            yield StoredPair(f"{name}, row {number}", fault=f"{folder!r} is outside of the data set")
            continue
        for pair in _read_seeds_of(root, prompt, seeds, reading):
            yield StoredPair(**{**vars(pair), "split": split})


def _read_seeds_of(root: Path, file: Path, seeds: Iterable[str], reading: Reading) -> Iterator[StoredPair]:
    try:
        prompt = json.loads(file.read_text())
        texts = {name: prompt[key] for key, name in AUTHORS.items() if key in prompt}
    except (OSError, ValueError, TypeError) as error:
        yield StoredPair(str(file.relative_to(root)), fault=f"not readable ({one_line(error)})")
        return
    for seed in seeds:
        first, second = (file.parent / f"{seed}_{side}.jpg" for side in (0, 1))
        values = texts | {side: str(path.relative_to(root)) for side, path in (("source", first), ("edited", second))}
        yield to_pair(values, str(first.relative_to(root)), find_inside(root), reading)


SIDES = (SOURCES, TARGETS)
LAYOUTS: tuple[tuple[tuple[str, ...], Read], ...] = (
    (("*.parquet",), _read_parquet),
    (("*.tar",), _read_tar),
    (("seeds.json",), _read_seeds),
    (("prompt.json",), _read_prompt),
    (("edit_sessions.json",), read_sessions),
    (("mapping_file*.json",), read_pie_bench),
    (("*.jsonl", "*.csv"), _read_metadata),
    (tuple(f"*_input{ending}" for ending in PICTURES), read_problem),
    (SOURCES, _read_two_folders),
)
"""Files or folders of a layout, and the function that reads one of them."""


def _unreadable(place: str, error: Exception) -> StoredPair:
    return StoredPair(place, fault=f"the file cannot be read from here on ({one_line(error)})")


def _targets_of(folder: Path) -> Path | None:
    return next((folder.parent / name for name in TARGETS if (folder.parent / name).is_dir()), None)


def _picture_named(root: Path, folder: Path, stem: str) -> str:
    """Return the name of a picture, whatever its ending; one that is not there if there is none."""
    endings = (*PICTURES, *map(str.upper, PICTURES))
    found = (path for ending in endings if (path := folder / f"{stem}{ending}").is_file())
    return str(next(found, folder / stem).relative_to(root))
