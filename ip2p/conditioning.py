"""Conditioning of a UNet: the embeddings of the texts of a batch, and what goes with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Embedded texts, one for each row of a batch. Guidance selects and joins rows only.

    Args:
        tokens: token embeddings, shape (b, n, d), which cross-attention reads.
        pooled: pooled embeddings of the whole texts, shape (b, p), for SDXL's UNet; None for the others.
        scale: embedded guidance scales, shape (b, g), for a UNet that was distilled to take them (LCM); None for the
            others.
    """

    tokens: Float[Tensor, "b n d"]
    pooled: Float[Tensor, "b p"] | None = None
    scale: Float[Tensor, "b g"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: list[int] | slice) -> "Conditioning":
        """Select rows, in the given order."""
        others = (None if part is None else part[rows] for part in (self.pooled, self.scale))
        return Conditioning(self.tokens[rows], *others)

    def expand(self, count: int) -> "Conditioning":
        """Repeat a single row for a batch of `count`."""
        others = (None if part is None else part.expand(count, -1) for part in (self.pooled, self.scale))
        return Conditioning(self.tokens.expand(count, -1, -1), *others)


def join_rows(batches: Sequence[Conditioning]) -> Conditioning:
    """Concatenate the rows of several batches; either all of them have pooled embeddings and scales, or none."""
    pooled = [batch.pooled for batch in batches if batch.pooled is not None]
    scales = [batch.scale for batch in batches if batch.scale is not None]
    return Conditioning(
        torch.cat([batch.tokens for batch in batches]), torch.cat(pooled) if pooled else None,
        torch.cat(scales) if scales else None,
    )  # fmt: skip
