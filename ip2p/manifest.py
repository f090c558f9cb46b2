"""The manifest of a data set: its files with their rows, sizes and hashes, and the fingerprint of what made it.

A data set whose manifest is there is complete. Whoever reads one that has a manifest compares it first.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from ip2p.errors import DataError
from ip2p.records import SCHEMA_VERSION
from ip2p.shards import Contents, atomic_write, hash_file, verify_parquet

MANIFEST_FILE = "manifest.json"
AGAIN_HINT = "Make the data set again, or copy it again from where it is whole"


class DatasetManifest(BaseModel):
    """Description of a finished data set.

    Attributes:
        config: fingerprint of the settings and models that made it.
        files: what each file holds, by its path inside the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str
    files: dict[str, Contents]
    schema_version: int = SCHEMA_VERSION


def write_manifest(folder: Path, files: Mapping[str, Contents], config: str) -> DatasetManifest:
    """Write the manifest of a folder whose files are all written.

    Args:
        folder: folder of the data set.
        files: what each file holds, by its path inside the folder.
        config: fingerprint of the settings that made the data set.
    """
    manifest = DatasetManifest(config=config, files=dict(sorted(files.items())))
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
        raise DataError(f"the manifest {folder / MANIFEST_FILE} is unreadable", AGAIN_HINT) from error
    for name in manifest.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{folder / MANIFEST_FILE} names {name!r}, which is outside of its folder", AGAIN_HINT)
    return manifest


def find_faults(folder: Path, manifest: DatasetManifest) -> Iterator[DataError]:
    """Yield what is wrong with the files of a data set: missing, altered, or not in its manifest."""
    for name, contents in manifest.files.items():
        path = folder / name
        try:
            if path.suffix == ".parquet":
                verify_parquet(path, contents)
            elif not path.is_file() or hash_file(path) != contents.sha256:
                raise DataError(f"{path} is missing, or is not what was written", AGAIN_HINT)
        except DataError as error:
            yield DataError(error.what, AGAIN_HINT)
    for path in sorted(folder.rglob("*.parquet")):
        if path.relative_to(folder).as_posix() not in manifest.files:
            yield DataError(f"{path} is not in the manifest of its data set", "Remove it, or make the data set again")


def verify_dataset(folder: Path) -> DatasetManifest | None:
    """Compare all files of a data set with its manifest; None if it has no manifest.

    Raises:
        DataError: a file is missing, altered, or not in the manifest.
    """
    manifest = read_manifest(folder)
    for fault in find_faults(folder, manifest) if manifest else ():
        raise fault
    return manifest
