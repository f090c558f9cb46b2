"""Tensors on disk that are computed once: shards named by what they hold, filled by all ranks, mapped into memory.

    FOLDER/<fingerprint of what made them>/<hash of the inputs>.safetensors, and its manifest .json

A shard is named by its inputs, so that it serves every run that has these inputs, and a shard of other inputs is never
read. It is whole when its manifest exists, which is written last, and its bytes have the hash that is in there; all
others are made again. Reading maps the file: ranks of one machine share it in the page cache, and none holds a copy.
"""

import shlex
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ip2p.errors import DataError
from ip2p.records import SCHEMA_VERSION
from ip2p.shards import Manifest, atomic_file, atomic_write, fingerprint, hash_file, sweep_temporaries

Say = Callable[[str], None]
SAY_EVERY = 30.0
"""Seconds between lines of progress."""
POLL = 0.5
"""Seconds between looks for shards of other ranks."""


class TensorShards:
    """The shards of one fingerprint.

    Args:
        folder: folder of all shards, those of other fingerprints too.
        made_by: what the tensors follow from besides the inputs of each shard, as JSON values.
    """

    def __init__(self, folder: Path, made_by: Mapping[str, object]) -> None:
        self.fingerprint = fingerprint(made_by)
        self.folder = folder / self.fingerprint
        self._open: dict[str, dict[str, Tensor]] = {}

    def write(self, name: str, tensors: Mapping[str, Tensor], *, rows: int) -> None:
        """Write a shard and then its manifest.

        Args:
            name: hash of its inputs.
            tensors: tensors by name, on any device.
            rows: number of rows, for the manifest.

        Raises:
            DataError: the disk is full.
        """
        path = self._path(name)
        with atomic_file(path) as temporary:
            save_file({key: tensor.contiguous().cpu() for key, tensor in tensors.items()}, temporary)
            size, digest = temporary.stat().st_size, hash_file(temporary)
            path.with_suffix(".json").unlink(missing_ok=True)  # a shard that is being replaced is not done
        manifest = Manifest(rows=rows, size=size, sha256=digest, config=self.fingerprint)
        atomic_write(path.with_suffix(".json"), (manifest.model_dump_json(indent=1) + "\n").encode())

    def manifest(self, name: str) -> Manifest | None:
        """Return the manifest of a shard; None if the shard is not done."""
        path = self._path(name)
        try:
            found = Manifest.model_validate_json(path.with_suffix(".json").read_bytes())
            whole = path.stat().st_size == found.size
        except (OSError, ValidationError):
            return None
        made_here = found.config == self.fingerprint and found.schema_version == SCHEMA_VERSION
        return found if made_here and whole else None

    def is_whole(self, name: str) -> bool:
        """Return whether a shard is done and its bytes are those that were written."""
        manifest = self.manifest(name)
        return manifest is not None and hash_file(self._path(name)) == manifest.sha256

    def read(self, name: str) -> dict[str, Tensor]:
        """Map a shard into memory: its tensors by name, on the CPU. Rows are read from disk when they are used.

        Raises:
            DataError: the shard is gone, or cannot be read.
        """
        if name not in self._open:
            try:
                self._open[name] = load_file(self._path(name))
            except (OSError, SafetensorError) as error:
                raise DataError(
                    f"the shard {self._path(name)} of a cache is gone or damaged", "Run the same command again"
                ) from error
        return self._open[name]

    def files(self, names: Iterable[str]) -> set[Path]:
        """Return the files of shards."""
        return {self._path(name) for name in names}

    def fill(self, names: Sequence[str], make: Callable[[int], None], *, rank: int, ranks: int, say: Say) -> None:
        """Make the shards that are missing or damaged, each name once, this rank its share, and wait for the others'.

        Args:
            names: names of all shards, the same on all ranks.
            make: function that makes and writes the shard of an index.
            rank: index of this process, from 0.
            ranks: number of processes, which all see the same folder.
            say: function that prints a line of progress.
        """
        if rank == 0:
            sweep_temporaries(self.folder)
        firsts = {name: index for index, name in reversed(list(enumerate(names)))}
        share = sorted(firsts.values())[rank::ranks]
        missing = [index for index in share if not self.is_whole(names[index])]
        if missing and len(missing) < len(share):
            say(f"{len(share) - len(missing)} of {len(share)} shards are there")
        for index in self._with_progress(missing, say):
            make(index)
        said = time.monotonic()
        while left := sum(self.manifest(name) is None for name in names):
            time.sleep(POLL)
            if time.monotonic() - said >= SAY_EVERY:
                say(f"waiting for {left} shards of other processes, which have to see {self.folder}")
                said = time.monotonic()

    @staticmethod
    def _with_progress(missing: Sequence[int], say: Say) -> Iterator[int]:
        began = said = time.monotonic()
        for count, index in enumerate(missing):
            yield index
            now = time.monotonic()
            if now - said >= SAY_EVERY:
                left = (now - began) / (count + 1) * (len(missing) - count - 1)
                say(f"{count + 1} of {len(missing)} shards, {left / 60:.0f} min left")
                said = now

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def tell_unused(folder: Path, used: Collection[Path], say: Say) -> None:
    """Tell what a folder of caches keeps that a run does not use: that of other data, sizes, models or data types.

    Nothing is deleted, because other runs may use it.

    Args:
        folder: folder of all shards.
        used: shards that the run uses.
        say: function that prints a line.
    """
    unused: dict[Path, int] = {}
    for file in folder.glob("*/*.safetensors"):
        if file not in used and file.with_suffix(".json").is_file():
            unused[file.parent] = unused.get(file.parent, 0) + file.stat().st_size
    needed = {file.parent for file in used}
    if free := sorted(map(str, unused.keys() - needed)):
        size = sum(bytes_ for each, bytes_ in unused.items() if each not in needed)
        say(f"this run uses none of {size / 1e6:,.1f} MB of kept latents; if no other does: rm -r {shlex.join(free)}")
    for each in sorted(unused.keys() & needed):
        say(
            f"this run does not use {unused[each] / 1e6:,.1f} MB of the kept latents in {each}, of other pairs; "
            "if no other does, delete the folder once, and what is used is made again"
        )
