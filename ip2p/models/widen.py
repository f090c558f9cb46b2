"""Widen a text-to-image UNet by input channels for the picture to edit, and choose its attention for training."""

import copy
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from ip2p.errors import ModelError


def widen_conv_in(unet: Any, extra: int | None = None) -> Any:
    """Add input channels to the first convolution of a UNet in place, without changing its output.

    Weights of the old channels and the bias are copied, weights of the new channels are zero: for any content of the
    new channels the output is the base model's, until training changes it (InstructPix2Pix, arXiv 2211.09800,
    section 3.2): to the last bit, as long as the backend runs both convolutions by the same algorithm.

    Args:
        unet: UNet2DConditionModel of a text-to-image model, with c input channels.
        extra: number of channels to add after the old ones; c if None.

    Returns:
        The same UNet, with c + extra input channels.

    Raises:
        ModelError: the UNet is widened already: it is an editor or an inpainting model.
    """
    channels, predicted = unet.config.in_channels, unet.config.out_channels
    if channels != predicted:
        raise ModelError(
            f"the UNet takes {channels} channels and predicts {predicted}: it has been widened already",
            "Give a text-to-image model, or train the editor as it is",
        )
    old = unet.conv_in
    assert isinstance(old, nn.Conv2d)
    wide = copy.deepcopy(old)  # with the bias
    wide.in_channels = channels + (channels if extra is None else extra)
    new = old.weight.new_zeros(old.out_channels, wide.in_channels - channels, *old.kernel_size)
    wide.weight = nn.Parameter(torch.cat([old.weight.detach(), new], dim=1), old.weight.requires_grad)
    unet.conv_in = wide
    unet.register_to_config(in_channels=wide.in_channels)
    return unet


def suit_attention(unet: Any, device: torch.device) -> None:
    """Let a UNet that trains on a CPU compute attention by plain matrix products, with the same results.

    On short sequences the backward pass of a CPU's fused attention is slow: the storybook UNet (256 and 64 tokens)
    trains 1.4 to 1.6 times faster without it.
    """
    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())
