"""Convert between PIL images and tensors, shape (b, 3, h, w) in [-1, 1]."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.errors import ImageError
from ip2p.pictures.color import to_rgb


def to_tensor(images: Sequence[Image.Image]) -> Float[Tensor, "b 3 h w"]:
    """Convert pictures of one size to a float32 tensor in [-1, 1]: 0 becomes -1 and 255 becomes 1.

    Pictures of any mode are taken as `ip2p.pictures.color.to_rgb` makes them.

    Raises:
        ImageError: sizes differ.
    """
    pictures = [to_rgb(image) for image in images]
    sizes = {picture.size for picture in pictures}
    if len(sizes) != 1:
        raise ImageError(
            f"pictures of {len(sizes)} sizes in one batch ({sorted(sizes)})", "Bring them to one size first"
        )
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def to_images(x: Float[Tensor, "b 3 h w"]) -> list[Image.Image]:
    """Convert a tensor in [-1, 1] to pictures, clamped and rounded to 0..255: the inverse of `to_tensor`."""
    pixels = x.detach().float().add(1).mul(127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    return [Image.fromarray(row) for row in pixels.permute(0, 2, 3, 1).contiguous().numpy()]
