"""The safety checker that a model brings: which pictures it takes for unsafe, and what is shown instead."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ip2p.models.loading import quiet


@dataclass(frozen=True)
class SafetyChecker:
    """Stable Diffusion's checker: compares a picture's CLIP embedding with those of unwanted concepts.

    Args:
        checker: StableDiffusionSafetyChecker.
        feature_extractor: CLIPImageProcessor, from pictures to what the checker sees.
    """

    checker: Any
    feature_extractor: Any

    @torch.no_grad()
    def flag_unsafe(self, images: Sequence[Image.Image], device: torch.device) -> list[bool]:
        """Which pictures are unsafe, by the checker's own thresholds.

        Args:
            images: RGB, of any sizes.
            device: the checker moves there at its first use and stays.
        """
        seen = self.feature_extractor(list(images), return_tensors="pt").pixel_values
        checker = self.checker.to(device)
        with quiet():
            _, unsafe = checker(clip_input=seen.to(device, checker.dtype), images=np.zeros((len(images), 1)))
        return [bool(each) for each in unsafe]


def black_out(image: Image.Image) -> Image.Image:
    """A black picture of the same size: what is shown of a blocked one, as in diffusers."""
    return Image.new("RGB", image.size)
