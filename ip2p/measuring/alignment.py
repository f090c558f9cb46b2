"""Shift between two pictures of one scene, by phase correlation.

The phases of the two spectra differ by a plane whose slope is the shift (Kuglin and Hines, The phase correlation image
alignment method, 1975); the peak is refined on a grid of a hundredth of a pixel (Guizar-Sicairos et al., 2008). What is
correlated are the directions of the edges, doubled, so that neither contrast nor its reversal matters.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_SIDE = 512
"""Side of the square in the middle that is compared, in pixels."""
SMALL, ENLARGE = 192, Image.Resampling.BICUBIC
"""Side in pixels below which pictures are doubled first: the squares of edges would alias, and pull the peak towards
whole pixels."""
EDGE = 6.0
"""Differences of neighbouring gray levels below this count little as edges."""
BANDWIDTH = 0.2
"""Standard deviation of the weights of the frequencies, in cycles per pixel."""
GRIDS = ((0.1, 15), (0.01, 12))
"""Steps of the two finer grids around the peak, and number of steps on each side."""


class Shift(NamedTuple):
    """The shift of a picture against another.

    Attributes:
        x: pixels to the right.
        y: pixels down.
        agreement: height of the peak, 0 to 1: 1 for a copy, below 0.1 for pictures that have little in common.
    """

    x: float
    y: float
    agreement: float

    @property
    def length(self) -> float:
        """Length of the shift in pixels."""
        return float(np.hypot(self.x, self.y))


def find_shift(before: Image.Image, after: Image.Image) -> Shift:
    """Find how far a picture lies beside another one of the same size.

    Args:
        before: first picture.
        after: the same scene, of which parts may differ.
    """
    if min(before.size) < SMALL:
        large = (each.convert("L").resize((2 * each.width, 2 * each.height), ENLARGE) for each in (before, after))
        found = _find_shift(*large)
        return Shift(found.x / 2, found.y / 2, found.agreement)
    return _find_shift(before, after)


def _find_shift(before: Image.Image, after: Image.Image) -> Shift:
    """Find the shift at the size that the pictures have."""
    first, second = (np.fft.fft2(_edges(_crop(each))) for each in (before, after))
    spectrum = second * np.conj(first)
    spectrum /= np.abs(spectrum) + 1e-9
    height, width = spectrum.shape
    rows, columns = np.fft.fftfreq(height), np.fft.fftfreq(width)
    weights = np.exp(-(rows[:, None] ** 2 + columns**2) / (2 * BANDWIDTH**2))
    spectrum *= weights / weights.sum()
    row, column = divmod(int(np.fft.ifft2(spectrum).real.argmax()), width)
    y, x = float((row + height // 2) % height - height // 2), float((column + width // 2) % width - width // 2)
    agreement = 0.0
    for step, count in GRIDS:
        offsets = step * np.arange(-count, count + 1)
        down = np.exp(2j * np.pi * np.outer(y + offsets, rows))
        across = np.exp(2j * np.pi * np.outer(columns, x + offsets))
        heights = (down @ spectrum @ across).real
        row, column = divmod(int(heights.argmax()), len(offsets))
        y, x, agreement = float(y + offsets[row]), float(x + offsets[column]), float(heights[row, column])
    return Shift(x, y, agreement)


def _crop(image: Image.Image) -> Image.Image:
    """Crop the middle of a picture, in gray."""
    width, height = (min(side, MAX_SIDE) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.convert("L").crop((left, top, left + width, top + height))


def _edges(image: Image.Image) -> npt.NDArray[np.complex128]:
    """Compute the doubled directions of the edges as complex numbers, fading out towards the sides."""
    gray = np.asarray(image, np.float64)
    edges = np.zeros(gray.shape, np.complex128)
    edges[:, 1:-1] += gray[:, 2:] - gray[:, :-2]
    edges[1:-1] += 1j * (gray[2:] - gray[:-2])
    return edges**2 / (np.abs(edges) ** 2 + EDGE**2) * np.outer(*map(np.hanning, gray.shape))
