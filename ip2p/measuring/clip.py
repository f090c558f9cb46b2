"""CLIP embeddings of pictures and texts, and the four CLIP scores of a pair of pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer
from transformers.utils.hub import cached_file

from ip2p.models.bundled import BUNDLED_NAMES, bundled_path
from ip2p.models.folder_checks import require_network, require_tokenizer
from ip2p.models.loading import explain, load_whole
from ip2p.pictures.tensors import to_tensor

CLIP_HINT = "Give a bundled name such as storybook-clip-a, a folder with a CLIPModel in safetensors, or a hub id"
MAX_CACHED_TEXTS = 4096
"""Number of texts whose embeddings are cached; captions repeat for the candidates of a triple only."""

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


class PairScores(NamedTuple):
    """The four scores of each pair (paper, section 3.1), cosines in [-1, 1]."""

    source: Float[Tensor, " b"]
    edited: Float[Tensor, " b"]
    image: Float[Tensor, " b"]
    direction: Float[Tensor, " b"]


class Preprocessing(NamedTuple):
    """Preprocessing of pictures for CLIP.

    Attributes:
        side: side in pixels.
        mean, std: mean and standard deviation by channel in [0, 1].
        original_range: whether pictures stay in [-1, 1], where CLIP expects [0, 1], as in the published metrics of
            InstructPix2Pix.
        original_resize: whether they are resized without antialiasing, as there.
    """

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    original_range: bool = False
    original_resize: bool = False

    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 side side"]:
        """Resize pictures in [-1, 1] bicubically without cropping, as the paper's authors do, and normalize them."""
        x = images if self.original_range else images / 2 + 0.5
        if x.shape[-2:] != (self.side, self.side):
            x = F.interpolate(x, (self.side, self.side), mode="bicubic", antialias=not self.original_resize)
            x = x if self.original_resize else x.clamp(-1 if self.original_range else 0, 1)
        mean, std = (x.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std


class ClipScorer:
    """A CLIP model with its own preprocessing.

    Args:
        model: CLIP model with both encoders.
        tokenizer: tokenizer of the model.
        preprocessing: preprocessing of the model.
        batch: number of pictures or texts in one call of the model.
    """

    def __init__(
        self, model: CLIPModel, tokenizer: CLIPTokenizer, preprocessing: Preprocessing, *, batch: int = 64
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing
        self.batch = batch
        self._texts: dict[str, Tensor] = {}

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "storybook-clip-a", *, device: str | torch.device = "cpu", batch: int = 64
    ) -> "ClipScorer":
        """Load a CLIP model in fp32.

        Args:
            name: bundled name, folder, or hub id such as openai/clip-vit-large-patch14.
            device: device to compute on.
            batch: number of pictures or texts in one call of the model.

        Raises:
            ModelError: there is no such model, or it is not a CLIP model in safetensors.
        """
        source = bundled_path(str(name)) if str(name) in BUNDLED_NAMES else name
        with explain(f"the CLIP model {name}", CLIP_HINT):
            if (folder := Path(source)).is_dir():
                require_network(folder, f"the CLIP model {name}", file="model", pickle_file="pytorch_model.bin")
                require_tokenizer(folder, f"the CLIP model {name}")
            model = _load_model(source, device)
            tokenizer = CLIPTokenizer.from_pretrained(source)
            preprocessing = read_preprocessing(source, model.vision_model.embeddings.image_size)
        return cls(model, tokenizer, preprocessing, batch=batch)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Embed pictures as unit vectors: PIL images of any sizes, or a tensor in [-1, 1]."""
        if not isinstance(images, Tensor):
            seen = [self.preprocessing(to_tensor([image])) for image in images]
        else:
            seen = [self.preprocessing(rows) for rows in images.float().split(self.batch)]
        vectors = [
            self.model.visual_projection(self.model.vision_model(rows.to(self.model.device)).pooler_output)
            for rows in torch.cat(seen).split(self.batch)
        ]
        return F.normalize(torch.cat(vectors).cpu(), dim=-1)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Embed texts as unit vectors; texts that are too long for the model are truncated."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if len(self._texts) + len(new) > MAX_CACHED_TEXTS:
            self._texts = {text: self._texts[text] for text in dict.fromkeys(texts) if text in self._texts}
        for start in range(0, len(new), self.batch):
            chunk = new[start : start + self.batch]
            tokens = self.tokenizer(
                chunk, padding="max_length", truncation=True, max_length=self._text_length, return_tensors="pt"
            ).to(self.model.device)
            pooled = self.model.text_model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
            vectors = F.normalize(self.model.text_projection(pooled).cpu(), dim=-1)
            self._texts.update(zip(chunk, vectors, strict=True))
        return torch.stack([self._texts[text] for text in texts])

    def scores(
        self,
        source_images: Sequence[Image.Image] | Float[Tensor, "b 3 h w"],
        edited_images: Sequence[Image.Image] | Float[Tensor, "b 3 h w"],
        captions: Sequence[str],
        edited_captions: Sequence[str],
    ) -> PairScores:
        """The four CLIP scores of pairs, row by row.

        With unit vectors i, j of the two pictures and s, t of the two captions:
        source = i.s, edited = j.t, image = i.j, direction = cos(j - i, t - s), and 0 if either change is zero.
        """
        images = self.embed_images(source_images), self.embed_images(edited_images)
        texts = self.embed_texts(captions), self.embed_texts(edited_captions)
        return PairScores(
            source=(images[0] * texts[0]).sum(-1).clamp(-1, 1),
            edited=(images[1] * texts[1]).sum(-1).clamp(-1, 1),
            image=(images[0] * images[1]).sum(-1).clamp(-1, 1),
            direction=F.cosine_similarity(images[1] - images[0], texts[1] - texts[0], dim=-1).clamp(-1, 1),
        )

    @property
    def _text_length(self) -> int:
        max_tokens: int = self.model.config.text_config.max_position_embeddings
        return min(max_tokens, self.tokenizer.model_max_length)


def _load_model(source: str | Path, device: str | torch.device) -> CLIPModel:
    """Load both encoders in fp32, and check that no weights are missing."""
    model: Any = load_whole(CLIPModel, source, dtype=torch.float32)
    return cast(CLIPModel, model.to(device))


def read_preprocessing(
    source: str | Path,
    side: int,
    *,
    mean: tuple[float, ...] = OPENAI_MEAN,
    std: tuple[float, ...] = OPENAI_STD,
) -> Preprocessing:
    """Read the mean and the standard deviation in the preprocessor_config.json of a model.

    It is read as JSON, because the classes of transformers for it need torchvision.

    Args:
        source: folder or hub id.
        side: side of the pictures that the model reads, in pixels.
        mean, std: mean and standard deviation by channel where the file names none; OpenAI's by default.
    """
    file = cached_file(
        str(source), "preprocessor_config.json", _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    values = json.loads(Path(file).read_text()) if file else {}
    return Preprocessing(side, tuple(values.get("image_mean", mean)), tuple(values.get("image_std", std)))
