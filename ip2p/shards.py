"""Atomic files and shards: written under a temporary name, synced, checked, renamed.

A stage writes shards. `shard-00000.parquet` is done when its manifest `shard-00000.json` exists, which is written last
and says how many rows it has, its size, its hash and the fingerprint of the config that made it. Done shards are
skipped when a stage runs again; all others are written again, byte for byte the same. Whoever reads a shard compares it
with its manifest first.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from ip2p.builds import redo_hint
from ip2p.errors import DataError, reason, told_if_unwritable
from ip2p.records import SCHEMA_VERSION

if TYPE_CHECKING:
    from datasets import Features

TEMPORARY = re.compile(r"\.ip2p-(?P<kind>tmp|old)-(?P<pid>\d+)-(?P<mark>[0-9a-f]{16})-(?P<name>.+)", re.DOTALL)
"""Names of unfinished files and folders, and of folders that are being replaced."""
ROW_GROUP_SIZE = 128


class Contents(BaseModel):
    """Contents of a file: its number of rows, its size in bytes, and the SHA-256 of these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    size: int
    sha256: str


class Manifest(Contents):
    """Description of a finished shard, with the fingerprint of the config that made it."""

    config: str
    schema_version: int = SCHEMA_VERSION


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file atomically: `path` has either all of `data` or its previous content, even after a crash."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary name to write a file under; it becomes `path` when the block ends well, and vanishes if not.

    Raises:
        DataError: the disk is full.
    """
    temporary = _temporary(path)
    with told_if_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            permissions = temporary.stat().st_mode  # as the umask says; safetensors makes files for their owner alone
            yield temporary
            temporary.chmod(permissions)
            _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)


def hash_file(path: Path) -> str:
    """Hash the contents of a file: its SHA-256, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Context manager with a temporary folder that becomes `path` if the block succeeds and is deleted if it fails.

    An existing folder, or the one that a link leads to, is moved aside, replaced, and deleted last; if that is
    interrupted, the next call or `sweep_temporaries` restores it. Callers make sure that it is theirs to replace.

    Raises:
        DataError: the disk is full.
    """
    with told_if_unwritable(path), _atomic_dir(path.resolve() if path.is_symlink() else path) as temporary:
        yield temporary


@contextmanager
def _atomic_dir(path: Path) -> Iterator[Path]:
    """See `atomic_dir`; errors of the system as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_temporaries(path.parent, path.name)
    temporary, backup = _temporary(path), _temporary(path, "old")
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():  # safetensors writes files that only their owner may read
                file.chmod(temporary.stat().st_mode & 0o666)
            _sync(file)
        _sync(temporary)
        if path.exists():
            path.rename(backup)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync(path.parent)
    _recover(backup, path)


