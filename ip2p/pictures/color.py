"""Convert pictures of any Pillow mode to 8-bit sRGB: deep pixels scaled, color profiles applied, alpha split off."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from ip2p.pictures.profiles import srgb_transform

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operations that make a picture upright, by its EXIF orientation."""
COLOR_MODES = ("RGB", "L", "CMYK", "LAB")
WHITES = {"F": (1.0, 255.0, 65535.0), "I": (65535.0, 2.0**31 - 1)}  # 16-bit modes are 65535
STRIP_PIXELS = 1_000_000


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to sRGB: RGB, or RGBA if it has transparency; without metadata.

    It is turned by its EXIF orientation. Deep and floating-point pixels are scaled, not clipped, and NaN is black.
    """
    profile = image.info.get("icc_profile")
    colors, alpha = _separate_alpha(_turn_upright(image))
    colors = _apply_profile(colors, profile)
    if alpha is not None:
        colors.putalpha(alpha)
    colors.info = {}
    return colors


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split a picture of any mode into RGB over a white background and its alpha (mode L), None if it has none."""
    picture = to_srgb(image)
    if picture.mode == "RGB":
        return picture, None
    alpha = picture.getchannel("A")
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=alpha)
    return white, alpha


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB, upright, over a white background."""
    return split_alpha(image)[0]


def with_alpha(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """Add alpha (mode L, same size) to an RGB picture; unchanged if there is none."""
    if alpha is None:
        return image
    picture = image.copy()
    picture.putalpha(alpha)
    return picture


def _turn_upright(image: Image.Image) -> Image.Image:
    """Turn a picture by its EXIF orientation; unchanged if the EXIF is unreadable.

    Only the pixels are turned. The other values stay as they were read: some that cameras write cannot be written.
    """
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # unreadable metadata must not lose the picture
        return image
    return image if turn is None else image.transpose(turn)


def _separate_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split a picture into colors (RGB, L, CMYK or LAB) and alpha."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _to_8_bit(image), _alpha_of_key(image)
    if image.mode == "La":  # Pillow converts it to LA only
        image = image.convert("LA")
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return picture.convert("RGB"), picture.getchannel("A")
    return (image if image.mode in COLOR_MODES else image.convert("RGB")), None


def _apply_profile(colors: Image.Image, profile: object) -> Image.Image:
    """Convert colors (RGB, L, CMYK or LAB) to a new RGB picture by the color profile (bytes), if it fits."""
    transform = srgb_transform(colors.mode, profile if isinstance(profile, bytes) else None)
    if transform is None:
        return colors.convert("RGB")
    return transform.apply(colors.convert(transform.input_mode))


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Convert deep gray to mode L. White is the smallest of the usual maxima of the mode that no pixel exceeds."""
    values = np.asarray(image)
    peak = max(float(np.nan_to_num(strip, nan=0, posinf=0).max(initial=0)) for strip in _strips(values))
    white = next((white for white in WHITES.get(image.mode, (65535.0,)) if peak <= white), peak)
    gray = np.empty(values.shape, np.uint8)
    for strip, out in zip(_strips(values), _strips(gray), strict=True):
        out[:] = (np.nan_to_num(strip).astype(np.float64) / white * 255).round().clip(0, 255)
    return Image.fromarray(gray)


def _alpha_of_key(image: Image.Image) -> Image.Image | None:
    """Alpha of a deep picture that marks one value as transparent."""
    key = image.info.get("transparency")
    return (
        Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8)) if isinstance(key, int) else None
    )


def _strips(values: np.ndarray) -> Iterator[np.ndarray]:
    """Split a picture into strips of rows, so that copies with many bytes a pixel stay small."""
    rows = max(1, STRIP_PIXELS // max(1, values.shape[1]))
    yield from (values[start : start + rows] for start in range(0, max(1, len(values)), rows))
