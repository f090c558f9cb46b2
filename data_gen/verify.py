"""Compare the files of a build or a data set with their manifests: `ip2p dataset verify`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ip2p.builds import BUILD_FILE, repack_hint
from ip2p.data_gen.build_file import read_build_file
from ip2p.data_gen.build_folder import STAGES
from ip2p.errors import DataError
from ip2p.manifest import MANIFEST_FILE, find_altered, find_edited, find_other_faults, read_manifest
from ip2p.plurals import counted
from ip2p.shards import finished_shards, list_shards, verify_shard


class Verified(NamedTuple):
    """Findings about a part of a folder: its name, its files and rows that are as written, faults, and remarks."""

    name: str
    files: int
    rows: int
    faults: list[str]
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = f"{self.name}: {counted(self.files, 'file')} as written, {counted(self.rows, 'row')}"
        return "\n  ".join([said, *self.faults, *self.remarks])


def verify(folder: Path, *, say: Callable[[str], None]) -> list[Verified]:
    """Read every shard of a build, or every file of a data set, and compare rows and hash with its manifest.

    Args:
        folder: folder of a build, of a packed or exported data set, or of shards.
        say: function that prints a line.

    Raises:
        DataError: there is nothing to verify in the folder, or something is missing or not as written.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}", "Give the folder of a build, or of a data set that ip2p wrote")
    found = []
    for part in _verify_parts(folder):
        say(str(part))
        found.append(part)
    if not found:
        raise DataError(f"{folder} has no manifest", "Give the folder of a build, or of a data set that ip2p wrote")
    if faults := [fault for part in found for fault in part.faults]:
        more = f"; the first: {faults[0]}" if faults[1:] else f": {faults[0]}"
        raise DataError(f"{counted(len(faults), 'fault')} in {folder}{more}", "See the list above")
    return found


def _verify_parts(folder: Path) -> Iterator[Verified]:
    """Verify the stages of a build and its packed data set, or else the folder alone."""
    if (folder / BUILD_FILE).exists():
        if fault := _find_settings_fault(folder):
            yield Verified(BUILD_FILE, 0, 0, [fault])
        least: int | None = None
        for stage in STAGES[:-1]:
            part = _verify_shards(folder / stage)
            shards = part.files + len(part.faults)
            if least is not None and shards > least:
                part.faults.append(f"{folder / stage} has {counted(shards, 'shard')}, and a stage before it {least}")
            least = shards if least is None else min(least, shards)
            yield part
        folder = folder / STAGES[-1]
        if folder.is_dir() and not (folder / MANIFEST_FILE).exists():
            fault = f"{folder} has no {MANIFEST_FILE}, so that nobody knows whether it is whole. {repack_hint(folder)}"
            yield Verified(folder.name, 0, 0, [fault])
    if (folder / MANIFEST_FILE).exists():
        yield _verify_dataset(folder)
    elif list_shards(folder):
        yield _verify_shards(folder)


def _find_settings_fault(folder: Path) -> str:
    """Return why the settings of a build cannot be read; "" if they can."""
    try:
        read_build_file(folder)
    except DataError as error:
        return str(error)
    return ""


def _verify_shards(folder: Path) -> Verified:
    """Verify all finished shards of a folder."""
    files = rows = 0
    faults = []
    try:
        finished_shards(folder)
    except DataError as error:
        faults.append(str(error))
    for index in list_shards(folder):
        try:
            rows += verify_shard(folder, index).rows
            files += 1
        except DataError as error:
            faults.append(str(error))
    return Verified(folder.name, files, rows, faults)


def _verify_dataset(folder: Path) -> Verified:
    """Verify all files of a data set with a manifest."""
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return Verified(folder.name, 0, 0, [str(error)])
    assert manifest
    altered = dict(find_altered(folder, manifest))
    faults = [str(fault) for fault in (*altered.values(), *find_other_faults(folder, manifest))]
    edited = tuple(
        f"{name} is not as it was written, and can be read: an edit of yours is kept until the pairs are packed again"
        for name in find_edited(folder, manifest)
    )
    whole = [each.rows for name, each in manifest.files.items() if name not in altered]
    return Verified(folder.name, len(whole), sum(whole), faults, edited)
