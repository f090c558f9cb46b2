"""The pixels that an edit has changed.

The autoencoder changes every pixel a little. So an edit is compared with its own input after a round trip through the
autoencoder: where both are equal within the autoencoder's error, the edit has changed nothing.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.editing.requests import resize
from ip2p.models.backbone import Backbone
from ip2p.pictures.tensors import to_tensor

ERROR_FACTOR = 3.0
"""Differences up to this multiple of the autoencoder's median error are ignored; measured in docs/decisions.md."""
MIN_ERROR = 1 / 127.5
"""Lower bound of the autoencoder's error: one gray level of 256."""
CELL = 8
"""Side in pixels of the square that a latent pixel covers in most models."""


@torch.no_grad()
def compare(
    backbone: Backbone, source: Float[Tensor, "b 3 h w"], edits: Sequence[Image.Image]
) -> Float[Tensor, "b 1 h w"]:
    """Compute how much edits have changed each pixel, from 0 to 1, see `change_per_pixel`.

    Args:
        backbone: model whose autoencoder decoded the edits.
        source: pictures in [-1, 1] at the model's working size, shape (b, 3, h, w).
        edits: edited pictures of that size.
    """
    round_trip = backbone.decode(backbone.encode_target(source))
    edited = to_tensor(edits).to(backbone.device)
    return change_per_pixel(source, round_trip, edited, cell=backbone.downscale)


def change_mask(change: Float[Tensor, "1 h w"], size: tuple[int, int]) -> Image.Image:
    """Turn what `compare` gives into a mask of a size: 255 where the edit has changed the picture, 0 where not."""
    mask = Image.fromarray(change[0].mul(255).round().to("cpu", torch.uint8).numpy())
    return mask.resize(size, Image.Resampling.BILINEAR)


def changed_share(change: Float[Tensor, "1 h w"], mask: Image.Image | None) -> float:
    """Compute the share of pixels that an edit has changed, 0 to 1, of those inside the mask.

    Args:
        change: what `compare` gives.
        mask: mask of the pixels that may change, of any size, not all black; None for all of them.
    """
    allowed = torch.ones_like(change)
    if mask:
        size = change.shape[-1], change.shape[-2]
        allowed = (to_tensor([resize(mask.convert("RGB"), size)])[0, :1].to(change.device) + 1) / 2
    return float(((change >= 0.5) * allowed).sum() / allowed.sum().clamp_min(1e-6))


def visible_pixels(before: Image.Image, after: Image.Image) -> npt.NDArray[np.bool_]:
    """Find the pixels, shape (h, w), around which two decoded pictures of one size differ visibly.

    Both come from the same decoder, so that its error is the least there can be: one gray level.
    """
    source, edit = to_tensor([before]), to_tensor([after])
    return np.asarray(change_per_pixel(source, source, edit, cell=CELL)[0, 0] >= 0.5)


def visible_share(before: Image.Image, after: Image.Image) -> float:
    """Compute the share of pixels, 0 to 1, around which two decoded pictures of one size differ visibly."""
    return float(torch.from_numpy(visible_pixels(before, after)).float().mean())


def change_per_pixel(
    source: Float[Tensor, "b 3 h w"], round_trip: Float[Tensor, "b 3 h w"], edit: Float[Tensor, "b 3 h w"], *, cell: int
) -> Float[Tensor, "b 1 h w"]:
    """Compute how much an edit has changed each pixel, from 0 to 1.

    With d the mean difference of edit and round trip around a pixel, and m the median over the picture of the mean
    difference of round trip and source: 0 up to d = f m, 1 from d = 2 f m, linear between; f is ERROR_FACTOR.

    Args:
        source: pictures in [-1, 1], shape (b, 3, h, w).
        round_trip: same pictures, encoded and decoded.
        edit: edited pictures, decoded by the same autoencoder.
        cell: side in pixels of the square to average over, that of a latent pixel.
    """
    error = _local_mean((round_trip - source).abs(), cell).flatten(1).median(1).values
    threshold = ERROR_FACTOR * error.clamp_min(MIN_ERROR).view(-1, 1, 1, 1)
    return ((_local_mean((edit - round_trip).abs(), cell) - threshold) / threshold).clamp(0, 1)


def _local_mean(x: Float[Tensor, "b 3 h w"], cell: int) -> Float[Tensor, "b 1 h w"]:
    """Average over all channels and the square around each pixel."""
    return F.avg_pool2d(x.mean(1, keepdim=True), 2 * (cell // 2) + 1, 1, cell // 2, count_include_pad=False)
