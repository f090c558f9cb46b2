"""Load pairs and encode them as latents. The sample at position k depends on (seed, k) alone, so a run can resume.

Positions run through the data set in a new shuffled order each epoch, without end. Rank and batch size only decide
which process takes which positions. Both pictures of a pair get the same crop and flip, drawn anew for each sample.
"""

import os
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor

from ip2p.errors import DataError, ImageError, one_line
from ip2p.models.backbone import Backbone
from ip2p.models.vocabulary import split_words
from ip2p.pairs.read import keep_encoded
from ip2p.pairs.stored import read_stored
from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import decode_image, open_guarded
from ip2p.pictures.tensors import to_tensor
from ip2p.seeding import generator
from ip2p.train.ahead import Ahead
from ip2p.train.encoding import encode_pairs
from ip2p.train.latent_cache import CachedPairs, CacheDtype, LatentCache, fill_latents
from ip2p.train.objective import Latents
from ip2p.train.order import Order, ShuffledOrder
from ip2p.train.ranks import Ranks
from ip2p.train.stream import PairStream

PICTURE_COLUMNS = ("original_image", "edited_image")
AHEAD = 2
"""Batches that are loaded before they are asked for."""
DECODERS = min(8, os.cpu_count() or 1)
CHECK_HINT = "Find all such rows by `ip2p dataset check`, and mend or remove them"


