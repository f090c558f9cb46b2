"""The safety checker of a model, which flags unsafe pictures, and the black picture shown instead."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ip2p.models.loading import quiet


@dataclass(frozen=True)
class SafetyChecker:
    """Stable Diffusion's safety checker, which compares a picture's CLIP embedding with those of unwanted concepts.

    Args:
        checker: StableDiffusionSafetyChecker.
        feature_extractor: CLIPImageProcessor that prepares pictures for the checker.
    """

    checker: Any
    feature_extractor: Any

    @torch.no_grad()
    def flag_unsafe(self, images: Sequence[Image.Image], device: torch.device) -> list[bool]:
        """Flag unsafe pictures by the checker's own thresholds.

        Args:
            images: RGB pictures of any sizes.
            device: device that the checker is moved to.
        """
        seen = self.feature_extractor(list(images), return_tensors="pt").pixel_values
        checker = self.checker.to(device)
        with quiet():
            _, unsafe = checker(clip_input=seen.to(device, checker.dtype), images=np.zeros((len(images), 1)))
        return [bool(each) for each in unsafe]


def black_out(image: Image.Image) -> Image.Image:
    """A black picture of the same size, shown instead of a blocked one, as in diffusers."""
    return Image.new("RGB", image.size)
