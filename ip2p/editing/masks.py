"""Masks: white is edited, black is kept, gray blends.

A mask is applied twice. After every denoising step, the latents outside of it are replaced by the original's, noised to
the current level (arXiv 2201.09865), so that the edit fits its surroundings. In the decoded picture, the pixels outside
are replaced by the original's, so that they are equal to the bit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.diffusion.sampling import Constrain
from ip2p.errors import ImageError
from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import open_image


def open_mask(path: str | Path, size: tuple[int, int]) -> Image.Image:
    """Read a mask file for a picture of `size`; colors count by their brightness, transparent pixels as white.

    Raises:
        ImageError: see `open_image` and `check_mask`.
    """
    return check_mask(open_image(path), size, str(path))


def check_mask(mask: Image.Image, size: tuple[int, int], name: str = "") -> Image.Image:
    """Check a mask of any mode and convert it to gray: 0 is kept, 255 is edited.

    Args:
        mask: mask of a picture.
        size: width and height of the picture in pixels.
        name: name of the mask's file, for errors.

    Raises:
        ImageError: it has another size than the picture, or is all black.
    """
    name = f"the mask {name}".rstrip()
    if mask.size != size:
        raise ImageError(
            f"{name} is {mask.width} x {mask.height} pixels, the picture {size[0]} x {size[1]}",
            "Give a mask of the picture's size, white where it is to be edited",
        )
    gray = to_rgb(mask).convert("L")
    if gray.getextrema() == (0, 0):
        raise ImageError(f"{name} is all black: nothing is to be edited", "Make it white where it is to be edited")
    return gray


def paste(edited: Image.Image, original: Image.Image, mask: Image.Image | None) -> Image.Image:
    """Paste an edit into the original: the edit where the mask is white, the original where it is black, both exactly.

    Args:
        edited, original: RGB pictures of one size.
        mask: gray mask of the same size; None is white everywhere.
    """
    return edited if mask is None else Image.composite(edited, original.convert(edited.mode), mask)


def keep_outside(origin: Float[Tensor, "b c h w"], masks: Sequence[Image.Image | None], downscale: int) -> Constrain:
    """Make a function that resets the latents outside of the masks to the original's after every denoising step.

    A latent pixel is inside if any of its pixels is not black: grays are blended once, in the decoded picture.

    Args:
        origin: scaled latents of the pictures, shape (b, c, h, w).
        masks: one mask for each row, of any size; None is white everywhere.
        downscale: side of a latent pixel in pixels.
    """
    size = origin.shape[-1] * downscale, origin.shape[-2] * downscale
    inside = torch.stack([_latent_mask(mask, size, downscale) for mask in masks]).to(origin.device)

    def constrain(x: Tensor, noised: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.where(inside, x, noised(origin))

    return constrain


def _latent_mask(mask: Image.Image | None, size: tuple[int, int], downscale: int) -> Tensor:
    """Find the latent pixels that have anything to edit, shape (1, h, w)."""
    if mask is None:
        return torch.ones(1, size[1] // downscale, size[0] // downscale, dtype=torch.bool)
    touched = torch.from_numpy(np.asarray(mask) > 0)[None].float()
    rows, columns = size[1] // downscale, size[0] // downscale
    return F.adaptive_max_pool2d(touched, (rows, columns)) > 0
