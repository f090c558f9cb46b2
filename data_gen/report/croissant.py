"""Croissant metadata of a data set (MLCommons, version 1.0): its files with hashes, and the columns of its rows."""

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import PurePath
from typing import Any, NamedTuple

from datasets import Image as Picture

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
"""Meanings of the names of the standard."""
TYPES = {"string": "sc:Text", "int32": "sc:Integer", "int64": "sc:Integer", "float64": "sc:Float"}
ENCODINGS = {
    ".parquet": "application/x-parquet", ".jsonl": "application/jsonlines", ".tar": "application/x-tar",
}  # fmt: skip
"""Media types of files of rows."""


class RecordSet(NamedTuple):
    """Rows of one kind in files of one pattern.

    Attributes:
        name: name of the set, such as that of its split.
        pattern: pattern of the paths of its files inside the folder.
        features: columns of the rows, as `datasets` describes them.
    """

    name: str
    pattern: str
    features: Mapping[str, Any]


def croissant(
    name: str, *, description: str, license: str, files: Mapping[str, Contents], record_sets: Sequence[RecordSet]
) -> str:
    """Return the metadata as JSON-LD.

    Args:
        name: name of the data set.
        description: what it is, in a sentence.
        license: its licence.
        files: what each file holds, by its path inside the folder; those without rows are not listed.
        record_sets: rows of the files; sets without a file are left out.
    """
    there = [each for each in record_sets if any(fnmatch(path, each.pattern) for path in files)]
    objects = [
        {
            "@type": "cr:FileObject", "@id": path, "name": path, "contentUrl": path, "sha256": contents.sha256,
            "contentSize": f"{contents.size} B", "encodingFormat": ENCODINGS[PurePath(path).suffix],
        }
        for path, contents in files.items()
        if contents.rows and PurePath(path).suffix in ENCODINGS
    ]  # fmt: skip
    records = [
        {
            "@type": "cr:RecordSet", "@id": each.name, "name": each.name,
            "field": [_field(each.name, column, kind) for column, kind in each.features.items()],
        }
        for each in there
    ]  # fmt: skip
    sets = [
        {
            "@type": "cr:FileSet", "@id": f"{each.name}-files", "name": f"{each.name}-files",
            "encodingFormat": ENCODINGS[PurePath(each.pattern).suffix], "includes": each.pattern,
        }
        for each in there
    ]  # fmt: skip
    metadata = {
        "@context": CONTEXT, "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.0", "name": name,
        "description": description, "license": license, "distribution": objects + sets, "recordSet": records,
    }  # fmt: skip
    return json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"


def _field(records: str, column: str, kind: Any) -> dict[str, Any]:
    """Describe a column of a set of records."""
    source: dict[str, Any] = {"fileSet": {"@id": f"{records}-files"}, "extract": {"column": column}}
    if isinstance(kind, Picture):
        source["transform"] = {"jsonPath": "bytes"}
    return {
        "@type": "cr:Field", "@id": f"{records}/{column}", "name": column,
        "dataType": "sc:ImageObject" if isinstance(kind, Picture) else TYPES[kind.dtype], "source": source,
    }  # fmt: skip
