"""The data-set card: what the pairs are, how they were made, and how many of each kind were kept."""

from collections.abc import Sequence

import yaml

from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.report.counts import Counts, per_cent
from ip2p.records import PACKED_COLUMNS, Reason

SHARED_WORDS = {"attention": "self-attention", "features": "self-attention and decoder features"}


def dataset_card(config: DatasetConfig, counts: Counts, splits: Sequence[str], digest: str) -> str:
    """The data-set card: what it is, how it was made, how many of each kind were kept, and how to load it.

    Args:
        config: of the build.
        counts: of all its shards.
        splits: that have a pair.
        digest: names the contents. `datasets` keeps what it has read under a hash of this header: without the digest it
            would go on giving the pairs of a build that was filtered anew since.
    """
    settings = config.model_dump(mode="json", exclude={"out"})
    kinds = "\n".join(
        f"| {kind} | {drawn} | {counts.kept[kind]} | {per_cent(counts.kept[kind], drawn)} |"
        for kind, drawn in sorted(counts.drawn.items())
    )
    header = {
        "task_categories": ["image-to-image"],
        "tags": ["instruct-pix2pix", "ip2p"],
        "size_categories": [_size_category(counts.pairs)],
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
# {counts.pairs} edits: picture, instruction, edited picture

Made by ip2p as InstructPix2Pix made its own (arXiv 2211.09800, section 3.1). Captions of {config.captions.source};
instructions and edited captions by {_writer(config)}; both pictures of a pair drawn by {config.pairs.model} from the
same noise with shared {SHARED_WORDS[config.pairs.share]}; filtered by the similarities of {config.scores.clip}.

```python
from datasets import load_dataset
pairs = load_dataset("path/to/this/folder", split="train")
```

| | |
|---|---|
| captions | {len(counts.captions)} |
| triples, of which drawn | {counts.triples.total()}, {counts.triples[Reason.OK]} |
| candidates | {counts.total} |
| pairs kept | {counts.pairs} ({per_cent(counts.pairs, counts.total)}) |
| thresholds | {describe_thresholds(config)} |
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


def describe_thresholds(config: DatasetConfig) -> str:
    """The thresholds of the filter, in one line."""
    bounds = config.filter
    others = f"; others for {', '.join(sorted(bounds.per_kind))}" if bounds.per_kind else ""
    return (
        f"source ≥ {bounds.source}, edited ≥ {bounds.edited}, {bounds.image} ≤ image ≤ {bounds.image_max}, "
        f"direction ≥ {bounds.direction}, best {bounds.top_k} of a triple{others}"
    )


def _writer(config: DatasetConfig) -> str:
    return "rules" if config.triples.writer == "rules" else config.triples.model


def _size_category(count: int) -> str:
    for bound, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if count < bound:
            return name
    return "1M<n<10M"
