"""Latents of pairs on disk, encoded once: mode of the original, moments of the edited picture, mirrored ones too.

Only pairs that always get the same crop have them, which are the square ones; others are encoded anew at each step.
Mirrored latents are encoded from the mirrored picture, because an autoencoder does not commute with mirroring. A shard
is named by the files of the pictures that it keeps, and its folder by the weights of the autoencoder and by all that is
done to a picture before it; so another crop, model or picture never meets old latents, and what is equal is encoded
once. Each data set begins a shard, so one that grows or leaves does not move the others.
"""

import hashlib
import math
import shutil
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ip2p.errors import DataError, reason
from ip2p.models.backbone import Backbone
from ip2p.models.hashes import hash_weights
from ip2p.train.objective import Latents
from ip2p.train.ranks import Ranks
from ip2p.train.tensor_shards import Say, TensorShards

SHARD = 128
"""Pairs in a shard; a kill loses at most one for each rank."""
CHUNK = 16
"""Pairs that are decoded at a time."""
CacheDtype = Literal["fp16", "fp32"]
DTYPES: dict[CacheDtype, torch.dtype] = {"fp16": torch.float16, "fp32": torch.float32}


class CachedPairs(NamedTuple):
    """Pairs whose latents are kept.

    Attributes:
        total: number of pairs.
        files: function that reads the files of a row's pictures; None for a row that gets another crop each time.
        encode: function that encodes rows, mirrored or not.
        flips: the mirrorings that are wanted: (False,) or (False, True).
        size: side of the crop in pixels.
        starts: first row of each data set, in order.
    """

    total: int
    files: Callable[[int], Sequence[bytes] | None]
    encode: Callable[[Sequence[int], bool], Latents]
    flips: tuple[bool, ...]
    size: int
    starts: Sequence[int] = (0,)

    @property
    def spans(self) -> list[range]:
        """Rows of each shard."""
        ends = pairwise([*self.starts, self.total])
        return [range(row, min(row + SHARD, end)) for start, end in ends for row in range(start, end, SHARD)]


