"""Load pairs and encode them as latents. The sample at position k depends on (seed, k) alone, so a run can resume.

Positions run through the data set in a new shuffled order each epoch, without end. Rank and batch size only decide
which process takes which positions. Both pictures of a pair get the same crop and flip, drawn anew for each sample.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from PIL import Image

from ip2p.errors import DataError, ImageError, one_line
from ip2p.models.backbone import Backbone
from ip2p.pairs.read import keep_encoded
from ip2p.pairs.stored import read_stored
from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import decode_image, open_guarded
from ip2p.pictures.tensors import to_tensor
from ip2p.seeding import generator
from ip2p.train.objective import Latents
from ip2p.train.order import Order, ShuffledOrder

PICTURE_COLUMNS = ("original_image", "edited_image")
CHECK_HINT = "Find all such rows by `ip2p dataset check`, and mend or remove them"


class Augmentation(NamedTuple):
    """How a pair is cropped and mirrored.

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


class Batches:
    """Gives the instructions and latents at any positions of a run.

    Args:
        pairs: one split of a data set.
        backbone: model whose autoencoder encodes the pictures, and whose device takes the latents.
        size: side of the square crop, in pixels.
        seed: seed of the run.
        flip: whether to mirror half of the samples; wrong for instructions that mention left or right.
        order: row at each position; None for a new shuffled order each epoch.
        shapes: width and height of the crop of each row; None for the square one.
        without: rows without an original picture, whose image latents are zero.
        resize: smallest and largest short side, in pixels, to which a pair is resized before a square crop, uniformly;
            None for the side of the crop.
    """

    def __init__(
        self,
        pairs: Dataset,
        backbone: Backbone,
        *,
        size: int,
        seed: int,
        flip: bool,
        order: Order | None = None,
        shapes: Sequence[tuple[int, int]] | None = None,
        without: Collection[int] = (),
        resize: tuple[int, int] | None = None,
    ) -> None:
        self.pairs = keep_encoded(pairs)
        self.backbone = backbone
        self.size = size
        self.seed = seed
        self.flip = flip
        self.order = order or ShuffledOrder(len(pairs), seed)
        self.shapes = shapes
        self.without = frozenset(without)
        self.resize = resize
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
            condition = self.backbone.encode_condition(originals)
        condition[[place for place, row in enumerate(rows) if row in self.without]] = 0
        return Latents(condition, mean, std)

    def pictures(self, row: int, augmentation: Augmentation = CENTER_CROP) -> tuple[Image.Image, Image.Image]:
        """Return the original and the edited picture of a row in its shape, with the same crop and flip.

        Where there is no original, the edited picture stands in its place.
        """
        try:
            pair = self.pairs[row]
            names = PICTURE_COLUMNS[1:] if row in self.without else PICTURE_COLUMNS
            original, edited = [_decode(pair[name], f"{name} of row {row}") for name in names] * (3 - len(names))
        except ImageError as error:
            raise DataError(f"cannot train on it: {error.what}", CHECK_HINT) from error
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"cannot read the pictures of row {row} ({one_line(error)})", CHECK_HINT) from error
        if edited.size != original.size:
            raise DataError(f"row {row}: the original is {original.size}, the edited picture {edited.size}", CHECK_HINT)
        shape = self.shape(row)
        return augment(original, shape, augmentation), augment(edited, shape, augmentation)

    def shape(self, row: int) -> tuple[int, int]:
        """Return the width and height of the crop of a row."""
        return self.shapes[row] if self.shapes else (self.size, self.size)

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
        if self.shapes or not all(map(_is_square, self.pairs["edited_image"])):
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
        short = int(torch.randint(self.resize[0], self.resize[1] + 1, (1,), generator=chance)) if self.resize else 0
        return Augmentation(self.flip and mirrored < 0.5, x, y, short)


def _decode(stored: dict[str, Any] | None, name: str) -> Image.Image:
    """Decode a stored picture as `ip2p edit` opens a file, on white; of an animation, the first frame."""
    return to_rgb(decode_image(read_stored(stored, name), name, frame=0))


def _is_square(stored: dict[str, Any] | None) -> bool:
    """Return whether a stored picture is square, from its header alone."""
    name = "a picture of the data set"
    with open_guarded(read_stored(stored, name), name) as header:
        return header.width == header.height


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
