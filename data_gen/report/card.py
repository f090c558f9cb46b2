"""The data-set card: what the pairs are, how they were made, and how many of each kind were kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard, DatasetCardData

from ip2p.data_folders import PREFERENCES
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pairs.filter import BOUNDS
from ip2p.data_gen.pairs.packing import PackingCounts
from ip2p.data_gen.report.counts import Counts, per_cent
from ip2p.data_gen.report.licenses import Licenses
from ip2p.plurals import counted
from ip2p.records import PACKED_COLUMNS, Reason

TEMPLATE = Path(__file__).with_name("card.md.jinja")
HEADER = ["license", "license_name", "license_link", "task_categories", "tags", "size_categories", "configs"]
"""Keys of the header, in order."""

SHARED_WORDS = {"attention": "self-attention", "features": "self-attention and decoder features"}


def dataset_card(
    config: DatasetConfig,
    counts: Counts,
    splits: Sequence[str],
    digest: str,
    *,
    licenses: Licenses,
    makers: Mapping[str, Any],
    fingerprint: str,
    preferences: Sequence[str] = (),
    packing: PackingCounts | None = None,
) -> str:
    """Return the text of the data-set card.

    Args:
        config: config of the build.
        counts: counts over all shards.
        splits: names of the splits that have a pair.
        digest: hash of the contents. `datasets` caches pairs under a hash of the header, so without the digest it would
            return the old pairs after a build is filtered again.
        licenses: licences of captions, writer and base model.
        makers: versions and revisions that made the pairs, see `BuildFolder.makers`.
        fingerprint: fingerprint of all settings, as in the manifest.
        preferences: names of the splits that have a preference pair.
        packing: what packing made of the kept pairs.
    """
    settings = config.model_dump(mode="json", exclude={"out"})
    packing = packing or PackingCounts()
    pairs = packing.pairs(counts.pairs)
    header = DatasetCardData(
        license=licenses.whole, **_license_details(licenses),
        task_categories=["image-to-image"], tags=["instruct-pix2pix", "ip2p"],
        size_categories=[_size_category(pairs + packing.inverses[""])],
        configs=[
            {
                "config_name": config_name,
                "description": f"contents {digest}",
                "data_files": [{"split": name, "path": f"{place}/{name}-*.parquet"} for name in names],
            }
            for config_name, place, names in (("default", "data", splits), (PREFERENCES, PREFERENCES, preferences))
            if names
        ],
    )  # fmt: skip
    card = DatasetCard.from_template(
        header, template_path=str(TEMPLATE), header=header.to_yaml(original_order=HEADER), config=config, counts=counts,
        writers=dict(counts.writers), licenses=licenses, makers=makers, fingerprint=fingerprint,
        counted=counted, shared=SHARED_WORDS[config.pairs.share], thresholds=describe_thresholds(config),
        preferences=bool(preferences), pairs=pairs, packed=packing.facts(),
        drawn=counts.triples[Reason.OK], kinds=sorted(counts.drawn.items()), columns=PACKED_COLUMNS, per_cent=per_cent,
        settings=yaml.safe_dump(settings, sort_keys=False).rstrip(),
    )  # fmt: skip
    return f"{card}\n"


def describe_thresholds(config: DatasetConfig) -> str:
    """Return the thresholds of the filter in one line, without those that refuse nothing."""
    bounds = config.filter
    others = f"; others for {', '.join(sorted(bounds.per_kind))}" if bounds.per_kind else ""
    asked = [
        f"{bound.score.removeprefix('sim_')} {bound.sign} {limit:g}"
        for name, bound in BOUNDS.items()
        if bound.can_refuse(limit := getattr(bounds, name))
    ]
    return f"{', '.join([*asked, f'best {bounds.top_k} of a triple'])}{others}"


def _license_details(licenses: Licenses) -> dict[str, Any]:
    """Return the further keys that the hub asks for where a licence is none of its list."""
    if licenses.whole != "other":
        return {}
    parts = ", ".join(f"{name} {license}" for name, license in licenses._asdict().items())
    return {"license_name": parts, "license_link": "README.md"}


def _size_category(count: int) -> str:
    for bound, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if count < bound:
            return name
    return "1M<n<10M"
