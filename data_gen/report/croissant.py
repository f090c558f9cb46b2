"""Croissant metadata of a packed data set (MLCommons, version 1.0): its files with hashes, and its columns."""

import json
from collections.abc import Mapping
from typing import Any

from datasets import Features
from datasets import Image as Picture

from ip2p.data_gen.pairs.split import SPLITS
from ip2p.shards import Contents

TERMS = (
    "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
).split()
CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/", "dct": "http://purl.org/dc/terms/",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "conformsTo": "dct:conformsTo", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "examples": {"@id": "cr:examples", "@type": "@json"},
} | {term: f"cr:{term}" for term in TERMS}  # fmt: skip
"""What the names of the standard mean."""
TYPES = {"string": "sc:Text", "int64": "sc:Integer", "float64": "sc:Float"}


def croissant(name: str, *, description: str, license: str, files: Mapping[str, Contents], features: Features) -> str:
    """Return the metadata as JSON-LD.

    Args:
        name: name of the data set.
        description: what it is, in a sentence.
        license: its licence.
        files: what each parquet file holds, by its path inside the folder.
        features: columns of the rows.
    """
    objects = [
        {
            "@type": "cr:FileObject", "@id": path, "name": path, "contentUrl": path, "sha256": contents.sha256,
            "contentSize": f"{contents.size} B", "encodingFormat": "application/x-parquet",
        }
        for path, contents in files.items()
    ]  # fmt: skip
    records = [
        {
            "@type": "cr:RecordSet", "@id": split, "name": split,
            "field": [_field(split, column, kind) for column, kind in features.items()],
        }
        for split in SPLITS
        if any(path.startswith(f"data/{split}-") for path in files)
    ]  # fmt: skip
    sets = [
        {
            "@type": "cr:FileSet", "@id": f"{each['@id']}-files", "name": f"{each['@id']}-files",
            "encodingFormat": "application/x-parquet", "includes": f"data/{each['@id']}-*.parquet",
        }
        for each in records
    ]  # fmt: skip
    metadata = {
        "@context": CONTEXT, "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.0", "name": name,
        "description": description, "license": license, "distribution": objects + sets, "recordSet": records,
    }  # fmt: skip
    return json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"


def _field(split: str, column: str, kind: Any) -> dict[str, Any]:
    """Describe a column of a split."""
    source: dict[str, Any] = {"fileSet": {"@id": f"{split}-files"}, "extract": {"column": column}}
    if isinstance(kind, Picture):
        source["transform"] = {"jsonPath": "bytes"}
    return {
        "@type": "cr:Field", "@id": f"{split}/{column}", "name": column,
        "dataType": "sc:ImageObject" if isinstance(kind, Picture) else TYPES[kind.dtype], "source": source,
    }  # fmt: skip