def sweep_temporaries(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left in a folder, and restore a folder whose replacement was interrupted.

    Only marked files are touched: temporary names contain the process id, which must not be running any more, and a
    code that nobody else can make. Links are not followed.

    Args:
        folder: folder that ip2p writes to.
        name: name of the file or folder whose leftovers are meant; all of them if None.
    """
    for entry in folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ():
        found = TEMPORARY.fullmatch(entry.name)
        if not found or entry.is_symlink() or _is_alive(found["pid"]):
            continue
        if name is not None and found["name"] not in (name, _shorten(name)):
            continue
        if found["mark"] != _mark(found["kind"], found["pid"], found["name"]):
            continue
        if found["kind"] == "old":
            _recover(entry, entry.with_name(found["name"]))
        else:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def fingerprint(settings: BaseModel | Mapping[str, Any]) -> str:
    """A hash of settings, 16 hexadecimal digits, which does not depend on the order of keys."""
    values = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else settings
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def write_shard(
    folder: Path,
    index: int,
    rows: Iterable[Mapping[str, Any]],
    *,
    schema: "pa.Schema | Features | None" = None,
    config: str,
) -> Manifest:
    """Write a shard and, after reading it back, its manifest. Equal rows give equal bytes.

    Args:
        folder: folder of the shards; created if missing.
        index: index of the shard, from 0.
        rows: mappings from column to value; no more than a row group of them is in memory.
        schema: columns and types, or features of a data set, which encode pictures too; inferred from the first row
            group if None.
        config: fingerprint of the settings that made the rows.

    Raises:
        DataError: rows do not fit the schema, or the file read back differs from the one written.
    """
    path = shard_path(folder, index)
    with atomic_file(path) as temporary:
        count = _write_parquet(temporary, rows, schema)
        size, digest = temporary.stat().st_size, hash_file(temporary)
        path.with_suffix(".json").unlink(missing_ok=True)  # a shard that is being replaced is not done
    manifest = Manifest(rows=count, size=size, sha256=digest, config=config)
    verify_parquet(path, manifest)
    atomic_write(path.with_suffix(".json"), (manifest.model_dump_json(indent=1) + "\n").encode())
    return manifest


def shard_path(folder: Path, index: int) -> Path:
    """The path of a shard; its manifest has the suffix .json."""
    return folder / f"shard-{index:05d}.parquet"


def is_shard_done(folder: Path, index: int, config: str) -> bool:
    """Whether a shard is finished, has the size in its manifest, and was made with this config fingerprint.

    This is cheap: contents are compared with the manifest when they are read.
    """
    path = shard_path(folder, index)
    try:
        manifest = read_shard_manifest(path)
    except DataError:
        return False
    made_here = manifest.config == config and manifest.schema_version == SCHEMA_VERSION
    return made_here and path.is_file() and path.stat().st_size == manifest.size


def verify_shard(folder: Path, index: int) -> Manifest:
    """Compare a shard with the hash in its manifest and read all of it.

    Raises:
        DataError: there is no shard, or it differs from the one written.
    """
    path = shard_path(folder, index)
    manifest = read_shard_manifest(path)
    verify_parquet(path, manifest)
    return manifest


def verify_parquet(path: Path, contents: Contents) -> None:
    """Compare a parquet file with its hash, and read all of it.

    Raises:
        DataError: the file is missing, differs from the one written, or cannot be read.
    """
    for _ in _read_batches(path, contents):
        pass


def list_shards(folder: Path) -> list[int]:
    """The indices of all shards of a folder that have a manifest, in order; some between them may be missing."""
    return sorted(int(file.stem.removeprefix("shard-")) for file in folder.glob("shard-?????.json"))


def finished_shards(folder: Path) -> list[int]:
    """The indices of all finished shards of a folder: 0, 1, 2 and so on.

    Raises:
        DataError: one before the last is not finished.
    """
    found = list_shards(folder)
    if missing := [shard_path(folder, index) for index in range(len(found)) if index not in found]:
        raise DataError(f"the shard {missing[0]} is not finished, but later ones are", redo_hint(missing[0]))
    return found


def read_shards(folder: Path) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of all finished shards of a folder, in order; shards without a manifest are not read.

    Raises:
        DataError: a shard is missing, torn or corrupt, or there is none at all.
    """
    indices = finished_shards(folder)
    if not indices:
        raise DataError(f"no finished shard in {folder}", "Run the stage that writes it first")
    for index in indices:
        yield from read_shard(folder, index)


def read_shard(folder: Path, index: int) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of one finished shard, which is compared with its manifest before the first row.

    Raises:
        DataError: it is not finished, or differs from the one written.
    """
    path = shard_path(folder, index)
    for batch in _read_batches(path, read_shard_manifest(path)):
        yield from batch.to_pylist()


def _write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], schema: "pa.Schema | Features | None") -> int:
    """Write rows as a parquet file, one row group after another, so that no more is in memory; returns their number."""
    count = 0
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for chunk in _chunks(rows):
            table = _to_table(chunk, schema)
            if writer is None:
                options = {"compression": "zstd", "write_page_checksum": True}
                writer = stack.enter_context(pq.ParquetWriter(path, table.schema, **options))
            writer.write_table(table, row_group_size=ROW_GROUP_SIZE)
            count += len(chunk)
    return count


def _chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the rows of each row group; of no rows, an empty one."""
    left = iter(rows)
    chunk = list(islice(left, ROW_GROUP_SIZE))
    yield chunk
    while len(chunk) == ROW_GROUP_SIZE and (chunk := list(islice(left, ROW_GROUP_SIZE))):
        yield chunk


def _to_table(rows: Sequence[Mapping[str, Any]], schema: "pa.Schema | Features | None") -> pa.Table:
    try:
        if schema is None or isinstance(schema, pa.Schema):
            return pa.Table.from_pylist(list(rows), schema=schema)
        encoded = [schema.encode_example(dict(row)) for row in rows]
        return pa.Table.from_pylist(encoded, schema=schema.arrow_schema)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataError(f"rows do not fit the schema of the shard ({reason(error)})", "Check the columns") from error


def read_shard_manifest(path: Path) -> Manifest:
    """Read the manifest of a finished shard."""
    file = path.with_suffix(".json")
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"the shard {path} is not finished", redo_hint(path)) from error
    except (OSError, ValidationError) as error:
        raise DataError(f"the manifest {file} is unreadable", redo_hint(path)) from error


