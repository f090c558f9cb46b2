"""The manifest of a data set: its files with their rows, sizes and hashes, and the fingerprint of what made it.

A data set whose manifest is there is complete. Whoever reads one that has a manifest compares it first. Documents, such
as the card, are people's to edit: what has changed in them is told, and is no fault as long as they can be read.

The packed data set of a build is stale if its fingerprint is not that of the settings which the build has now.
"""

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ip2p.builds import find_packed_build, read_fingerprint, repack_hint
from ip2p.errors import DataError, reason
from ip2p.records import SCHEMA_VERSION
from ip2p.shards import Contents, atomic_write, hash_file, verify_parquet

MANIFEST_FILE = "manifest.json"
PARSERS: Mapping[str, Callable[[str], Any]] = {
    ".json": json.loads, ".yaml": yaml.safe_load, ".toml": tomllib.loads,
}  # fmt: skip
"""Functions that read documents, by the ending of their names."""


class DatasetManifest(BaseModel):
    """Description of a finished data set.

    Attributes:
        config: fingerprint of the settings and models that made it.
        files: what each file holds, by its path inside the folder.
        documents: SHA-256 of each file that describes these, such as README.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str
    files: dict[str, Contents]
    documents: dict[str, str] = {}
    schema_version: int = SCHEMA_VERSION


def write_documents(folder: Path, documents: Mapping[str, str]) -> dict[str, str]:
    """Write the documents of a data set, texts by name; returns the SHA-256 of each for its manifest."""
    for name, text in documents.items():
        atomic_write(folder / name, text.encode())
    return {name: hash_file(folder / name) for name in sorted(documents)}


def write_manifest(
    folder: Path, files: Mapping[str, Contents], config: str, documents: Mapping[str, str] | None = None
) -> DatasetManifest:
    """Write the manifest of a folder whose files are all written.

    Args:
        folder: folder of the data set.
        files: what each file holds, by its path inside the folder.
        config: fingerprint of the settings that made the data set.
        documents: SHA-256 of the documents, see `write_documents`.
    """
    manifest = DatasetManifest(config=config, files=dict(sorted(files.items())), documents=dict(documents or {}))
    atomic_write(folder / MANIFEST_FILE, (manifest.model_dump_json(indent=1) + "\n").encode())
    return manifest


def read_manifest(folder: Path) -> DatasetManifest | None:
    """Read the manifest of a data set; None if it has none.

    Raises:
        DataError: the manifest is damaged, or names a file outside of the folder.
    """
    try:
        manifest = DatasetManifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DataError(f"the manifest {folder / MANIFEST_FILE} is unreadable", repack_hint(folder)) from error
    for name in (*manifest.files, *manifest.documents):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            what = f"{folder / MANIFEST_FILE} names {name!r}, which is outside of its folder"
            raise DataError(what, repack_hint(folder))
    return manifest


def find_faults(folder: Path, manifest: DatasetManifest) -> Iterator[DataError]:
    """Yield what is wrong with a data set: files that are missing, altered or not in its manifest; earlier settings."""
    yield from (fault for _, fault in find_altered(folder, manifest))
    yield from find_other_faults(folder, manifest)


def find_altered(folder: Path, manifest: DatasetManifest) -> Iterator[tuple[str, DataError]]:
    """Yield the names of the files of a data set that are missing or altered, with what is wrong."""
    again = repack_hint(folder)
    for name, contents in manifest.files.items():
        path = folder / name
        try:
            if path.suffix == ".parquet":
                verify_parquet(path, contents)
            elif not path.is_file() or hash_file(path) != contents.sha256:
                raise DataError(f"{path} is missing, or is not what was written", again)
        except DataError as error:
            yield name, DataError(error.what, again)


def find_other_faults(folder: Path, manifest: DatasetManifest) -> Iterator[DataError]:
    """Yield what is wrong with a data set besides its files: documents, files not in its manifest, earlier settings."""
    for name in manifest.documents:
        if what := _find_document_fault(folder / name):
            yield DataError(f"{folder / name} {what}", repack_hint(folder))
    for path in sorted(folder.rglob("*.parquet")):
        if path.relative_to(folder).as_posix() not in manifest.files:
            yield DataError(f"{path} is not in the manifest of its data set", "Remove it, or make the data set again")
    if stale := find_stale(folder, manifest):
        yield stale


def find_edited(folder: Path, manifest: DatasetManifest) -> list[str]:
    """Return the names of the documents that can be read and are not as they were written."""
    return [
        name
        for name, digest in manifest.documents.items()
        if not _find_document_fault(folder / name) and hash_file(folder / name) != digest
    ]


def find_stale(folder: Path, manifest: DatasetManifest | None = None) -> DataError | None:
    """Return what is wrong if a data set was packed with other settings than its build has now, as after a filter that
    kept nothing; None if it is current, or does not lie in the folder of a build.

    Args:
        folder: folder of the data set.
        manifest: its manifest; None to read it.
    """
    build, manifest = find_packed_build(folder), manifest or read_manifest(folder)
    current = read_fingerprint(build) if build else None  # earlier versions did not write it
    if not manifest or current in (None, manifest.config):
        return None
    what = f"{folder} was packed by an earlier filter: its settings are not those that {build} has now"
    return DataError(what, f"Run `ip2p dataset filter out={build}`, with thresholds that keep pairs")


def verify_dataset(folder: Path) -> DatasetManifest | None:
    """Compare all files of a data set with its manifest; None if it has no manifest.

    Raises:
        DataError: a file is missing, altered, or not in the manifest; or the data set is stale.
    """
    manifest = read_manifest(folder)
    for fault in find_faults(folder, manifest) if manifest else ():
        raise fault
    return manifest


def _find_document_fault(path: Path) -> str:
    """Return why a document cannot be read; "" if it can."""
    try:
        text = path.read_text()
        if path.suffix == ".md" and text.startswith("---\n"):
            header, end, _ = text[4:].partition("\n---")
            if not end or not isinstance(yaml.safe_load(header), dict):
                return "is torn: its header does not end"
        parse = PARSERS.get(path.suffix)
        if not text.strip() or (parse and not parse(text)):
            return "is empty"
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError, yaml.YAMLError) as error:
        return f"cannot be read ({reason(error, 80)})"
    return ""
