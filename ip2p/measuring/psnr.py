"""Peak signal-to-noise ratio."""

import torch
from jaxtyping import Float
from torch import Tensor

MAX_PSNR = 60.0
"""PSNR of equal pictures, in dB."""


def psnr(x: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of pictures in [-1, 1] in dB, 10 log10(2^2 / mse); 60 for equal pictures."""
    mse = (x - target).square().flatten(1).mean(1)
    return (10 * torch.log10(4 / mse.clamp_min(1e-30))).clamp_max(MAX_PSNR)
