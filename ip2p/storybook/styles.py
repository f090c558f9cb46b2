"""Art styles, applied to a drawn picture. Colors, outlines and positions stay readable in all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.float32]

GRID = 8
"""Period of patterns in pixels, that of the autoencoder's latent pixels, which then learns them once."""

PAPER = np.array((250, 244, 230), np.float32)


def apply_style(image: Image.Image, style: str) -> Image.Image:
    """Apply a style of `scene.ATTRIBUTES` to a 256 px picture."""
    return STYLES[style](image)


def watercolor(image: Image.Image) -> Image.Image:
    """Soft washes that pale towards the edges, on uneven paper."""
    soft = _pixels(image.filter(ImageFilter.GaussianBlur(0.8)))
    wash = _vivid(soft, 1.2) * 0.74 + PAPER * 0.26
    fade = _frame(soft.shape[0])[..., None]
    return _image((wash * fade + PAPER * (1 - fade)) * _grain(soft.shape[0], 40, 0.035)[..., None])


def sketch(image: Image.Image) -> Image.Image:
    """Colored pencil: gray contours and slanted hatching over pale colors."""
    pixels = _pixels(image)
    tone = pixels.mean(2) / 255
    rows, columns = np.indices(tone.shape)
    slant = (rows + columns) % GRID
    hatch = np.clip(2 - np.abs(slant - GRID / 2 + 0.5), 0, 1).astype(np.float32) * (1 - 0.75 * tone)
    pale = 255 - (255 - _vivid(pixels, 1.3)) * (0.42 + 0.34 * hatch[..., None])
    contour = np.clip(_edges(pixels, 1) * 1.5 - 0.15, 0, 1)[..., None]
    return _image(pale * (1 - contour) + 62.0 * contour)


def poster(image: Image.Image) -> Image.Image:
    """A print in few, strong colors: five tones in each channel, red deepened, dark tones lifted."""
    strong = _vivid(_pixels(image), 1.7)
    toned = np.round((strong / 255) ** 0.8 * 4) / 4
    return _image(toned * np.array((255, 236, 206), np.float32))


def mosaic(image: Image.Image) -> Image.Image:
    """Square tiles with pale joints."""
    size = GRID
    count = -(-image.width // size)
    tiles = image.resize((count, count), Image.Resampling.BOX)
    big = _vivid(_pixels(tiles.resize((count * size, count * size), Image.Resampling.NEAREST)), 1.2)
    big = big[: image.height, : image.width]
    rows, columns = np.indices(big.shape[:2])
    joint = ((rows % size == 0) | (columns % size == 0))[..., None]
    return _image(np.where(joint, big * 0.6 + 64, big))


def neon(image: Image.Image) -> Image.Image:
    """Glowing lines in the colors of things, on near black."""
    pixels = _pixels(image)
    glow = np.clip(_edges(pixels, 2) * 2.5, 0, 1)
    halo = _pixels(Image.fromarray((glow * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(4)))
    local = _vivid(_pixels(image.filter(ImageFilter.MaxFilter(5))), 2.2)
    return _image(pixels * 0.22 + local * np.clip(glow + halo / 255 * 0.8, 0, 1)[..., None] * 0.95)


def pixel(image: Image.Image) -> Image.Image:
    """Square blocks in few tones."""
    small = _pixels(image.resize((image.width // GRID, image.height // GRID), Image.Resampling.BOX))
    toned = _image(np.round(_vivid(small, 1.25) / 255 * 6) / 6 * 255)
    return toned.resize(image.size, Image.Resampling.NEAREST)


def glass(image: Image.Image) -> Image.Image:
    """Stained glass: glowing pieces of irregular shape between lines of lead."""
    pieces, lead = _pieces(image.width)
    pixels = _vivid(_pixels(image), 1.6)
    total = np.stack([np.bincount(pieces.ravel(), pixels[..., channel].ravel()) for channel in range(3)], 1)
    mean = total / np.maximum(np.bincount(pieces.ravel()), 1)[:, None]
    toned = mean[pieces].astype(np.float32) * 0.35 + pixels * 0.65
    return _image(np.where(lead[..., None], np.float32(24), toned * 1.08))


def _pixels(image: Image.Image) -> Pixels:
    return np.asarray(image, np.float32)


def _image(pixels: npt.NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8))


def _vivid(pixels: Pixels, amount: float) -> Pixels:
    """Multiply the saturation by `amount`."""
    gray = pixels.mean(2, keepdims=True)
    vivid: Pixels = np.clip(gray + (pixels - gray) * np.float32(amount), 0, 255)
    return vivid


def _edges(pixels: Pixels, reach: int) -> Pixels:
    """Strength of contours, about 0 to 1, from differences over `reach` pixels to each side."""
    tone = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge") / 255
    across = np.abs(tone[reach:-reach, 2 * reach :] - tone[reach:-reach, : -2 * reach]).max(2)
    down = np.abs(tone[2 * reach :, reach:-reach] - tone[: -2 * reach, reach:-reach]).max(2)
    edges: Pixels = np.hypot(across, down)
    return edges


@cache
def _frame(side: int) -> Pixels:
    """A mask that is 1 inside and falls to 0 at an uneven border."""
    ramp = np.minimum(np.arange(side), np.arange(side)[::-1]).astype(np.float32)
    wobble = 4.0 * np.sin(np.arange(side) / 14.0) + 3.0 * np.sin(np.arange(side) / 6.2 + 1)
    inward = np.minimum(ramp[:, None] + wobble[None, :], ramp[None, :] + wobble[:, None])
    ramped: Pixels = np.clip((inward - 2) / 10, 0, 1).astype(np.float32)
    return ramped


@cache
def _grain(side: int, size: int, strength: float) -> Pixels:
    """Fixed texture of paper around 1."""
    noise = np.random.default_rng(0).normal(0, 1, (side // size + 2, side // size + 2)).astype(np.float32)
    grain = np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))
    return (1 + strength * grain).astype(np.float32)


@cache
def _pieces(side: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Number of the piece of glass at each pixel, from a jittered grid of seeds, and where the lead runs."""
    step = 26
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(np.arange(0, side + step, step), np.arange(0, side + step, step)), -1).reshape(-1, 2)
    seeds = grid + rng.uniform(-8, 8, grid.shape)
    y, x = np.indices((side, side))
    distances = np.hypot(x[..., None] - seeds[:, 0], y[..., None] - seeds[:, 1])
    nearest = np.partition(distances, 1, axis=2)
    return distances.argmin(2), (nearest[..., 1] - nearest[..., 0]) < 2.4


STYLES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "illustration": lambda image: image,
    "watercolor": watercolor,
    "sketch": sketch,
    "poster": poster,
    "mosaic": mosaic,
    "neon": neon,
    "pixel": pixel,
    "glass": glass,
}
