"""Near copies among many pictures: the same picture at another quality, a slightly other size or brightness.

Pictures are compared by thumbnails without their mean colour. Only those are compared whose sixteen parts are about as
bright: the brightness of the parts is a point on a coarse grid, each picture stands in one cell of that, and is looked
for in the neighbouring cells, too, where its point is near their border. Where many pictures are alike, as in fog, all
of a cell are compared at once, by the brightness of their parts and their mean colours. So the time grows little faster
than the number of pictures: docs/decisions.md.
"""

from collections import defaultdict
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 16
"""Side of the thumbnails in pixels."""
MAX_DIFFERENCE = 8.0
"""Gray levels, of 256, by which any pixel of the thumbnails of near copies may differ: docs/decisions.md."""
MAX_OFFSET = 8.0
"""Gray levels by which the mean colours of near copies may differ."""
PARTS = 4
"""Parts along each side whose brightness places a picture on the grid."""
CELL, TOLERANCE = 24.0, 2.0
"""Width of a cell of the grid, and how near to its border both neighbours are searched, in gray levels."""
ROUNDING = 0.1
"""Gray levels that means of rounded thumbnails may differ more than these."""
MAX_NEAR = 10
"""Borders across which a picture is looked for at most, the nearest ones."""


class Thumbnail(NamedTuple):
    """A small picture.

    Attributes:
        pixels: differences from the mean colour in gray levels, shape (16, 16, 3).
        mean: mean colour in gray levels, shape (3,).
    """

    pixels: npt.NDArray[np.float16]
    mean: npt.NDArray[np.float32]

    def is_near(self, other: "Thumbnail") -> bool:
        """Whether two thumbnails are of near copies."""
        if np.abs(self.mean - other.mean).max() > MAX_OFFSET:
            return False
        return bool(np.abs(self.pixels - other.pixels).max() <= MAX_DIFFERENCE)


def shrink(image: Image.Image) -> Thumbnail:
    """Make the thumbnail of an RGB picture of any size."""
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    mean = small.mean((0, 1))
    return Thumbnail((small - mean).astype(np.float16), mean)


class Cell:
    """Pictures of one cell of the grid."""

    def __init__(self) -> None:
        self._thumbnails: list[tuple[Thumbnail, str]] = []
        self._coarse: npt.NDArray[np.float32] = np.empty((0, 3 + PARTS**2), np.float32)

    def add(self, thumbnail: Thumbnail, parts: npt.NDArray[np.float64], name: str) -> None:
        """Remember a picture."""
        count = len(self._thumbnails)
        if count == len(self._coarse):  # room for twice as many, so that copying takes constant time for each
            room = np.empty((max(1, count), self._coarse.shape[1]), np.float32)
            self._coarse = np.concatenate([self._coarse, room])
        self._coarse[count] = _coarse(thumbnail, parts)
        self._thumbnails.append((thumbnail, name))

    def find(self, thumbnail: Thumbnail, parts: npt.NDArray[np.float64]) -> str | None:
        """Return the name of the earliest picture that this one is a near copy of."""
        apart = np.abs(self._coarse[: len(self._thumbnails)] - _coarse(thumbnail, parts)).max(1)
        likely = np.flatnonzero(apart <= max(MAX_OFFSET, MAX_DIFFERENCE) + ROUNDING)
        near = (self._thumbnails[place] for place in likely.tolist())
        return next((name for other, name in near if thumbnail.is_near(other)), None)


class NearCopies:
    """Finds near copies of earlier pictures.

    It takes about 2 KB of memory for each picture that is no copy.
    """

    def __init__(self) -> None:
        self._cells: defaultdict[bytes, Cell] = defaultdict(Cell)

    def find(self, image: Image.Image, name: str) -> str | None:
        """Return the name of the earliest picture of which this one is a near copy, or else remember it.

        Copies of one picture all have the name of the first, and are not remembered themselves: a set of nothing but
        copies takes no longer.

        Args:
            image: RGB picture of any size.
            name: name by which later copies of it are told.
        """
        return self.find_thumbnail(shrink(image), name)

    def find_thumbnail(self, thumbnail: Thumbnail, name: str) -> str | None:
        """Do the same with the thumbnail of a picture."""
        parts = _brightness(thumbnail)
        point = parts / CELL + 0.5  # a plain picture lies in the middle of a cell
        own = np.floor(point)
        for key in _cells_around(point, own):
            if (cell := self._cells.get(key)) and (found := cell.find(thumbnail, parts)) is not None:
                return found
        self._cells[_key(own)].add(thumbnail, parts, name)
        return None


def _brightness(thumbnail: Thumbnail) -> npt.NDArray[np.float64]:
    """Return how much brighter each part of a picture is than all of it, in gray levels."""
    gray = thumbnail.pixels.astype(np.float64).mean(-1)
    step = SIDE // PARTS
    return np.asarray(gray.reshape(PARTS, step, PARTS, step).mean((1, 3)).ravel())


def _coarse(thumbnail: Thumbnail, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return what is compared first: means of pixels, which differ by no more than these do."""
    return np.concatenate([thumbnail.mean, parts]).astype(np.float32)


def _cells_around(point: npt.NDArray[np.float64], own: npt.NDArray[np.float64]) -> list[bytes]:
    """Return the keys of a point's cell and of all neighbours that are nearer than the tolerance."""
    inside = point - own
    reach = TOLERANCE / CELL
    near = {int(axis): -1.0 for axis in np.flatnonzero(inside < reach)}
    near |= {int(axis): 1.0 for axis in np.flatnonzero(inside > 1 - reach)}
    axes = sorted(near, key=lambda axis: min(inside[axis], 1 - inside[axis]))[:MAX_NEAR]
    keys = []
    for moves in product((0.0, 1.0), repeat=len(axes)):
        cell = own.copy()
        for axis, move in zip(axes, moves, strict=True):
            cell[axis] += move * near[axis]
        keys.append(_key(cell))
    return keys


def _key(cell: npt.NDArray[np.float64]) -> bytes:
    return cell.astype(np.int8).tobytes()
