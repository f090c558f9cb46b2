"""Kept pairs into a data set that `datasets.load_dataset` and the hub read as it is."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import Features, Image, Value

from ip2p.errors import DataError
from ip2p.records import PACKED_COLUMNS, Candidate, Triple
from ip2p.shards import atomic_dir, atomic_write, shard_path, write_shard

PICTURE_COLUMNS = ("original_image", "edited_image")
NUMBER_COLUMNS = {"seed": "int64", "p": "float64", "cfg": "float64"} | {
    f"sim_{name}": "float64" for name in ("source", "edited", "image", "direction")
}
FEATURES = Features(
    {name: Image() if name in PICTURE_COLUMNS else Value(NUMBER_COLUMNS.get(name, "string")) for name in PACKED_COLUMNS}
)
SPLITS = ("train", "test")


def packed_row(candidate: Candidate, triple: Triple, images: Mapping[str, Any], provenance: str) -> dict[str, Any]:
    """A row of the packed data set.

    Args:
        candidate: that was kept.
        triple: it was drawn for.
        images: the stored pictures of a candidate, by column.
        provenance: where pairs of this build come from, as JSON.
    """
    row = candidate.model_dump(include={"id", *NUMBER_COLUMNS}) | {
        "original_prompt": triple.caption,
        "original_image": images["original_image"],
        "edit_prompt": triple.instruction,
        "edited_prompt": triple.edited_caption,
        "edited_image": images["edited_image"],
        "kind": triple.kind,
        "provenance": provenance,
    }
    return {name: row[name] for name in PACKED_COLUMNS}


def split_of(caption_id: str, share: float) -> str:
    """ "test" for this share of the captions, "train" for the others; all pairs of a caption stay together."""
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
    """Write the data set: data/train-00000-of-00002.parquet and so on, and README.md; whole, or not at all.

    Args:
        rows: (split, row) in the order in which they are to stand.
        folder: replaced if there.
        shard_rows: rows of a parquet file.
        card: text of README.md, from a digest of all shards.
        config: fingerprint of the settings that led here.

    Returns:
        The number of rows.

    Raises:
        DataError: there are no rows.
    """
    waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    written: Counter[str] = Counter()
    count, digest = 0, hashlib.sha256()
    with atomic_dir(folder) as temporary:

        def flush(split: str) -> None:
            made = write_shard(temporary / split, written[split], waiting[split], schema=FEATURES, config=config)
            digest.update(made.sha256.encode())
            written[split] += 1
            waiting[split] = []

        for split, row in rows:
            waiting[split].append(row)
            count += 1
            if len(waiting[split]) == shard_rows:
                flush(split)
        for split in SPLITS:
            if waiting[split]:
                flush(split)
            _name_for_the_hub(temporary, split, written[split])
        if not count:
            raise DataError(
                "no pair was kept", "Lower the thresholds (filter.direction=0.1, ...) and look at the report"
            )
        atomic_write(temporary / "README.md", card(digest.hexdigest()[:16]).encode())
    return count


def _name_for_the_hub(folder: Path, split: str, count: int) -> None:
    """Shards of a split under the names that the hub knows; what was verified on the way needs no manifest here."""
    (folder / "data").mkdir(exist_ok=True)
    for index in range(count):
        shard = shard_path(folder / split, index)
        shard.rename(folder / "data" / f"{split}-{index:05d}-of-{count:05d}.parquet")
        shard.with_suffix(".json").unlink()
    if count:
        (folder / split).rmdir()
