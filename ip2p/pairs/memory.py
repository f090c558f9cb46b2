"""Findings of a check of a large data set, kept until one of its files changes, so that it is read once.

It lies in the cache folder of `datasets`. Where that cannot be written, the data set is read again at every start.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from datasets import Dataset

from ip2p.pairs.columns import Reading
from ip2p.pairs.rows import SIDES, StoredPair
from ip2p.pairs.stored import PART, Stored
from ip2p.shards import atomic_write, fingerprint

VERSION = 2
"""It is raised when a check finds more than before."""
LARGE = 100
"""Rows from which on a data set is remembered."""
TEXTS = ("place", "instruction", "caption", "edited_caption", "split")


class Checked(NamedTuple):
    """A pair that was checked.

    Attributes:
        pair: the pair, without the bytes of its pictures.
        size: width and height of its edited picture.
        fault: why it cannot be used; "" if it can.
        digest: hash of its picture files.
    """

    pair: StoredPair
    size: tuple[int, int]
    fault: str
    digest: str


def key_of_table(table: Dataset, split: str, reading: Reading, *, masks: bool) -> str:
    """Return what identifies a table that is mapped into memory: its files as they are, and how it is read."""
    files = [_state(each["filename"]) for each in table.cache_files]
    if not files:
        return ""
    return fingerprint({"split": split, "files": files, **_way(reading, masks)})


def key_of_files(pairs: Iterable[StoredPair], reading: Reading, *, masks: bool) -> str:
    """Return what identifies pairs in files: the files as they are, and the texts."""
    paths = [[each.place, *(_path_state(getattr(each, side)) for side in SIDES)] for each in pairs]
    texts = [[each.instruction, each.caption, each.edited_caption, each.fault] for each in pairs]
    return fingerprint({"paths": paths, "texts": texts, **_way(reading, masks)})


def recall(key: str) -> list[Checked] | None:
    """Return what is remembered under a key; None if nothing is."""
    try:
        rows = json.loads(_file(key).read_bytes()) if key else None
        return None if rows is None else [_from_row(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(key: str, checked: list[Checked]) -> None:
    """Keep what was found in a large data set."""
    if not key or len(checked) < LARGE:
        return
    try:
        _file(key).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(_file(key), json.dumps([_to_row(each) for each in checked]).encode())
    except OSError:
        return


def _way(reading: Reading, masks: bool) -> dict[str, Any]:
    """Return how pairs are read and checked."""
    return {"version": VERSION, "masks": masks, "reading": reading.model_dump(mode="json")}


def _file(key: str) -> Path:
    return Path(datasets.config.HF_DATASETS_CACHE) / "ip2p-checked" / f"{key}.json"


def _to_row(checked: Checked) -> list[object]:
    pair = checked.pair
    pictures = [stored and [stored["path"]] for stored in (pair.source, pair.edited, pair.mask)]
    return [[getattr(pair, name) for name in TEXTS], pictures, checked.size, checked.fault, checked.digest]


def _from_row(row: Any) -> Checked:
    texts, pictures, (width, height), fault, digest = row
    source, edited, mask = (None if each is None else Stored(bytes=None, path=each[0]) for each in pictures)
    pair = StoredPair(**dict(zip(TEXTS, texts, strict=True)), source=source, edited=edited, mask=mask)
    return Checked(pair, (int(width), int(height)), str(fault), str(digest))


def _path_state(stored: Stored | None) -> list[str | int]:
    path = stored["path"] if stored else None
    part = PART.fullmatch(path) if path else None
    return [path or "", *_state(part["file"] if part else path)] if path else []


def _state(path: str) -> list[str | int]:
    """Return what changes when a file does."""
    try:
        found = Path(path).stat()
    except OSError:
        return [path]
    return [path, found.st_size, found.st_mtime_ns]
