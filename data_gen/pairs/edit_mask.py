"""Masks of what differs between the two pictures of a pair."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

VISIBLE = 8
"""Gray levels, averaged around a pixel, from which it counts as changed."""
RADII = 128
"""Number of radii of the average that fit into the short side of a picture."""
SPECK = 3
"""Side in pixels of the square below which a changed spot is noise."""


def changed_pixels(before: Image.Image, after: Image.Image) -> npt.NDArray[np.bool_]:
    """Find the pixels around which two RGB pictures of one size differ visibly in some colour, shape (h, w)."""
    differences = np.abs(np.asarray(after, np.int16) - np.asarray(before, np.int16)).max(-1).astype(np.uint8)
    smooth = Image.fromarray(differences).filter(ImageFilter.BoxBlur(max(1, min(before.size) // RADII)))
    return np.asarray(smooth) >= VISIBLE


def edit_mask(before: Image.Image, after: Image.Image) -> Image.Image:
    """Draw the mask of an edit: 255 where the pictures differ, 0 elsewhere, without specks of noise.

    Args:
        before: picture before the edit, RGB.
        after: picture after it, of the same size.
    """
    mask = Image.fromarray(changed_pixels(before, after).astype(np.uint8) * 255)
    return mask.filter(ImageFilter.MinFilter(SPECK)).filter(ImageFilter.MaxFilter(SPECK))


def mask_of_stored(before: bytes, after: bytes) -> dict[str, Any]:
    """Make the stored mask of two stored PNG pictures of one size."""
    pictures = [Image.open(io.BytesIO(data), formats=["PNG"]).convert("RGB") for data in (before, after)]
    stream = io.BytesIO()
    edit_mask(*pictures).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}
