"""Kept pairs into a data set that `datasets.load_dataset` and the hub read as it is, with its card."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from datasets import Features, Image, Value

from ip2p.config import DatasetConfig
from ip2p.data_gen.tally import Tally, share
from ip2p.errors import DataError
from ip2p.records import PACKED_COLUMNS, Candidate, Reason, Triple
from ip2p.shards import atomic_dir, atomic_write, shard_path, write_shard

PICTURES = ("original_image", "edited_image")
NUMBERS = {"seed": "int64", "p": "float64", "cfg": "float64"} | {
    f"sim_{name}": "float64" for name in ("source", "edited", "image", "direction")
}
FEATURES = Features(
    {name: Image() if name in PICTURES else Value(NUMBERS.get(name, "string")) for name in PACKED_COLUMNS}
)
SPLITS = ("train", "test")
SHARED = {"attention": "self-attention", "features": "self-attention and decoder features"}


def packed_row(candidate: Candidate, triple: Triple, images: Mapping[str, Any], provenance: str) -> dict[str, Any]:
    """A row of the packed data set.

    Args:
        candidate: that was kept.
        triple: it was drawn for.
        images: the stored pictures of a candidate, by column.
        provenance: where pairs of this build come from, as JSON.
    """
    row = candidate.model_dump(include={"id", *NUMBERS}) | {
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


def dataset_card(config: DatasetConfig, tally: Tally, splits: Sequence[str], digest: str) -> str:
    """The data-set card: what it is, how it was made, how many of each kind were kept, and how to load it.

    Args:
        config: of the build.
        tally: of all its shards.
        splits: that have a pair.
        digest: names the contents. `datasets` keeps what it has read under a hash of this header: without the digest it
            would go on giving the pairs of a build that was filtered anew since.
    """
    settings = config.model_dump(mode="json", exclude={"out"})
    kinds = "\n".join(
        f"| {kind} | {drawn} | {tally.kept[kind]} | {share(tally.kept[kind], drawn)} |"
        for kind, drawn in sorted(tally.drawn.items())
    )
    header = {
        "task_categories": ["image-to-image"],
        "tags": ["instruct-pix2pix", "ip2p"],
        "size_categories": [_size_category(tally.pairs)],
        "configs": [
            {
                "config_name": "default",
                "description": f"contents {digest}",
                "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in splits],
            }
        ],
    }
    return f"""---
{yaml.safe_dump(header, sort_keys=False).rstrip()}
---
# {tally.pairs} edits: picture, instruction, edited picture

Made by ip2p as InstructPix2Pix made its own (arXiv 2211.09800, section 3.1). Captions of {config.captions.source};
instructions and edited captions by {_writer(config)}; both pictures of a pair drawn by {config.pairs.model} from the
same noise with shared {SHARED[config.pairs.share]}; filtered by the similarities of {config.scores.clip}.

```python
from datasets import load_dataset
pairs = load_dataset("path/to/this/folder", split="train")
```

| | |
|---|---|
| captions | {len(tally.captions)} |
| triples, of which drawn | {tally.triples.total()}, {tally.triples[Reason.OK]} |
| candidates | {tally.total} |
| pairs kept | {tally.pairs} ({share(tally.pairs, tally.total)}) |
| thresholds | {thresholds_said(config)} |
| seed | {config.seed} |

| kind of edit | candidates | kept | yield |
|---|---|---|---|
{kinds}

Columns: {", ".join(PACKED_COLUMNS)}. The first five are those of timbrooks/instructpix2pix-clip-filtered. p is the
share of the steps with shared attention, cfg the guidance scale, sim_* the four CLIP scores. Both pictures of every
pair are synthetic; what the base model has learned, prejudices included, is in them. Settings of the build:

```yaml
{yaml.safe_dump(settings, sort_keys=False).rstrip()}
```
"""


def thresholds_said(config: DatasetConfig) -> str:
    """The thresholds of the filter, in one line."""
    bounds = config.filter
    others = f"; others for {', '.join(sorted(bounds.per_kind))}" if bounds.per_kind else ""
    return (
        f"source ≥ {bounds.source}, edited ≥ {bounds.edited}, {bounds.image} ≤ image ≤ {bounds.image_max}, "
        f"direction ≥ {bounds.direction}, best {bounds.top_k} of a triple{others}"
    )


def _name_for_the_hub(folder: Path, split: str, count: int) -> None:
    """Shards of a split under the names that the hub knows; what was verified on the way needs no manifest here."""
    (folder / "data").mkdir(exist_ok=True)
    for index in range(count):
        shard = shard_path(folder / split, index)
        shard.rename(folder / "data" / f"{split}-{index:05d}-of-{count:05d}.parquet")
        shard.with_suffix(".json").unlink()
    if count:
        (folder / split).rmdir()


def _writer(config: DatasetConfig) -> str:
    return "rules" if config.triples.writer == "rules" else config.triples.model


def _size_category(count: int) -> str:
    for bound, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if count < bound:
            return name
    return "1M<n<10M"