class LatentCache:
    """Finished latents of pairs, mapped into memory.

    Args:
        shards: where they are.
        names: names of the shards, in the order of the rows.
        starts: first row of each shard.
        flips: the mirrorings of each row, in order.
    """

    def __init__(
        self, shards: TensorShards, names: Sequence[str], starts: Sequence[int], flips: Sequence[bool]
    ) -> None:
        self.shards, self.names, self.starts, self.flips = shards, names, starts, flips

    def find(self, row: int, flip: bool) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return condition, mean and standard deviation of a row in fp32; None if it is encoded anew each time."""
        index = bisect_right(self.starts, row) - 1
        offset, tensors = row - self.starts[index], self.shards.read(self.names[index])
        place = int(torch.searchsorted(tensors["rows"], offset))
        if place == len(tensors["rows"]) or tensors["rows"][place] != offset:
            return None
        parts = tensors["latents"][place, self.flips.index(flip)].float()
        return parts[0], parts[1], parts[2] if len(parts) == 3 else torch.zeros_like(parts[1])

    @property
    def pairs(self) -> int:
        """Number of pairs that have latents here."""
        return sum(manifest.rows for name in self.names if (manifest := self.shards.manifest(name)))

    @property
    def size(self) -> int:
        """Bytes of the shards."""
        return sum(manifest.size for name in set(self.names) if (manifest := self.shards.manifest(name)))


def fill_latents(
    pairs: CachedPairs, backbone: Backbone, folder: Path, *, dtype: CacheDtype, ranks: Ranks, say: Say
) -> LatentCache:
    """Encode pairs whose latents are not on disk, each rank its share, and open all of them.

    Args:
        pairs: pairs whose latents are kept.
        backbone: model whose autoencoder encodes, in fp32.
        folder: folder of all caches.
        dtype: data type on disk: fp16 rounds by up to 2^-11 of each value.
        ranks: processes of the run, which see the same folder.
        say: function that prints a line.

    Raises:
        DataError: a picture cannot be read, or the disk has too little space.
    """
    shape = _shape(backbone, pairs)
    made_by = {
        "autoencoder": hash_weights(backbone.vae), "scale": {**backbone.vae.config}.get("scaling_factor"),
        "shift": {**backbone.vae.config}.get("shift_factor"), "size": pairs.size, "shape": shape, "dtype": dtype,
        "crop": "square, lanczos",
    }  # fmt: skip
    shards = TensorShards(folder, made_by)
    size = pairs.total * math.prod(shape) * DTYPES[dtype].itemsize
    mirrored = ", mirrored too" if len(pairs.flips) > 1 else ""
    say(f"latents of {pairs.total} pairs{mirrored}: {size / 1e6:,.1f} MB of {dtype} at most in {shards.folder}")
    spans = pairs.spans
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        found = ranks.interleave(list(pool.map(lambda span: _inputs(pairs, span), spans[ranks.rank :: ranks.total])))
    names = [name for name, _ in found]
    if ranks.rank == 0:
        _require_space(shards, names, size)

    def make(index: int) -> None:
        rows = [spans[index][offset] for offset in found[index][1]]
        latents = torch.empty((len(rows), *shape), dtype=DTYPES[dtype])
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            for place, flip in enumerate(pairs.flips):
                parts = pairs.encode(chunk, flip)
                latents[start : start + CHUNK, place] = torch.stack(parts[: shape[1]], dim=1).to(latents)
        offsets = torch.tensor(found[index][1], dtype=torch.int64)
        shards.write(names[index], {"rows": offsets, "latents": latents}, rows=len(rows))

    shards.fill(names, make, rank=ranks.rank, ranks=ranks.total, say=say)
    cache = LatentCache(shards, names, [span.start for span in spans], pairs.flips)
    if others := pairs.total - cache.pairs:
        say(f"{others} pairs get another crop each time: these are encoded at every step")
    return cache


def _shape(backbone: Backbone, pairs: CachedPairs) -> tuple[int, int, int, int, int]:
    """Return the shape of what is kept of a pair: (mirrorings, 2 or 3 parts, c, h, w); 2 without a posterior."""
    blank = torch.zeros(1, 3, pairs.size, pairs.size, device=backbone.device)
    with torch.no_grad():
        mean, std = backbone.target_posterior(blank)
    _, channels, height, width = mean.shape
    return len(pairs.flips), 3 if bool(std.any()) else 2, channels, height, width


def _inputs(pairs: CachedPairs, span: range) -> tuple[str, list[int]]:
    """Return the name of a shard and the offsets of the rows that it keeps: the name hashes these and their files."""
    digest, offsets = hashlib.sha256(), []
    for offset, row in enumerate(span):
        files = pairs.files(row)
        if files is None:
            continue
        offsets.append(offset)
        digest.update(offset.to_bytes(8, "little"))
        for file in files:
            digest.update(len(file).to_bytes(8, "little") + file)
    return digest.hexdigest()[:32], offsets


def _require_space(shards: TensorShards, names: Sequence[str], size: int) -> None:
    """Make the folder, and check that what is missing fits on the disk.

    Raises:
        DataError: it cannot be made, or it does not fit.
    """
    try:
        shards.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"the folder of kept latents {shards.folder} cannot be made ({reason(error)})",
            "Give another folder as cache_folder=, or cache_latents=false",
        ) from error
    missing = size * sum(shards.manifest(name) is None for name in set(names)) / max(1, len(names))
    free = shutil.disk_usage(shards.folder).free
    if missing > free:
        raise DataError(
            f"the latents need {missing / 1e9:,.1f} GB more, and {free / 1e9:,.1f} GB are free at {shards.folder}",
            "Give a folder with more space as cache_folder=, cache_dtype=fp16, or cache_latents=false",
        )
