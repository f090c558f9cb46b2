"""Embeddings of instructions under a frozen text encoder: the empty prompt once, and those on disk never again."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ip2p.models.backbone import Backbone
from ip2p.models.hashes import hash_weights
from ip2p.train.latent_cache import DTYPES, CacheDtype
from ip2p.train.ranks import Ranks
from ip2p.train.tensor_shards import Say, TensorShards

SHARD = 256
"""Texts in a shard."""
CHUNK = 32
"""Texts that are embedded at a time."""


class FrozenText:
    """Embeds texts as `EditingModel` would, in fp32, without gradients.

    Args:
        backbone: model whose text encoder is frozen.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._empty = self._embed([""])[0]
        self._shards: TensorShards | None = None
        self._names: list[str] = []
        self._places: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "b n d"]:
        """Return the embeddings of texts, on the backbone's device."""
        others = [text for text in texts if text and text not in self._places]
        fresh = iter(self._embed(others) if others else ())
        rows = [
            self._empty if not text else self._kept(text) if text in self._places else next(fresh) for text in texts
        ]
        return torch.stack(rows)

    def cache(
        self, texts: Sequence[str], folder: Path, *, dtype: CacheDtype, limit: int, ranks: Ranks, say: Say
    ) -> None:
        """Embed all texts that are not on disk, each rank its share, and take them from there.

        Args:
            texts: all texts of the run, repeated or not.
            folder: folder of all caches.
            dtype: data type on disk.
            limit: most bytes that they may take; with more, texts are embedded at each step.
            ranks: processes of the run, which see the same folder.
            say: function that prints a line.

        Raises:
            DataError: the disk is full.
        """
        unique = list(dict.fromkeys(text for text in texts if text))
        size = len(unique) * self._empty.numel() * DTYPES[dtype].itemsize
        if size > limit:
            say(f"{len(unique)} instructions are embedded at each step: kept, they would take {size / 1e6:,.1f} MB")
            return
        encoder = self.backbone.text_encoder
        shards = TensorShards(folder, {"text_encoder": hash_weights(encoder), "dtype": dtype})
        say(f"embeddings of {len(unique)} instructions: {size / 1e6:,.1f} MB of {dtype} in {shards.folder}")
        groups = [unique[start : start + SHARD] for start in range(0, len(unique), SHARD)]
        names = ranks.interleave([self._name(group) for group in groups[ranks.rank :: ranks.total]])

        def make(index: int) -> None:
            group = groups[index]
            rows = [self._embed(group[start : start + CHUNK]) for start in range(0, len(group), CHUNK)]
            shards.write(names[index], {"text": torch.cat(rows).to(DTYPES[dtype])}, rows=len(group))

        shards.fill(names, make, rank=ranks.rank, ranks=ranks.total, say=say)
        self._shards, self._names = shards, names
        self._places = {text: place for place, text in enumerate(unique)}

    @property
    def cached_files(self) -> set[Path]:
        """Files of the embeddings that are kept on disk."""
        return self._shards.files(self._names) if self._shards else set()

    def _name(self, texts: Sequence[str]) -> str:
        """Hash the token ids of texts, which are all that the text encoder sees."""
        return hashlib.sha256(self.backbone.tokenize(texts).numpy().tobytes()).hexdigest()[:32]

    def _kept(self, text: str) -> Tensor:
        assert self._shards is not None
        index, place = divmod(self._places[text], SHARD)
        return self._shards.read(self._names[index])["text"][place].to(self.backbone.device, torch.float32)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return self.backbone.encode_text(texts).tokens
