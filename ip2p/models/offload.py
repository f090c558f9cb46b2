"""Less GPU memory for more time, by diffusers' and accelerate's own means."""

import torch
from accelerate import cpu_offload_with_hook

from ip2p.errors import ConfigError
from ip2p.models.backbone import Backbone


def offload(backbone: Backbone, device: torch.device | str) -> None:
    """Keep networks in the computer's memory, each on the GPU only while it computes.

    Args:
        backbone: on the CPU; changed in place.
        device: to compute on.

    Raises:
        ConfigError: that is the CPU, so there is nothing to be saved.
    """
    require_gpu(torch.device(device))
    chain(backbone, torch.device(device))


def require_gpu(device: torch.device) -> None:
    """Told before a model is loaded.

    Raises:
        ConfigError: the device is the CPU.
    """
    if device.type == "cpu":
        raise ConfigError(
            "cpu_offload spares the memory of a GPU, and this computes on the CPU",
            "Leave it out",
            arguments=["cpu_offload"],
        )


def chain(backbone: Backbone, device: torch.device) -> None:
    """Let each network move to the device when it is called and send the one before it back, as diffusers does."""
    before = None
    for network in backbone.modules:
        _, before = cpu_offload_with_hook(network, device, prev_module_hook=before)


def tile(backbone: Backbone) -> None:
    """Encode and decode large pictures in overlapping tiles: less memory, and faint differences where they meet."""
    for autoencoder in filter(None, (backbone.vae, backbone.decoder)):
        autoencoder.enable_tiling()
