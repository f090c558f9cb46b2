"""Masks of what differs between the two pictures of a pair.

They follow the score `changed`, whose pixels are those around which the pictures differ visibly. That score looks at
squares of nine pixels, and its region reaches beyond the edit; so the mask takes the part of it that differs by itself.
"""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from ip2p.editing.changes import visible_pixels

LEVELS = 8
"""Gray levels, averaged over the colours and the nearest pixels, by which a pixel of the mask differs."""
SPECK = 3
"""Side in pixels of the square below which a changed spot is noise."""


def edit_mask(before: Image.Image, after: Image.Image) -> Image.Image:
    """Draw the mask of an edit: 255 where the pictures differ, 0 elsewhere, without specks of noise.

    Args:
        before: picture before the edit, RGB.
        after: picture after it, of the same size.
    """
    differences = np.asarray(ImageChops.difference(before, after), np.float32).mean(-1).round().astype(np.uint8)
    near = np.asarray(Image.fromarray(differences).filter(ImageFilter.BoxBlur(SPECK // 2)))
    mask = Image.fromarray((visible_pixels(before, after) & (near >= LEVELS)).astype(np.uint8) * 255)
    return mask.filter(ImageFilter.MinFilter(SPECK)).filter(ImageFilter.MaxFilter(SPECK))


def mask_of_stored(before: bytes, after: bytes) -> dict[str, Any]:
    """Make the stored mask of two stored PNG pictures of one size."""
    pictures = [Image.open(io.BytesIO(data), formats=["PNG"]).convert("RGB") for data in (before, after)]
    stream = io.BytesIO()
    edit_mask(*pictures).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}
