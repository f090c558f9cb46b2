"""Color profiles, judged by what they do to colors and not by their names."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}
ROUNDING = 2
"""Largest difference from sRGB, of 255, in profiles that mean sRGB: by rounded primaries or curves of few points."""


@functools.lru_cache(maxsize=8)
def srgb_transform(mode: str, profile: bytes | None) -> ImageCms.ImageCmsTransform | None:
    """Build the transform of colors to sRGB.

    Args:
        mode: mode of the colors: RGB, L, CMYK or LAB.
        profile: color profile of the picture; None if it has none.

    Returns:
        A transform to RGB, of pictures in its `input_mode`: that of the colors, or RGB for gray ones with a profile of
        RGB. None if there is nothing to do, because the profile is that of sRGB up to rounding, or nothing that can be
        done, because it is damaged or of another color space.
    """
    try:
        source = _read_profile(mode, profile)
        if source is None:
            return None
        if mode == "L" and _space(source) == "RGB":
            mode = "RGB"
        # Precomputed, LittleCMS is off by up to 10 of 255 in dark grays, and no faster.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)
        return None if _is_identity(transform) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a damaged profile; only the pixels matter
        return None


def _read_profile(mode: str, profile: bytes | None) -> ImageCms.ImageCmsProfile | None:
    """Read the profile of a picture if it fits the mode. Lab needs none, for its colors are what they are."""
    if profile:
        read = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _space(read) == SPACES[mode] or (mode, _space(read)) == ("L", "RGB"):
            return read
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")) if mode == "LAB" else None


def _space(profile: ImageCms.ImageCmsProfile) -> str:
    return profile.profile.xcolor_space.strip()


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform leaves colors as they are up to rounding: all grays, and a grid of RGB."""
    if transform.input_mode not in ("RGB", "L"):
        return False
    grays = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    before = grays if transform.input_mode == "L" else np.concatenate([grays, grid], axis=1)
    after = np.asarray(transform.apply(Image.fromarray(before).convert(transform.input_mode)))
    return int(np.abs(after.astype(int) - before).max()) <= ROUNDING
