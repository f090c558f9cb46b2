"""Any mode of Pillow as 8-bit sRGB: deep pixels scaled, colour profiles honoured, alpha apart and put back."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms, ImageOps

ORIENTATION = 0x0112
SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
WHITES = {"F": (1.0, 255.0, 65535.0), "I": (65535.0, 2.0**31 - 1)}  # 16-bit modes are 65535
STRIP_PIXELS = 1_000_000


def to_srgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as a new one in sRGB: RGB, or RGBA where it has transparency; without metadata.

    It is turned as its EXIF says. Deep and floating-point pixels are scaled, not clipped, and not-a-number is black.
    """
    profile = image.info.get("icc_profile")
    colors, alpha = _separate_alpha(_turn_upright(image))
    colors = _apply_profile(colors, profile)
    if alpha is not None:
        colors.putalpha(alpha)
    colors.info = {}
    return colors


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A picture of any mode as RGB, with white behind what is transparent, and its alpha (mode L) if it has one."""
    picture = to_srgb(image)
    if picture.mode == "RGB":
        return picture, None
    alpha = picture.getchannel("A")
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=alpha)
    return white, alpha


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB, upright, with white behind what is transparent."""
    return split_alpha(image)[0]


def with_alpha(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """An RGB picture as RGBA with the alpha (mode L, of its size) of another; as it is if there is none."""
    if alpha is None:
        return image
    picture = image.copy()
    picture.putalpha(alpha)
    return picture


def _turn_upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says; as it lies where the EXIF is unreadable."""
    try:
        return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image
    except Exception:  # a picture is worth more than its metadata
        return image


def _separate_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours in RGB, L, CMYK or LAB, and alpha."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _to_8_bit(image), _alpha_of_key(image)
    if image.mode == "La":  # Pillow converts it to LA only
        image = image.convert("LA")
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return picture.convert("RGB"), picture.getchannel("A")
    return (image if image.mode in (*SPACES, "LAB") else image.convert("RGB")), None


def _apply_profile(colors: Image.Image, profile: object) -> Image.Image:
    """Colours in RGB, L, CMYK or LAB as a new RGB picture, by its colour profile (bytes) if that fits."""
    try:
        source = _read_profile(colors.mode, profile)
        if source is None:
            return colors.convert("RGB")
        if colors.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
            colors = colors.convert("RGB")
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), colors.mode, "RGB")
        return transform.apply(colors)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a damaged profile; the pixels are what counts
        return colors.convert("RGB")


def _read_profile(mode: str, profile: object) -> ImageCms.ImageCmsProfile | None:
    """What the numbers of a mode mean, if that is anything but sRGB."""
    if mode == "LAB":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    if not isinstance(profile, bytes):
        return None
    read = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = read.profile.xcolor_space.strip()
    if "srgb" in (read.profile.profile_description or "").lower():
        return None
    return read if space == SPACES[mode] or (mode, space) == ("L", "RGB") else None


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Deep grey as L. White is the least of what such numbers are usually counted to that holds them all."""
    values = np.asarray(image)
    peak = max(float(np.nan_to_num(strip, nan=0, posinf=0).max(initial=0)) for strip in _strips(values))
    white = next((white for white in WHITES.get(image.mode, (65535.0,)) if peak <= white), peak)
    grey = np.empty(values.shape, np.uint8)
    for strip, out in zip(_strips(values), _strips(grey), strict=True):
        out[:] = (np.nan_to_num(strip).astype(np.float64) / white * 255).round().clip(0, 255)
    return Image.fromarray(grey)


def _alpha_of_key(image: Image.Image) -> Image.Image | None:
    """Alpha of a deep picture that names one value as transparent."""
    key = image.info.get("transparency")
    return (
        Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8)) if isinstance(key, int) else None
    )


def _strips(values: np.ndarray) -> Iterator[np.ndarray]:
    """A picture in strips of rows, so that copies of many bytes a pixel stay small."""
    rows = max(1, STRIP_PIXELS // max(1, values.shape[1]))
    yield from (values[start : start + rows] for start in range(0, max(1, len(values)), rows))
