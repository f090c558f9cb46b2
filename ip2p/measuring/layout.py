"""Distance of the layouts of two pictures of one scene: 0 where everything stands where it stood.

Without a network it is 1 minus the height of the peak of the phase correlation of the edges, see `alignment.py`. With
DINOv2 it is the structure distance: the difference of the self-similarities of the features of both pictures, which see
what stands where and not how it is painted (Tumanyan et al., Splicing ViT features for semantic appearance transfer,
2022).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import Dinov2Model, ViTModel

from ip2p.measuring.clip import Preprocessing
from ip2p.measuring.dino import load_dino
from ip2p.pictures.tensors import to_tensor


class DinoLayout:
    """A DINOv2 with its own preprocessing.

    Args:
        model: DINOv2 model.
        preprocessing: preprocessing of the model.
        batch: number of pictures in one call of the model.
    """

    def __init__(self, model: Dinov2Model | ViTModel, preprocessing: Preprocessing, *, batch: int = 32) -> None:
        model.train(False)
        self.model, self.preprocessing, self.batch = model, preprocessing, batch

    @classmethod
    def from_pretrained(cls, name: str | Path, *, device: str | torch.device = "cpu", batch: int = 32) -> "DinoLayout":
        """Load a DINOv2 model in fp32.

        Args:
            name: folder, or hub id such as facebook/dinov2-small.
            device: device to compute on.
            batch: number of pictures in one call of the model.

        Raises:
            ModelError: there is no such model, or it is not a DINOv2 model in safetensors.
        """
        return cls(*load_dino(name, device, only_second=True), batch=batch)

    @torch.inference_mode()
    def distances(self, before: Sequence[Image.Image], after: Sequence[Image.Image]) -> list[float]:
        """Structure distances of pairs of pictures of any sizes, 0 for equal ones and at most 2.

        With S the cosines of the features of all patches with each other: the root of the mean square of the difference
        of S of both pictures.
        """
        found: list[float] = []
        for start in range(0, len(before), self.batch):
            rows = slice(start, start + self.batch)
            difference = self._similarities(before[rows]) - self._similarities(after[rows])
            found += difference.square().mean((1, 2)).sqrt().tolist()
        return found

    def _similarities(self, images: Sequence[Image.Image]) -> Float[Tensor, "b n n"]:
        """Cosines of the features of all patches of each picture with each other."""
        seen = torch.cat([self.preprocessing(to_tensor([image])) for image in images]).to(self.model.device)
        features = F.normalize(self.model(seen).last_hidden_state[:, 1:].float(), dim=-1)  # the first is the picture's
        return features @ features.transpose(1, 2)
