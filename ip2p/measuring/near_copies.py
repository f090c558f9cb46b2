"""Near copies among many pictures: the same picture at another quality, a slightly other size or brightness.

Pictures are compared by thumbnails without their mean colour. Only those are compared whose sixteen parts are about as
bright: the brightness of the parts is a point on a coarse grid, each picture stands in one cell of that, and is looked
for in the neighbouring cells, too, where its point is near their border. So the time grows with the number of pictures
and not with its square.
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


class NearCopies:
    """Finds near copies of earlier pictures.

    It takes about 2 KB of memory for each picture that is no copy.
    """

    def __init__(self) -> None:
        self._cells: defaultdict[bytes, list[tuple[Thumbnail, str]]] = defaultdict(list)

    def find(self, image: Image.Image, name: str) -> str | None:
        """Return the name of the earliest picture of which this one is a near copy, or else remember it.

        Copies of one picture all have the name of the first, and are not remembered themselves: a set of nothing but
        copies takes no longer.

        Args:
            image: RGB picture of any size.
            name: name by which later copies of it are told.
        """
        thumbnail = shrink(image)
        point = _place(thumbnail)
        own = np.floor(point)
        for cell in _cells_around(point, own):
            for other, where in self._cells.get(cell, ()):
                if thumbnail.is_near(other):
                    return where
        self._cells[_key(own)].append((thumbnail, name))
        return None


def _place(thumbnail: Thumbnail) -> npt.NDArray[np.float64]:
    """Place a picture on the grid, in cells: how much brighter each of its parts is than all of it."""
    gray = thumbnail.pixels.astype(np.float64).mean(-1)
    step = SIDE // PARTS
    parts = gray.reshape(PARTS, step, PARTS, step).mean((1, 3))
    return np.asarray(parts.ravel() / CELL + 0.5)  # a plain picture lies in the middle of a cell


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
