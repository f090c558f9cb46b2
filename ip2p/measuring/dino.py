"""DINO embeddings of pictures, and the structure distance of PIE-Bench.

Emerging properties in self-supervised vision transformers (Caron et al., 2021), or DINOv2. The embedding is the last
state of the class token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, Dinov2Model, ViTModel

from ip2p.measuring.clip import Preprocessing, read_preprocessing
from ip2p.models.folder_checks import require_network
from ip2p.models.loading import explain, load_whole
from ip2p.pictures.color import to_rgb
from ip2p.pictures.tensors import to_tensor

DINO_HINT = "Give a folder with a ViTModel or Dinov2Model in safetensors, or a hub id such as facebook/dino-vits16"
DINOV2_HINT = "Give a folder with a Dinov2Model in safetensors, or a hub id such as facebook/dinov2-small"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_SIDE = 224
"""Largest side of the pictures that a model is shown: of DINOv2, 16 x 16 patches of 14 pixels."""
BORDER = 256 / 224
"""Length of the short side before the middle is cropped, in sides of the crop."""


class LoadedDino(NamedTuple):
    """A DINO, with its normalization and the side of the pictures that it reads, in whole patches."""

    model: ViTModel | Dinov2Model
    preprocessing: Preprocessing


def load_dino(name: str | Path, device: str | torch.device, *, only_second: bool = False) -> LoadedDino:
    """Load a DINO or DINOv2 in fp32.

    Args:
        name: folder, or hub id such as facebook/dino-vits16.
        device: device to compute on.
        only_second: whether it must be a DINOv2.

    Raises:
        ModelError: there is no such model, or it is of another kind, or not in safetensors.
    """
    what, hint = ("DINOv2", DINOV2_HINT) if only_second else ("DINO", DINO_HINT)
    with explain(f"the {what} model {name}", hint):
        if (folder := Path(name)).is_dir():
            require_network(folder, f"the {what} model {name}", file="model", pickle_file="pytorch_model.bin")
        config = AutoConfig.from_pretrained(name)
        if config.model_type not in (("dinov2",) if only_second else ("vit", "dinov2")):
            raise ValueError(f"it is a {config.model_type}")
        if config.model_type == "vit":
            model: Any = load_whole(ViTModel, name, dtype=torch.float32, add_pooling_layer=False)
        else:
            model = load_whole(Dinov2Model, name, dtype=torch.float32)
        side = min(MAX_SIDE, config.image_size)
        side -= side % config.patch_size
        preprocessing = read_preprocessing(name, side, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return LoadedDino(model.to(device), preprocessing)


class Dino:
    """A DINO or DINOv2 with its own normalization.

    Args:
        model: model.
        preprocessing: normalization of the model, and the side of the pictures that it reads.
        batch: number of pictures in one call of the model.
    """

    def __init__(self, model: ViTModel | Dinov2Model, preprocessing: Preprocessing, *, batch: int = 32) -> None:
        model.train(False)
        self.model, self.preprocessing, self.batch = model, preprocessing, batch

    @classmethod
    def from_pretrained(cls, name: str | Path, *, device: str | torch.device = "cpu", batch: int = 32) -> "Dino":
        """Load a DINO in fp32.

        Args:
            name: folder, or hub id such as facebook/dino-vits16.
            device: device to compute on.
            batch: number of pictures in one call of the model.

        Raises:
            ModelError: there is no such model, or it is of another kind, or not in safetensors.
        """
        return cls(*load_dino(name, device), batch=batch)

    @torch.inference_mode()
    def embed(self, images: Sequence[Image.Image]) -> Float[Tensor, "b d"]:
        """Embed pictures of any sizes as unit vectors: short side to 256, the middle 224 of it, as MagicBrush does."""
        found = []
        for start in range(0, len(images), self.batch):
            x = to_tensor([self._crop(image) for image in images[start : start + self.batch]])
            states = self.model(self.preprocessing(x).to(self.model.device)).last_hidden_state
            found.append(states[:, 0].float().cpu())
        return F.normalize(torch.cat(found), dim=-1)

    @torch.inference_mode()
    def structure_distances(self, before: Sequence[Image.Image], after: Sequence[Image.Image]) -> list[float]:
        """Structure distances of pairs of pictures, 0 for equal ones.

        With S the cosines of the keys of the last layer, of all tokens with each other: the mean square of the
        difference of S of both pictures (Tumanyan et al., 2022). Pictures are resized to squares without cropping.
        """
        found: list[float] = []
        for start in range(0, len(before), self.batch):
            rows = slice(start, start + self.batch)
            difference = self._key_similarities(before[rows]) - self._key_similarities(after[rows])
            found += difference.square().mean((1, 2)).tolist()
        return found

    def _crop(self, image: Image.Image) -> Image.Image:
        side = self.preprocessing.side
        scale = round(BORDER * side) / min(image.size)
        size = (max(side, int(image.width * scale)), max(side, int(image.height * scale)))
        large = to_rgb(image).resize(size, Image.Resampling.BICUBIC)
        left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
        return large.crop((left, top, left + side, top + side))

    def _key_similarities(self, images: Sequence[Image.Image]) -> Float[Tensor, "b n n"]:
        """Cosines of the keys of the last layer of each picture with each other."""
        seen = torch.cat([self.preprocessing(to_tensor([image])) for image in images]).to(self.model.device)
        kept: list[Tensor] = []
        layers: Any = self.model.layers if isinstance(self.model, ViTModel) else self.model.encoder.layer
        attention = next(module for name, module in layers[-1].named_modules() if name.endswith("k_proj"))
        handle = attention.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        try:
            self.model(seen)
        finally:
            handle.remove()
        keys = F.normalize(kept[0].float().cpu(), dim=-1)
        return keys @ keys.transpose(1, 2)
