"""Which pixels an edit has changed.

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

ERROR_FACTOR = 2.0
"""Differences up to this multiple of the autoencoder's median error are ignored; measured in docs/decisions.md."""
MIN_ERROR = 1 / 127.5
"""Lower bound of the autoencoder's error: one gray level of 256."""
CELL = 8
"""Side in pixels of the square that a latent pixel covers in most models."""


@torch.no_grad()
def change_mask(backbone: Backbone, before: Image.Image, edit: Image.Image) -> Image.Image:
    """Compute the mask of the pixels that an edit has changed, of the picture's size: 255 if changed, 0 if not.

    Args:
        backbone: model whose autoencoder decoded the edit.
        before: picture before the edit, of any size.
        edit: edited picture at the model's working size.
    """
    source = to_tensor([resize(before, edit.size)]).to(backbone.device)
    share = _compare(backbone, source, to_tensor([edit]).to(backbone.device))
    mask = Image.fromarray(share[0, 0].mul(255).round().to("cpu", torch.uint8).numpy())
    return mask.resize(before.size, Image.Resampling.BILINEAR)


@torch.no_grad()
def changed_shares(
    backbone: Backbone,
    source: Float[Tensor, "b 3 h w"],
    edits: Sequence[Image.Image],
    masks: Sequence[Image.Image | None],
) -> list[float]:
    """Compute the shares of pixels that edits have changed, 0 to 1, of those inside the mask.

    Args:
        backbone: model whose autoencoder decoded the edits.
        source: pictures in [-1, 1] at the model's working size, shape (b, 3, h, w).
        edits: edited pictures of that size.
        masks: masks of the pixels that may change, of any size, not all black; None for all of them.
    """
    changed = _compare(backbone, source, to_tensor(edits).to(backbone.device)) >= 0.5
    shares = []
    for each, edit, mask in zip(changed, edits, masks, strict=True):
        allowed = torch.ones_like(each, dtype=torch.float32)
        if mask:
            allowed = (to_tensor([resize(mask.convert("RGB"), edit.size)])[0, :1].to(each.device) + 1) / 2
        shares.append(float((each * allowed).sum() / allowed.sum().clamp_min(1e-6)))
    return shares


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


def _compare(
    backbone: Backbone, source: Float[Tensor, "b 3 h w"], edit: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, "b 1 h w"]:
    """`change_per_pixel` with the round trip of a model."""
    round_trip = backbone.decode(backbone.encode_target(source))
    return change_per_pixel(source, round_trip, edit, cell=backbone.downscale)


def _local_mean(x: Float[Tensor, "b 3 h w"], cell: int) -> Float[Tensor, "b 1 h w"]:
    """Average over all channels and the square around each pixel."""
    return F.avg_pool2d(x.mean(1, keepdim=True), 2 * (cell // 2) + 1, 1, cell // 2, count_include_pad=False)