def _read_batches(path: Path, contents: Contents) -> Iterator[pa.RecordBatch]:
    """Compare a parquet file with its size and hash, and read it batch by batch.

    The hash comes first: a bit that flipped in the description of the columns may hide rows or change them, and the
    checksums of pages do not cover it.
    """
    try:
        if path.stat().st_size != contents.size:
            raise DataError(f"{path} does not have the {contents.size} bytes in its manifest", redo_hint(path))
        if hash_file(path) != contents.sha256:
            raise DataError(f"{path} is corrupt: its bytes are not those that were written", redo_hint(path))
        with pq.ParquetFile(path, page_checksum_verification=True) as reader:
            if reader.metadata.num_rows != contents.rows:
                said = f"has {reader.metadata.num_rows} rows, and its manifest says {contents.rows}"
                raise DataError(f"{path} {said}", redo_hint(path))
            yield from reader.iter_batches(batch_size=ROW_GROUP_SIZE)
    except (OSError, pa.ArrowException) as error:
        what = f"cannot be read ({reason(error)})" if path.exists() else "is missing"
        raise DataError(f"{path} {what}", redo_hint(path)) from error


def _temporary(path: Path, kind: Literal["tmp", "old"] = "tmp") -> Path:
    """A name beside a path that this process alone uses, and later ones know as one of ours."""
    pid, name = str(os.getpid()), _shorten(path.name) if kind == "tmp" else path.name
    return path.with_name(f".ip2p-{kind}-{pid}-{_mark(kind, pid, name)}-{name}")


def _shorten(name: str) -> str:
    """A name with room for ours before it, in the 255 bytes that file systems allow."""
    data = os.fsencode(name)
    return name if len(data) <= 200 else hashlib.sha256(data).hexdigest()


def _mark(*words: str) -> str:
    """A code of words that only processes of this user can make."""
    return hmac.new(_secret(), "/".join(words).encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:16]


@cache
def _secret() -> bytes:
    """Random bytes of this user, kept from run to run; of this process alone where they cannot be kept."""
    file = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "ip2p" / "mark"
    fresh = secrets.token_bytes(32)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            draft = file.with_name(f"mark-{os.getpid()}-{secrets.token_hex(8)}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(fresh)
            try:
                os.link(draft, file)  # another process may have been first
            finally:
                draft.unlink()
        return file.read_bytes()
    except (OSError, RuntimeError):
        return fresh


def _recover(backup: Path, target: Path) -> None:
    """Delete a folder that was moved aside if its successor is in place, else move it back."""
    if not backup.exists():
        return
    if target.exists():
        shutil.rmtree(backup)
    else:
        backup.rename(target)


def _is_alive(pid: str) -> bool:
    try:
        with suppress(PermissionError):  # it is somebody else's
            os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    return True


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
