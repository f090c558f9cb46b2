"""Pack kept pairs into a data set for `datasets.load_dataset` and the hub."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Features, Image, Value

from ip2p.errors import DataError
from ip2p.manifest import write_manifest
from ip2p.records import PACKED_COLUMNS, Candidate, Triple
from ip2p.shards import Contents, atomic_dir, atomic_write, shard_path, write_shard

PICTURE_COLUMNS = ("original_image", "edited_image")
NUMBER_COLUMNS = {"seed": "int64", "p": "float64", "cfg": "float64"} | {
    f"sim_{name}": "float64" for name in ("source", "edited", "image", "direction")
}
FEATURES = Features(
    {name: Image() if name in PICTURE_COLUMNS else Value(NUMBER_COLUMNS.get(name, "string")) for name in PACKED_COLUMNS}
)
SPLITS = ("train", "test")


def packed_row(candidate: Candidate, triple: Triple, images: Mapping[str, Any], provenance: str) -> dict[str, Any]:
    """Make a row of the packed data set.

    Args:
        candidate: kept candidate.
        triple: triple of the candidate.
        images: stored pictures of the candidate, by column.
        provenance: writer, models and settings that made the pairs, as JSON; that of a chain says which, too.
    """
    if triple.chain:
        provenance = json.dumps(json.loads(provenance) | {"chain": triple.chain, "turn": triple.turn})
    row = candidate.model_dump(include={"id", *NUMBER_COLUMNS}) | {
        "original_prompt": triple.caption,
        "original_image": images["original_image"],
        "edit_prompt": instruction_of(candidate, triple),
        "edited_prompt": triple.edited_caption,
        "edited_image": images["edited_image"],
        "kind": triple.kind,
        "provenance": provenance,
    }
    return {name: row[name] for name in PACKED_COLUMNS}


def instruction_of(candidate: Candidate, triple: Triple) -> str:
    """Return the long instruction of a triple for about half of its pairs, if it has one, and else the short one."""
    return triple.long_instruction if triple.long_instruction and int(candidate.id, 16) % 2 else triple.instruction


def split_of(caption_id: str, share: float) -> str:
    """Return the split of a caption, so that all its pairs are in the same one.

    Args:
        caption_id: id of the caption.
        share: share of the captions that go to the test split, 0 to 1.
    """
    place = int.from_bytes(hashlib.sha256(f"split {caption_id}".encode()).digest()[:8], "big") / 2**64
    return "test" if place < share else "train"


def pack(
    rows: Iterable[tuple[str, dict[str, Any]]],
    folder: Path,
    *,
    shard_rows: int,
    card: Callable[[str], str],
    config: str,
) -> int:
    """Write the data set atomically: data/train-00000-of-00002.parquet and so on, README.md and its manifest.

    Args:
        rows: pairs of split and row, in order.
        folder: folder to write, replaced if it exists.
        shard_rows: rows in a parquet file.
        card: function that makes the text of README.md from a digest of all shards.
        config: fingerprint of the settings.

    Returns:
        The number of rows.

    Raises:
        DataError: there are no rows.
    """
    waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    written: dict[str, list[Contents]] = {name: [] for name in SPLITS}
    files: dict[str, Contents] = {}
    count = 0
    with atomic_dir(folder) as temporary:

        def flush(split: str) -> None:
            made = write_shard(temporary / split, len(written[split]), waiting[split], schema=FEATURES, config=config)
            written[split].append(Contents(rows=made.rows, size=made.size, sha256=made.sha256))
            waiting[split] = []

        for split, row in rows:
            waiting[split].append(row)
            count += 1
            if len(waiting[split]) == shard_rows:
                flush(split)
        for split in SPLITS:
            if waiting[split]:
                flush(split)
            files |= _name_for_the_hub(temporary, split, written[split])
        if not count:
            raise DataError(
                "no pair was kept", "Lower the thresholds (filter.direction=0.1, ...) and look at the report"
            )
        digest = hashlib.sha256("".join(each.sha256 for each in files.values()).encode()).hexdigest()[:16]
        atomic_write(temporary / "README.md", card(digest).encode())
        write_manifest(temporary, files, config)
    return count


def _name_for_the_hub(folder: Path, split: str, written: Sequence[Contents]) -> dict[str, Contents]:
    """Rename the shards of a split to the hub's pattern, and remove their manifests; returns what each file holds."""
    (folder / "data").mkdir(exist_ok=True)
    files = {}
    for index, contents in enumerate(written):
        shard, name = shard_path(folder / split, index), f"data/{split}-{index:05d}-of-{len(written):05d}.parquet"
        shard.rename(folder / name)
        shard.with_suffix(".json").unlink()
        files[name] = contents
    if written:
        (folder / split).rmdir()
    return files
