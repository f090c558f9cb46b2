"""Structural similarity of pictures (Wang et al., Image quality assessment, 2004).

Means, variances and covariances are taken under a Gaussian window of 11 px with a standard deviation of 1.5 px, where
the whole window lies within the picture, of each channel by itself.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
"""Constants that keep quotients finite, for pictures in [0, 1]."""


def ssim(
    x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"], where: Bool[Tensor, "b h w"] | None = None
) -> Float[Tensor, " b"]:
    """Structural similarity of pictures in [0, 1]; NaN where there is nothing to compare.

    Args:
        x, y: pictures of at least 11 px on each side.
        where: pixels at which windows are centred; all if None.
    """
    if min(x.shape[-2:]) < WINDOW:
        return x.new_full((len(x),), torch.nan)
    values = ssim_map(x, y).mean(1)
    if where is None:
        return values.mean((1, 2))
    edge = WINDOW // 2
    chosen = where[:, edge:-edge, edge:-edge].to(values)
    return (values * chosen).sum((1, 2)) / chosen.sum((1, 2))  # 0 / 0 is NaN


def ssim_map(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
    """Structural similarity of each window that lies within the picture."""
    channels = x.shape[1]
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    weights = weights / weights.sum()

    def blur(picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        row = weights.view(1, 1, 1, -1).repeat(channels, 1, 1, 1)
        return F.conv2d(F.conv2d(picture, row, groups=channels), row.transpose(2, 3), groups=channels)

    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return above / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))
