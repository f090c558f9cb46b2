"""The pairs of a source as shards that are read from their beginning, so that none of it has to fit anywhere."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from datasets import IterableDataset, IterableDatasetDict, load_dataset
from datasets.exceptions import DatasetNotFoundError, DatasetsError

from ip2p.errors import DataError, one_line
from ip2p.pairs.columns import Reading
from ip2p.pairs.layouts import find_layout, split_of
from ip2p.pairs.read import LAYOUT_HINT, find_file, is_saved, locate
from ip2p.pairs.rows import StoredPair, to_pair


class Shard(NamedTuple):
    """A part of a source: its name, what reads its pairs from the first one on, and its bytes, 0 on the hub."""

    name: str
    read: Callable[[], Iterator[StoredPair]]
    size: int = 0


class Shards(NamedTuple):
    """The shards of a source: those of its training split, and those of its test split, which may be none."""

    train: Sequence[Shard]
    test: Sequence[Shard]


def open_shards(source: str, reading: Reading) -> Shards:
    """Open a source without reading it: files or folders of any layout, or a data set on the hub.

    Args:
        source: file, folder, or name of a data set on the hub.
        reading: names of columns, and an instruction for all.

    Raises:
        DataError: there is none, it has none of the known layouts, or no split to train on.
    """
    path = locate(source)
    if path.exists():
        layout = find_layout(path) if not is_saved(path) else None
        if layout is None:
            hint = "Leave out streaming" if is_saved(path) else LAYOUT_HINT
            raise DataError(f"{path} has pairs in no layout that can be streamed", hint)
        files, read = layout
        root = path if path.is_dir() else path.parent
        named = [(each.relative_to(root).as_posix(), each) for each in files]
        found = [
            (split_of(name), Shard(name, partial(read, root, each, reading), each.stat().st_size))
            for name, each in named
        ]
    else:
        found = [
            (split_of(str(split)), shard)
            for split, table in _open_hub(source).items()
            for shard in table_shards(table, str(split), reading)
        ]
    train, test = ([shard for split, shard in found if split == side] for side in ("train", "test"))
    if not train:
        raise DataError(f"the data set {source} has no split train", "Give another data set with dataset=")
    return Shards(train, test)


def table_shards(table: IterableDataset, split: str, reading: Reading) -> list[Shard]:
    """Return the shards of a data set that `datasets` streams, whose pictures stay encoded.

    Args:
        table: data set.
        split: name of its split.
        reading: names of columns, and an instruction for all.
    """
    encoded, count = table.decode(False), table.num_shards
    names = [f"{split}, shard {index}" for index in range(count)]
    parts = [encoded.shard(num_shards=count, index=index) for index in range(count)]
    return [Shard(name, partial(_read, part, name, reading)) for name, part in zip(names, parts, strict=True)]


def _read(part: IterableDataset, name: str, reading: Reading) -> Iterator[StoredPair]:
    number = 0
    try:
        for number, values in enumerate(part):
            yield to_pair(_by_field(values), f"{name}, row {number}", find_file, reading)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        fault = f"the shard cannot be read from here on ({one_line(error)})"
        yield StoredPair(f"{name}, row {number + 1}", fault=fault)


def _by_field(values: dict[str, Any]) -> dict[str, Any]:
    """Return a row by names of columns: those of WebDataset have endings, and its JSON has columns of its own."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key == "json" and isinstance(value, dict):
            found |= value
        else:
            found[key.rpartition(".")[0] or key] = value
    return found


def _open_hub(source: str) -> dict[str, IterableDataset]:
    """Open a data set of the hub for streaming, split by split.

    Raises:
        DataError: it cannot be had.
    """
    try:
        found: IterableDatasetDict = load_dataset(source, streaming=True)
    except (DatasetNotFoundError, DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"there is no data set at {source}, and the hub cannot be asked for one or has none of this name "
            f"({one_line(error, 120)})",
            "Give a path that is here, or a name on the hub, to which there has to be a way as long as the run lasts",
        ) from error
    return {str(name): table for name, table in found.items()}
