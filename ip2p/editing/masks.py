"""Edits inside a mask only: white is edited, black stays, grey blends.

A mask works twice. While a picture is drawn, the original's latents are put back outside of it after every step,
noised as they are then (arXiv 2201.09865), so that what is drawn inside joins them. Once it is drawn, the original's
own pixels take their place, equal to the bit, which those of no autoencoder are.
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
    """Read a mask file for a picture of `size`; colours count by their brightness, what is transparent as white.

    Raises:
        ImageError: as `open_image` and `check_mask`.
    """
    return check_mask(open_image(path), size, str(path))


def check_mask(mask: Image.Image, size: tuple[int, int], name: str = "") -> Image.Image:
    """A mask of any mode as grey, 0 stays and 255 is edited.

    Args:
        mask: of a picture.
        size: width and height of the picture.
        name: of its file, for errors.

    Raises:
        ImageError: it has another size than the picture, or is all black.
    """
    name = f"the mask {name}".rstrip()
    if mask.size != size:
        raise ImageError(
            f"{name} is {mask.width} x {mask.height} pixels, the picture {size[0]} x {size[1]}",
            "Give a mask of the picture's size, white where it is to be edited",
        )
    grey = to_rgb(mask).convert("L")
    if grey.getextrema() == (0, 0):
        raise ImageError(f"{name} is all black: nothing is to be edited", "Make it white where it is to be edited")
    return grey


def paste(edited: Image.Image, original: Image.Image, mask: Image.Image | None) -> Image.Image:
    """The edit where the mask is white and the original where it is black, both to the bit; blended between.

    Args:
        edited, original: RGB.
        mask: grey, all of one size. None is white everywhere.
    """
    return edited if mask is None else Image.composite(edited, original.convert(edited.mode), mask)


def keep_outside(origin: Float[Tensor, "b c h w"], masks: Sequence[Image.Image | None], downscale: int) -> Constrain:
    """What puts the latents outside of the masks back to the original's after every step.

    A latent pixel is inside if any of its pixels is to be edited, however little: greys are blended once, at the end.

    Args:
        origin: scaled latents of the pictures.
        masks: of each row, of any size; no mask is white.
        downscale: pixels to a side of a latent pixel.
    """
    size = origin.shape[-1] * downscale, origin.shape[-2] * downscale
    inside = torch.stack([_latent_mask(mask, size, downscale) for mask in masks]).to(origin.device)

    def constrain(x: Tensor, noised: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.where(inside, x, noised(origin))

    return constrain


def _latent_mask(mask: Image.Image | None, size: tuple[int, int], downscale: int) -> Tensor:
    """Which latent pixels (1, h, w) have anything to edit."""
    if mask is None:
        return torch.ones(1, size[1] // downscale, size[0] // downscale, dtype=torch.bool)
    touched = torch.from_numpy(np.asarray(mask) > 0)[None].float()
    rows, columns = size[1] // downscale, size[0] // downscale
    return F.adaptive_max_pool2d(touched, (rows, columns)) > 0
