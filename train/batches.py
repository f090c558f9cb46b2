"""Load pairs and encode them as latents. The sample at position k depends on (seed, k) alone, so a run can resume.

Positions run through the data set in a new shuffled order each epoch, without end. Rank and batch size only decide
which process takes which positions. Both pictures of a pair get the same crop and flip, drawn anew for each sample.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset
from datasets import Image as Picture
from datasets.exceptions import DatasetGenerationError
from PIL import Image
from torch import Tensor

from ip2p.data_folders import dataset_arguments
from ip2p.errors import DataError, ImageError, one_line
from ip2p.manifest import verify_dataset
from ip2p.models.backbone import Backbone
from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import decode_image, open_guarded, read_bytes
from ip2p.pictures.tensors import to_tensor
from ip2p.seeding import generator
from ip2p.train.ahead import Ahead
from ip2p.train.encoding import encode_pairs
from ip2p.train.latent_cache import CachedPairs, CacheDtype, LatentCache, fill_latents
from ip2p.train.objective import Latents
from ip2p.train.order import ShuffledOrder
from ip2p.train.ranks import Ranks

PICTURE_COLUMNS = ("original_image", "edited_image")
COLUMNS = ("original_image", "edit_prompt", "edited_image")
OPTIONAL_COLUMNS = ("edit_mask",)
HELD_OUT_SPLITS = ("test", "validation")
MAX_HELD_OUT = 64
AHEAD = 2
"""Batches that are loaded before they are asked for."""
DECODERS = min(8, os.cpu_count() or 1)
BUILD_HINT = "Build it with `make dataset`, or name a folder or hub data set that has these columns with dataset="


class PairDataset(NamedTuple):
    """A packed data set, split into training pairs and held-out pairs."""

    train: Dataset
    held_out: Dataset

    def fingerprint(self) -> str:
        """Hash the number of training pairs and their instructions, in order: 16 hexadecimal digits."""
        digest = hashlib.sha256(str(len(self.train)).encode())
        for instruction in self.train["edit_prompt"]:
            digest.update(b"\0" + instruction.encode())
        return digest.hexdigest()[:16]


class Augmentation(NamedTuple):
    """How a pair is cropped and mirrored.

    Attributes:
        flip: whether both pictures are mirrored left to right.
        x, y: offset of the crop, as a share of the largest possible offset, 0 to 1.
        short: short side in pixels to which it is resized before the crop; 0 for the side of the crop.
    """

    flip: bool
    x: float
    y: float
    short: int = 0


CENTER_CROP = Augmentation(False, 0.5, 0.5)


class View(NamedTuple):
    """A row of the data set as it is cropped and mirrored."""

    row: int
    augmentation: Augmentation


class Loaded(NamedTuple):
    """What the latents of a batch follow from.

    Attributes:
        count: number of samples.
        kept: latents of a cache, by their places in the batch.
        pictures: original and edited pictures of the other places, in order; empty if there is none.
    """

    count: int
    kept: dict[int, tuple[Tensor, Tensor, Tensor]]
    pictures: list[Tensor]


def open_pairs(*sources: str | Path) -> PairDataset:
    """Open packed data sets and concatenate them.

    The held-out pairs of each are its split `test` or `validation`, or else its last twentieth; 64 pairs at most.

    Args:
        sources: folders of parquet shards, or names of data sets on the hub.

    Raises:
        DataError: a data set is missing or unreadable, differs from its manifest, lacks a column, or has fewer than two
            pairs.
    """
    trains, held_outs = zip(*map(_open, sources), strict=True)
    train, held_out = concatenate_datasets(list(trains)), concatenate_datasets(list(held_outs))
    if not len(train):
        raise DataError(
            f"the data set {', '.join(map(str, sources))} has {len(held_out)} pairs, too few to train on", BUILD_HINT
        )
    return PairDataset(train, held_out.select(range(min(MAX_HELD_OUT, len(held_out)))))


def _open(source: str | Path) -> tuple[Dataset, Dataset]:
    """Return the training pairs and the held-out pairs of one data set."""
    folder = Path(source)
    if folder.is_dir() and not any(folder.rglob("*.parquet")):
        raise DataError(f"no parquet shard in the data set folder {source}", BUILD_HINT)
    if not folder.is_dir() and (folder.is_absolute() or str(source).count("/") != 1):
        raise DataError(f"no data set at {source}", BUILD_HINT)
    if folder.is_dir():
        verify_dataset(folder)  # `load_dataset` would not notice rows that a damaged file has lost
    try:
        splits = load_dataset(**dataset_arguments(source))
    except (OSError, ValueError, DatasetGenerationError) as error:
        raise DataError(f"cannot read the data set {source} ({one_line(error)})", BUILD_HINT) from error
    assert isinstance(splits, DatasetDict)
    if "train" not in splits:
        raise DataError(f"the data set {source} has no split train, but {', '.join(splits)}", BUILD_HINT)
    for name, split in splits.items():
        if missing := [column for column in COLUMNS if column not in split.column_names]:
            several = "columns" if missing[1:] else "column"
            raise DataError(
                f"the split {name} of the data set {source} has no {several} {', '.join(missing)}, "
                f"but {', '.join(split.column_names)}",
                f"Rename them to {', '.join(COLUMNS)}, or build a data set with `make dataset`",
            )
        _require_types(split, f"the split {name} of the data set {source}")
    train, *others = (
        splits[name].select_columns(
            [each for each in (*COLUMNS, *OPTIONAL_COLUMNS) if each in splits[name].column_names]
        )
        for name in ("train", *(name for name in HELD_OUT_SPLITS if name in splits))
    )
    held_out = next(iter(others), None)
    if held_out is None or not len(held_out):
        kept = len(train) - min(MAX_HELD_OUT, max(1, len(train) // 20))
        train, held_out = train.select(range(max(0, kept))), train.select(range(max(0, kept), len(train)))
    return train, held_out


def _require_types(pairs: Dataset, what: str) -> None:
    """Check that pictures are stored as files, and that every instruction is a text.

    Args:
        pairs: data set with all columns.
        what: name of it in an error.

    Raises:
        DataError: a column has another type, or rows have no instruction.
    """
    for name in PICTURE_COLUMNS:
        feature = pairs.features[name]
        if not isinstance(feature, Picture) and not (isinstance(feature, dict) and {"bytes", "path"} <= feature.keys()):
            raise DataError(
                f"{name} in {what} has the type {feature}, not that of pictures",
                "Store them by datasets.Image, as bytes and path of a file",
            )
    if getattr(pairs.features["edit_prompt"], "dtype", "") not in ("string", "large_string"):
        raise DataError(
            f"edit_prompt in {what} has the type {pairs.features['edit_prompt']}, not that of texts",
            "Give one instruction for each pair",
        )
    empty = [row for row, text in enumerate(pairs["edit_prompt"]) if not (text or "").strip()]
    if empty:
        raise DataError(
            f"{len(empty)} rows of {what} have no edit_prompt, such as row {empty[0]}", "Write it, or remove these rows"
        )


class Batches:
    """Gives the instructions and latents at any positions of a run.

    Args:
        pairs: one split of a data set.
        backbone: model whose autoencoder encodes the pictures, and whose device takes the latents.
        size: side of the square crop, in pixels.
        seed: seed of the run.
        flip: whether to mirror half of the samples; wrong for instructions that mention left or right.
        resize: smallest and largest short side, in pixels, to which a pair is resized before the crop, uniformly; None
            for the side of the crop.
        workers: threads that decode pictures; 0 for as many as there are cores, 8 at most.

    Attributes:
        stride: distance of the first positions of two batches that this process takes in sequence; 0 if unknown.
    """

    def __init__(
        self,
        pairs: Dataset,
        backbone: Backbone,
        *,
        size: int,
        seed: int,
        flip: bool,
        resize: tuple[int, int] | None = None,
        workers: int = 0,
    ) -> None:
        self.pairs = _keep_encoded(pairs)
        self.backbone = backbone
        self.size = size
        self.seed = seed
        self.flip = flip
        self.resize = resize
        self.order = ShuffledOrder(len(pairs), seed)
        self.instructions: list[str] = list(pairs["edit_prompt"])
        self.stride = 0
        self._cache: LatentCache | None = None
        self._decoders = ThreadPoolExecutor(workers or DECODERS, thread_name_prefix="decode")
        self._ahead = Ahead(self._load)

    def at(self, positions: Sequence[int]) -> tuple[list[str], Latents]:
        """Return the instructions and the latents, on the backbone's device, of the samples at these positions.

        While the model computes, the pictures of the next batches are decoded, if `stride` says where these begin.
        """
        views = self._views(positions)
        following = [
            self._views(range(positions.start + ahead * self.stride, positions.stop + ahead * self.stride))
            for ahead in range(1, AHEAD + 1)
            if self.stride and isinstance(positions, range)
        ]
        return [self.instructions[view.row] for view in views], self._latents(self._ahead.take(views, following))

    def encode(self, rows: Sequence[int], augmentations: Sequence[Augmentation]) -> Latents:
        """Encode the pictures of these rows as latents."""
        return self._latents(self._load(tuple(map(View, rows, augmentations)), fresh=True))

    def _views(self, positions: Sequence[int]) -> tuple[View, ...]:
        return tuple(View(self.order.row(position), self.augmentation(position)) for position in positions)

    def _load(self, views: Sequence[View], *, fresh: bool = False) -> Loaded:
        """Load what the latents of views follow from: kept latents or, where there are none or if `fresh`, pictures."""
        kept = {
            place: found
            for place, (row, augmentation) in enumerate(views)
            if not fresh and self._cache and (found := self._cache.find(row, augmentation.flip))
        }
        others = [view for place, view in enumerate(views) if place not in kept]
        pictures = list(self._decoders.map(lambda view: self.pictures(*view), others))  # decoding releases the GIL
        return Loaded(len(views), kept, [to_tensor(column) for column in zip(*pictures, strict=True)])

    def _latents(self, loaded: Loaded) -> Latents:
        """Encode what was loaded as pictures, and put it between the kept latents."""
        fresh = encode_pairs(self.backbone, *loaded.pictures) if loaded.pictures else None
        if fresh and not loaded.kept:
            return fresh
        others = iter(zip(*fresh, strict=True) if fresh else ())
        device = self.backbone.device
        rows = [
            [part.to(device, non_blocking=True) for part in loaded.kept[place]] if place in loaded.kept
            else next(others)
            for place in range(loaded.count)
        ]  # fmt: skip
        return Latents(*(torch.stack(parts) for parts in zip(*rows, strict=True)))

    def pictures(self, row: int, augmentation: Augmentation = CENTER_CROP) -> tuple[Image.Image, Image.Image]:
        """Return the original and the edited picture of a row, size x size, with the same crop and flip."""
        with told_by_row(row):
            pair = self.pairs[row]
            original, edited = (_decode(pair[name], f"{name} of row {row}") for name in PICTURE_COLUMNS)
        if edited.size != original.size:
            raise DataError(f"row {row}: the original is {original.size}, the edited picture {edited.size}", BUILD_HINT)
        return augment(original, self.size, augmentation), augment(edited, self.size, augmentation)

    def cache(self, folder: Path, *, dtype: CacheDtype, ranks: Ranks, say: Callable[[str], None]) -> None:
        """Encode all pairs that always get the same crop, once for all runs, and train on what is kept on disk.

        Args:
            folder: folder of all caches.
            dtype: data type on disk.
            ranks: processes of the run.
            say: function that prints a line of progress.

        Raises:
            DataError: a picture cannot be read, or the disk has too little space.
        """
        if self.resize:
            say("pictures are resized at random (resize) and get random crops: their latents are not cached")
            return

        def encode(rows: Sequence[int], flip: bool) -> Latents:
            return self.encode(rows, [Augmentation(flip, 0.5, 0.5)] * len(rows))

        flips = (False, True) if self.flip else (False,)
        pairs = CachedPairs(len(self.pairs), self._files, self._is_square, encode, flips, self.size)
        self._cache = fill_latents(pairs, self.backbone, folder, dtype=dtype, ranks=ranks, say=say)

    @property
    def cached_bytes(self) -> int:
        """Bytes of the latents that are kept on disk."""
        return self._cache.size if self._cache else 0

    def close(self) -> None:
        """Stop decoding ahead."""
        self._ahead.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _files(self, row: int) -> tuple[bytes, bytes]:
        """Return the files of both pictures of a row."""
        pair = self.pairs[row]
        with told_by_row(row):
            original, edited = (_file_of(pair[name], f"{name} of row {row}") for name in PICTURE_COLUMNS)
        return original, edited

    def _is_square(self, row: int) -> bool:
        """Return whether the original of a row is square, from its header alone."""
        with told_by_row(row), open_guarded(self._files(row)[0], f"{PICTURE_COLUMNS[0]} of row {row}") as header:
            return header.width == header.height

    def augmentation(self, position: int) -> Augmentation:
        """Return how the pair at a position is resized, cropped and mirrored."""
        chance = generator(self.seed, "augment", str(position))
        mirrored, x, y = torch.rand(3, generator=chance).tolist()
        short = 0
        if self.resize:
            low, high = self.resize
            short = int(torch.randint(low, high + 1, (1,), generator=chance))
        return Augmentation(self.flip and mirrored < 0.5, x, y, short)


def _keep_encoded(pairs: Dataset) -> Dataset:
    """Make a data set give its pictures as files, for `datasets` decodes them without regard to depth and profile."""
    for name in PICTURE_COLUMNS:
        if isinstance(pairs.features[name], Picture):
            pairs = pairs.cast_column(name, Picture(decode=False))
    return pairs


def _decode(stored: dict[str, Any] | None, name: str) -> Image.Image:
    """Decode a stored picture as `ip2p edit` opens a file, on white; of an animation, the first frame."""
    return to_rgb(decode_image(_file_of(stored, name), name, frame=0))


@contextmanager
def told_by_row(row: int) -> Iterator[None]:
    """Tell errors of reading a row as errors of the data set.

    Raises:
        DataError: something could not be read.
    """
    try:
        yield
    except ImageError as error:
        raise DataError(f"cannot train on it: {error.what}", BUILD_HINT) from error
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"cannot read the pictures of row {row} ({one_line(error)})", BUILD_HINT) from error


def _file_of(stored: dict[str, Any] | None, name: str) -> bytes:
    """Return the bytes of a stored picture, from its row or from the file that the row names.

    Raises:
        ImageError: there is neither, or the file cannot be read.
    """
    if stored is None or (stored["bytes"] is None and stored["path"] is None):
        raise ImageError(f"{name} is missing", BUILD_HINT)
    return read_bytes(stored["path"]) if stored["bytes"] is None else bytes(stored["bytes"])


def augment(image: Image.Image, size: int, augmentation: Augmentation) -> Image.Image:
    """Resize a picture to the augmentation's short side, crop a square of `size` pixels, mirror it if it says so."""
    scale = max(size, augmentation.short) / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = round((width - size) * augmentation.x), round((height - size) * augmentation.y)
    if (width, height) != (size, size):
        image = image.crop((left, top, left + size, top + size))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if augmentation.flip else image