class Augmentation(NamedTuple):
    """Cropping and mirroring of a pair.

    Attributes:
        flip: whether both pictures are mirrored left to right.
        x, y: offset of the crop, as a share of the largest possible offset, 0 to 1.
        short: short side in pixels to which a picture is resized before a square crop; 0 for that of the crop.
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
    """Inputs from which the latents of a batch follow.

    Attributes:
        total: number of samples.
        kept: latents of a cache, by their places in the batch.
        pictures: original and edited pictures of the other places, in order; empty if there is none.
        without: rows of `pictures` that have no original.
    """

    total: int
    kept: dict[int, tuple[Tensor, Tensor, Tensor]]
    pictures: list[Tensor]
    without: list[int]


class Batches:
    """Gives the instructions and latents at any positions of a run.

    Args:
        pairs: one split of a data set, or a stream of pairs.
        backbone: model whose autoencoder encodes the pictures, and whose device takes the latents.
        size: side of the square crop, in pixels.
        seed: seed of the run.
        flip: whether to mirror half of the samples; wrong for instructions that mention left or right.
        order: row at each position; None for a new shuffled order each epoch.
        shapes: width and height of the crop of each row; None for the square one.
        without: rows without an original picture, whose image latents are zero.
        resize: smallest and largest short side, in pixels, to which a pair is resized before a square crop, uniformly;
            None for the side of the crop.
        workers: threads that decode pictures; 0 for as many as there are cores, 8 at most.
        starts: first row of each data set among the pairs, in order.

    Attributes:
        stride: distance of the first positions of two batches that this process takes in sequence; 0 if unknown.
    """

    def __init__(
        self,
        pairs: Dataset | PairStream,
        backbone: Backbone,
        *,
        size: int,
        seed: int,
        flip: bool,
        order: Order | None = None,
        shapes: Sequence[tuple[int, int]] | None = None,
        without: Container[int] = frozenset(),
        resize: tuple[int, int] | None = None,
        workers: int = 0,
        starts: Sequence[int] = (0,),
    ) -> None:
        self.stream = pairs if isinstance(pairs, PairStream) else None
        self.pairs = pairs.table() if isinstance(pairs, PairStream) else keep_encoded(pairs)
        self.backbone = backbone
        self.size = size
        self.seed = seed
        self.flip = flip
        self.order = order or ShuffledOrder(len(self.pairs), seed)
        self.shapes = shapes
        self.without = without
        self.resize = resize
        self.starts = starts
        self.instructions: list[str] = list(self.pairs["edit_prompt"])
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
        return [self._instruction(view.row) for view in views], self._latents(self._ahead.take(views, following))

    @property
    def table(self) -> Dataset:
        """The pairs, or of a stream the instructions that were read."""
        return self.stream.table() if self.stream else self.pairs

    @property
    def streamed_words(self) -> list[str]:
        """Words of the instructions that this process has read, if pairs are streamed."""
        return sorted({word for text in self.table["edit_prompt"] for word in split_words(text)}) if self.stream else []

    def places(self, position: int, ranks: Ranks) -> list[list[int]]:
        """Return where each process goes on reading at a position of the run, if pairs are streamed; all have to ask.

        Args:
            position: samples that all processes have taken.
            ranks: processes of the run.
        """
        return ranks.interleave([self.stream.state(position // ranks.total)]) if self.stream else []

    def _instruction(self, row: int) -> str:
        return self.stream.instruction(row) if self.stream else self.instructions[row]

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
        without = [place for place, view in enumerate(others) if view.row in self.without]
        return Loaded(len(views), kept, [to_tensor(column) for column in zip(*pictures, strict=True)], without)

    def _latents(self, loaded: Loaded) -> Latents:
        """Encode what was loaded as pictures, and put it between the kept latents."""
        fresh = encode_pairs(self.backbone, *loaded.pictures) if loaded.pictures else None
        if fresh:
            fresh.condition[loaded.without] = 0
        if fresh and not loaded.kept:
            return fresh
        others = iter(zip(*fresh, strict=True) if fresh else ())
        device = self.backbone.device
        rows = [
            [part.to(device, non_blocking=True) for part in loaded.kept[place]] if place in loaded.kept
            else next(others)
            for place in range(loaded.total)
        ]  # fmt: skip
        return Latents(*(torch.stack(parts) for parts in zip(*rows, strict=True)))

    def pictures(self, row: int, augmentation: Augmentation = CENTER_CROP) -> tuple[Image.Image, Image.Image]:
        """Return the original and the edited picture of a row in its shape, with the same crop and flip.

        Where there is no original, the edited picture stands in its place.
        """
        with told_by_row(row):
            pair = self.stream[row] if self.stream else self.pairs[row]
            names = PICTURE_COLUMNS[1:] if row in self.without else PICTURE_COLUMNS
            original, edited = [_decode(pair[name], f"{name} of row {row}") for name in names] * (3 - len(names))
        if edited.size != original.size:
            raise DataError(f"row {row}: the original is {original.size}, the edited picture {edited.size}", CHECK_HINT)
        shape = self.shape(row)
        return augment(original, shape, augmentation), augment(edited, shape, augmentation)

    def shape(self, row: int) -> tuple[int, int]:
        """Return the width and height of the crop of a row."""
        return self.shapes[row] if self.shapes else (self.size, self.size)

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
        if self.stream:
            say("pairs are streamed: their latents are not cached")
            return
        if self.resize:
            say("pictures are resized at random (resize) and get random crops: their latents are not cached")
            return

        def encode(rows: Sequence[int], flip: bool) -> Latents:
            return self.encode(rows, [Augmentation(flip, 0.5, 0.5)] * len(rows))

        flips = (False, True) if self.flip else (False,)
        pairs = CachedPairs(len(self.pairs), self._files, encode, flips, self.size, self.starts)
        self._cache = fill_latents(pairs, self.backbone, folder, dtype=dtype, ranks=ranks, say=say)

    @property
    def cached_bytes(self) -> int:
        """Bytes of the latents that are kept on disk."""
        return self._cache.size if self._cache else 0

    @property
    def cached_files(self) -> set[Path]:
        """Files of the latents that are kept on disk."""
        return self._cache.shards.files(self._cache.names) if self._cache else set()

    @property
    def waited(self) -> float:
        """Seconds that were spent waiting for pictures and kept latents."""
        return self._ahead.waited

    def close(self) -> None:
        """Stop decoding ahead."""
        self._ahead.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        if self.stream:
            self.stream.close()

    def _files(self, row: int) -> list[bytes] | None:
        """Return the files of both pictures of a row; an empty one in place of an original that there is not.

        None if it does not always get the same crop, a square one of a square picture, as its header says.
        """
        if self.shape(row) != (self.size, self.size):
            return None
        pair = self.pairs[row]
        with told_by_row(row):
            original, edited = (
                b"" if row in self.without and name == PICTURE_COLUMNS[0]
                else read_stored(pair[name], f"{name} of row {row}")
                for name in PICTURE_COLUMNS
            )  # fmt: skip
            with open_guarded(edited, f"edited_image of row {row}") as header:
                return [original, edited] if header.width == header.height else None

    def augmentation(self, position: int) -> Augmentation:
        """Return how the pair at a position is resized, cropped and mirrored."""
        chance = generator(self.seed, "augment", str(position))
        mirrored, x, y = torch.rand(3, generator=chance).tolist()
        short = int(torch.randint(self.resize[0], self.resize[1] + 1, (1,), generator=chance)) if self.resize else 0
        return Augmentation(self.flip and mirrored < 0.5, x, y, short)


def _decode(stored: dict[str, Any] | None, name: str) -> Image.Image:
    """Decode a stored picture as `ip2p edit` opens a file, on white; of an animation, the first frame."""
    return to_rgb(decode_image(read_stored(stored, name), name, frame=0))


@contextmanager
def told_by_row(row: int) -> Iterator[None]:
    """Tell errors of reading a row as errors of the data set.

    Raises:
        DataError: something could not be read.
    """
    try:
        yield
    except ImageError as error:
        raise DataError(f"cannot train on it: {error.what}", CHECK_HINT) from error
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"cannot read the pictures of row {row} ({one_line(error)})", CHECK_HINT) from error


def positions(samples: int, *, batch: int, accumulation: int, rank: int, ranks: int) -> Iterator[range]:
    """Yield the positions of each micro-batch that a rank takes in one optimizer step.

    Args:
        samples: samples that all ranks have taken in earlier steps.
        batch: samples in a micro-batch of one rank.
        accumulation: micro-batches in an optimizer step.
        rank: index of this process, from 0.
        ranks: number of processes.
    """
    for micro in range(accumulation):
        start = samples + (micro * ranks + rank) * batch
        yield range(start, start + batch)


def augment(image: Image.Image, shape: int | tuple[int, int], augmentation: Augmentation) -> Image.Image:
    """Resize a picture until it covers a shape, crop it, and mirror it if the augmentation says so.

    Args:
        image: picture.
        shape: width and height of the crop, or the side of a square.
        augmentation: short side before the crop, place of the crop, and whether to mirror it.
    """
    crop = (shape, shape) if isinstance(shape, int) else shape
    scale = max(side / given for side, given in zip(crop, image.size, strict=True))
    scale *= max(1.0, augmentation.short / min(crop))
    width, height = (max(side, round(given * scale)) for side, given in zip(crop, image.size, strict=True))
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = round((width - crop[0]) * augmentation.x), round((height - crop[1]) * augmentation.y)
    if (width, height) != crop:
        image = image.crop((left, top, left + crop[0], top + crop[1]))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if augmentation.flip else image
