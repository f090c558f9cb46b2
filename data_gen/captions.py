"""Captions, where everything begins: drawn from the storybook world, or read from a file."""

import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ip2p.config import Captions
from ip2p.errors import DataError
from ip2p.records import Caption, content_id
from ip2p.seeding import derive_seed
from ip2p.storybook.language import caption
from ip2p.storybook.scene import sample_scene

STORYBOOK = "storybook"
HOW = "Give captions.source as storybook, or as a text, .jsonl or .parquet file"


def read_captions(settings: Captions, seed: int) -> list[Caption]:
    """All captions that the settings ask for, in order; empty ones and repetitions too, for the next stage to refuse.

    Args:
        settings: "storybook" draws `count` captions; a file gives at most its first `count`: of a text file the lines,
            of a JSONL or parquet file the column `text_column`.
        seed: of the run; caption k of the storybook world follows from it and k alone.

    Raises:
        DataError: the file is missing, of another kind, or has no captions.
    """
    texts: Iterator[str]
    if settings.source == STORYBOOK:
        texts = (_draw(seed, number) for number in range(settings.count))
    else:
        texts = islice(_read(Path(settings.source), settings.text_column), settings.count)
    source = Path(settings.source).name
    captions = [Caption(id=content_id(text), text=text, source=source) for text in texts]
    if not captions:
        raise DataError(f"{settings.source} has no captions", "Write one on each line")
    return captions


def _draw(seed: int, number: int) -> str:
    """Caption of a scene of the vocabulary that the base model knows, and of none that is held out."""
    rng = random.Random(derive_seed(seed, "captions", STORYBOOK, number))
    return caption(sample_scene(rng), rng)


def _read(path: Path, column: str) -> Iterator[str]:
    """Texts of a file, stripped."""
    if not path.is_file():
        raise DataError(f"there is no file of captions {path}", HOW)
    try:
        if path.suffix == ".parquet":
            yield from _read_parquet(path, column)
        elif path.suffix in (".jsonl", ".ndjson"):
            yield from _read_jsonl(path, column)
        else:
            with path.open(encoding="utf-8-sig") as lines:
                yield from (line.strip() for line in lines)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(f"cannot read captions from {path} ({' '.join(str(error).split())[:120]})", HOW) from error


def _read_jsonl(path: Path, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield _text(json.loads(line), column, f"{path}, line {number}")
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}, line {number} is not JSON", "Write one JSON object a line") from error


def _read_parquet(path: Path, column: str) -> Iterator[str]:
    with pq.ParquetFile(path) as table:
        if column not in table.schema_arrow.names:
            raise DataError(f"{path} has no column {column}", _columns(table.schema_arrow.names))
        for batch in table.iter_batches(columns=[column]):
            for row in batch.to_pylist():
                yield _text(row, column, str(path))


def _text(row: Any, column: str, place: str) -> str:
    """The caption in a row."""
    if not isinstance(row, dict) or column not in row:
        raise DataError(f"no {column!r} in {place}", _columns(list(row) if isinstance(row, dict) else []))
    if not isinstance(row[column], str | None):
        raise DataError(f"{column!r} in {place} is no text", _columns(list(row)))
    return (row[column] or "").strip()


def _columns(names: list[str]) -> str:
    found = f"; there are {', '.join(names)}" if names else ""
    return f"Name the column of captions by captions.text_column{found}"
