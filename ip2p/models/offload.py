"""CPU offload and tiled decoding: less GPU memory for more time, by diffusers and accelerate."""

from typing import Any

import torch
from accelerate import cpu_offload_with_hook

from ip2p.errors import ConfigError
from ip2p.models.backbone import Backbone


def offload(backbone: Backbone, device: torch.device | str) -> None:
    """Keep the networks in main memory, each on the GPU only while it computes.

    Args:
        backbone: model on the CPU, to change in place.
        device: device to compute on.

    Raises:
        ConfigError: the device is the CPU.
    """
    require_gpu(torch.device(device))
    hook_networks(backbone, torch.device(device))


def require_gpu(device: torch.device) -> None:
    """Check that a device is no CPU; called before a model is loaded.

    Raises:
        ConfigError: the device is the CPU.
    """
    if device.type == "cpu":
        raise ConfigError(
            "cpu_offload needs a GPU, and the device is the CPU",
            "Leave it out",
            arguments=["cpu_offload"],
        )


def hook_networks(backbone: Backbone, device: torch.device) -> None:
    """Hook each network to move to the device when called, and the one before it back, as diffusers does."""
    before = None
    for network in backbone.modules:
        _, before = cpu_offload_with_hook(network, device, prev_module_hook=before)


def tile(backbone: Backbone) -> None:
    """Encode and decode large pictures in overlapping tiles: less memory, and faint differences where they meet."""
    autoencoders: list[Any] = [each for each in (backbone.vae, backbone.decoder) if each is not None]
    for autoencoder in autoencoders:
        autoencoder.enable_tiling()
        if hasattr(autoencoder, "spatial_scale_factor"):  # AutoencoderTiny's, which is always 8
            autoencoder.spatial_scale_factor = backbone.downscale
            autoencoder.tile_latent_min_size = autoencoder.tile_sample_min_size // backbone.downscale
