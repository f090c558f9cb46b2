"""Pack kept pairs into a data set for `datasets.load_dataset` and the hub."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Features, Image, Value

from ip2p.data_gen.pairs.edit_mask import mask_of_stored
from ip2p.data_gen.pairs.split import SPLITS
from ip2p.errors import DataError
from ip2p.manifest import write_documents, write_manifest
from ip2p.pictures.write import GENERATED, mark_png
from ip2p.records import JUDGE_SCORES, PACKED_COLUMNS, SCORES, Candidate, Triple
from ip2p.shards import Contents, atomic_dir, shard_path, write_shard

PICTURE_COLUMNS = ("original_image", "edited_image", "edit_mask")
NUMBER_COLUMNS = {"seed": "int64", "p": "float64", "cfg": "float64"} | dict.fromkeys(SCORES, "float64")
FEATURES = Features(
    {name: Image() if name in PICTURE_COLUMNS else Value(NUMBER_COLUMNS.get(name, "string")) for name in PACKED_COLUMNS}
)
JUDGE = "judge"
"""Key of the verdict on a pair in its provenance, or of the model that was to judge it."""


def packed_row(
    candidate: Candidate, triple: Triple, images: Mapping[str, Any], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Make a row of the packed data set, with the mask of the edit, and a mark in both pictures that a model drew them.

    Args:
        candidate: kept candidate.
        triple: triple of the candidate.
        images: stored pictures of the candidate, by column.
        provenance: models, versions and settings that made the pairs, to which the row adds its writer and its chain.
    """
    before, after = (images[name]["bytes"] for name in ("original_image", "edited_image"))
    row = candidate.model_dump(include={"id", *NUMBER_COLUMNS}) | {
        "original_prompt": triple.caption,
        "original_image": {"bytes": mark_png(before, GENERATED), "path": None},
        "edit_prompt": instruction_of(candidate, triple),
        "edited_prompt": triple.edited_caption,
        "edited_image": {"bytes": mark_png(after, GENERATED), "path": None},
        "edit_mask": mask_of_stored(before, after),
        "kind": triple.kind,
        "inverse_of": "",
        "provenance": provenance_of(triple, {**provenance, **_verdict_of(candidate, provenance)}),
    }
    return {name: row[name] for name in PACKED_COLUMNS}


def _verdict_of(candidate: Candidate, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on a pair, with the model whose it is, in place of that model alone; nothing without one."""
    if candidate.judge_edit is None:
        return {}
    marks = {name.removeprefix("judge_"): getattr(candidate, name) for name in JUDGE_SCORES}
    return {JUDGE: {"model": provenance.get(JUDGE), **marks}}


def provenance_of(triple: Triple, provenance: Mapping[str, Any]) -> str:
    """Return, as JSON, what made a pair, with the writer and the chain of its triple."""
    chain = {"chain": triple.chain, "turn": triple.turn} if triple.chain else {}
    return json.dumps({**provenance, "writer": triple.writer, **chain}, ensure_ascii=False)


def instruction_of(candidate: Candidate, triple: Triple) -> str:
    """Return the long instruction of a triple for about half of its pairs, if it has one, and else the short one."""
    return triple.long_instruction if triple.long_instruction and int(candidate.id, 16) % 2 else triple.instruction


def pack(
    rows: Iterable[tuple[str, dict[str, Any]]],
    folder: Path,
    *,
    shard_rows: int,
    documents: Callable[[str, Mapping[str, Contents]], Mapping[str, str]],
    config: str,
    more: Mapping[str, tuple[Features, Iterable[tuple[str, dict[str, Any]]]]] | None = None,
) -> int:
    """Write the data set atomically: data/train-00000-of-00002.parquet and so on, documents and manifest.

    Args:
        rows: pairs of split and row, in order.
        folder: folder to write, replaced if it exists.
        shard_rows: rows in a parquet file.
        documents: function that makes texts by name of file, such as README.md, from a digest of all files and from
            what each holds.
        config: fingerprint of the settings.
        more: columns and rows of further configurations, by the names of their folders.

    Returns:
        The number of rows, without those of further configurations.

    Raises:
        DataError: there are no rows.
    """
    with atomic_dir(folder) as temporary:
        files = write_splits(temporary, rows, FEATURES, shard_rows=shard_rows, config=config)
        if not files:
            raise DataError(
                "no pair was kept", "Lower the thresholds (filter.direction=0.1, ...) and look at the report"
            )
        count = sum(each.rows for each in files.values())
        for place, (features, others) in (more or {}).items():
            files |= write_splits(temporary, others, features, shard_rows=shard_rows, config=config, place=place)
        digest = hashlib.sha256("".join(each.sha256 for each in files.values()).encode()).hexdigest()[:16]
        write_manifest(temporary, files, config, write_documents(temporary, documents(digest, files)))
    return count


def write_splits(
    folder: Path,
    rows: Iterable[tuple[str, dict[str, Any]]],
    features: Features,
    *,
    shard_rows: int,
    config: str,
    place: str = "data",
) -> dict[str, Contents]:
    """Write rows as parquet files by the hub's pattern: data/train-00000-of-00002.parquet and so on.

    Args:
        folder: folder of the data set.
        rows: pairs of split and row, in order.
        features: columns of the rows.
        shard_rows: rows in a parquet file.
        config: fingerprint of the settings.
        place: folder of the files inside the data set.

    Returns:
        What each file holds, by its path inside the folder, training pairs first.
    """
    waiting: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    written: defaultdict[str, list[Contents]] = defaultdict(list)
    files: dict[str, Contents] = {}

    def flush(split: str) -> None:
        made = write_shard(folder / split, len(written[split]), waiting.pop(split), schema=features, config=config)
        written[split].append(Contents(rows=made.rows, size=made.size, sha256=made.sha256))

    for split, row in rows:
        waiting[split].append(row)
        if len(waiting[split]) == shard_rows:
            flush(split)
    for split in list(waiting):
        flush(split)
    for split in sorted(written, key=lambda name: (name != SPLITS[0], name)):
        files |= _name_for_the_hub(folder, place, split, written[split])
    return files


def _name_for_the_hub(folder: Path, place: str, split: str, written: Sequence[Contents]) -> dict[str, Contents]:
    """Rename the shards of a split to the hub's pattern, and remove their manifests; returns what each file holds."""
    (folder / place).mkdir(exist_ok=True)
    files = {}
    for index, contents in enumerate(written):
        shard, name = shard_path(folder / split, index), f"{place}/{split}-{index:05d}-of-{len(written):05d}.parquet"
        shard.rename(folder / name)
        shard.with_suffix(".json").unlink()
        files[name] = contents
    (folder / split).rmdir()
    return files
