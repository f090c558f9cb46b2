"""Load pairs and encode them as latents. The sample at position k depends on (seed, k) alone, so a run can resume.

Positions run through the data set in a new shuffled order each epoch, without end. Rank and batch size only decide
which process takes which positions. Both pictures of a pair get the same crop and flip, drawn anew for each sample.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset
from datasets import Image as Picture
from datasets.exceptions import DatasetGenerationError
from PIL import Image

from ip2p.data_folders import dataset_arguments
from ip2p.errors import DataError, ImageError, one_line
from ip2p.manifest import verify_dataset
from ip2p.models.backbone import Backbone
from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import decode_image, open_guarded, read_bytes
from ip2p.pictures.tensors import to_tensor
from ip2p.seeding import generator
from ip2p.train.objective import Latents

PICTURE_COLUMNS = ("original_image", "edited_image")
COLUMNS = ("original_image", "edit_prompt", "edited_image")
OPTIONAL_COLUMNS = ("edit_mask",)
HELD_OUT_SPLITS = ("test", "validation")
MAX_HELD_OUT = 64
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


class ShuffledOrder:
    """The endless shuffled order of a data set, which maps a position of the run to a row.

    Args:
        count: number of rows.
        seed: seed of the run.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self._epoch = -1
        self._rows: list[int] = []

    def row(self, position: int) -> int:
        """Return the row at a position >= 0; every row comes once in each epoch."""
        epoch, place = divmod(position, self.count)
        if epoch != self._epoch:
            shuffle = generator(self.seed, "order", str(epoch))
            self._rows = torch.randperm(self.count, generator=shuffle).tolist()
            self._epoch = epoch
        return self._rows[place]


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
    ) -> None:
        self.pairs = _keep_encoded(pairs)
        self.backbone = backbone
        self.size = size
        self.seed = seed
        self.flip = flip
        self.resize = resize
        self.order = ShuffledOrder(len(pairs), seed)
        self.instructions: list[str] = list(pairs["edit_prompt"])
        self._cache: dict[bool, Latents] = {}

    def at(self, positions: Sequence[int]) -> tuple[list[str], Latents]:
        """Return the instructions and the latents, on the backbone's device, of the samples at these positions."""
        rows = [self.order.row(position) for position in positions]
        augmentations = [self.augmentation(position) for position in positions]
        texts = [self.instructions[row] for row in rows]
        if self._cache:
            chosen = [[part[row] for part in self._cache[a.flip]] for row, a in zip(rows, augmentations, strict=True)]
            return texts, Latents(*(torch.stack(part).to(self.backbone.device) for part in zip(*chosen, strict=True)))
        return texts, self.encode(rows, augmentations)

    def encode(self, rows: Sequence[int], augmentations: Sequence[Augmentation]) -> Latents:
        """Encode the pictures of these rows as latents."""
        with ThreadPoolExecutor() as pool:  # decoding releases the GIL
            pictures = list(pool.map(self.pictures, rows, augmentations))
        originals, edited = (to_tensor(column).to(self.backbone.device) for column in zip(*pictures, strict=True))
        with torch.no_grad():
            mean, std = self.backbone.target_posterior(edited)
            return Latents(self.backbone.encode_condition(originals), mean, std)

    def pictures(self, row: int, augmentation: Augmentation = CENTER_CROP) -> tuple[Image.Image, Image.Image]:
        """Return the original and the edited picture of a row, size x size, with the same crop and flip."""
        try:
            pair = self.pairs[row]
            original, edited = (_decode(pair[name], f"{name} of row {row}") for name in PICTURE_COLUMNS)
        except ImageError as error:
            raise DataError(f"cannot train on it: {error.what}", BUILD_HINT) from error
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"cannot read the pictures of row {row} ({one_line(error)})", BUILD_HINT) from error
        if edited.size != original.size:
            raise DataError(f"row {row}: the original is {original.size}, the edited picture {edited.size}", BUILD_HINT)
        return augment(original, self.size, augmentation), augment(edited, self.size, augmentation)

    def cache(self, say: Callable[[str], None], *, chunk: int = 16) -> bool:
        """Encode every picture once and keep the latents in memory.

        Mirrored latents are encoded from the mirrored picture, because an autoencoder does not commute with mirroring.
        Chunks are the same in every run, so a resumed run has the same latents bit for bit.

        Args:
            say: function that prints a line of progress.
            chunk: number of pairs encoded at a time.

        Returns:
            False, with nothing cached, if crops are random: pictures are resized at random, or some is not square.
        """
        if self.resize:
            say("pictures are resized at random (resize) and get random crops: their latents are not cached")
            return False
        if not all(map(_is_square, self.pairs["original_image"])):
            say("pictures are not square and get random crops: their latents are not cached")
            return False
        for flip in (False, True) if self.flip else (False,):
            parts = []
            for start in range(0, len(self.pairs), chunk):
                rows = range(start, min(start + chunk, len(self.pairs)))
                latents = self.encode(rows, [Augmentation(flip, 0.5, 0.5)] * len(rows))
                parts.append(Latents(*(part.cpu() for part in latents)))
                if rows.stop == len(self.pairs) or rows.stop % (32 * chunk) == 0:
                    say(f"encoding pairs{' mirrored' if flip else ''}: {rows.stop} of {len(self.pairs)}")
            self._cache[flip] = Latents(*(torch.cat(column) for column in zip(*parts, strict=True)))
        return True

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


def _is_square(stored: dict[str, Any] | None) -> bool:
    """Return whether a stored picture is square, from its header alone."""
    name = "a picture of the data set"
    with open_guarded(_file_of(stored, name), name) as header:
        return header.width == header.height


def _file_of(stored: dict[str, Any] | None, name: str) -> bytes:
    """Return the bytes of a stored picture, from its row or from the file that the row names.

    Raises:
        ImageError: there is neither, or the file cannot be read.
    """
    if stored is None or (stored["bytes"] is None and stored["path"] is None):
        raise ImageError(f"{name} is missing", BUILD_HINT)
    return read_bytes(stored["path"]) if stored["bytes"] is None else bytes(stored["bytes"])


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
