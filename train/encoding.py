"""Pictures of pairs -> latents, both pictures of a pair in one pass of the autoencoder."""

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor

from ip2p.models.backbone import Backbone, latent_scale, latent_shift
from ip2p.train.objective import Latents

CPU_CHUNK = 2
"""Pictures in a pass on a CPU: feature maps of more do not stay in its caches."""


def encode_pairs(backbone: Backbone, originals: Float[Tensor, "b 3 h w"], edited: Float[Tensor, "b 3 h w"]) -> Latents:
    """Encode pairs, without gradients; equal pictures, such as those of a pair and of its inverse, are encoded once.

    Args:
        backbone: model whose autoencoder encodes.
        originals, edited: pictures in [-1, 1], on any device.
    """
    device = backbone.device
    pictures, places = _without_repeats(torch.cat([originals, edited]))
    chunk = CPU_CHUNK if device.type == "cpu" else len(pictures)
    with torch.no_grad():
        passes = [backbone.target_posterior(part.to(device, non_blocking=True)) for part in pictures.split(chunk)]
    mean, std = (torch.cat(parts)[places] for parts in zip(*passes, strict=True))
    both = len(originals)
    condition = mean[:both] / latent_scale(backbone.vae) + latent_shift(backbone.vae)
    return Latents(condition, mean[both:], std[both:])


def _without_repeats(pictures: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "k 3 h w"], list[int]]:
    """Return the different pictures, and the place of each of the given ones among these; all of them on a GPU.

    There a pass takes less time than the comparison, which waits for it.
    """
    if pictures.device.type != "cpu":
        return pictures, [*range(len(pictures))]
    found: dict[bytes, int] = {}
    keys = [hashlib.sha256(picture.contiguous().numpy()).digest() for picture in pictures]
    places = [found.setdefault(key, len(found)) for key in keys]
    firsts = [places.index(place) for place in range(len(found))]
    return (pictures[firsts] if len(firsts) < len(places) else pictures), places
