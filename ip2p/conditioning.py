"""Text conditioning of a UNet: the embeddings of the texts of a batch."""

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
    """

    tokens: Float[Tensor, "b n d"]
    pooled: Float[Tensor, "b p"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: list[int] | slice) -> "Conditioning":
        """Select rows, in the given order."""
        return Conditioning(self.tokens[rows], None if self.pooled is None else self.pooled[rows])

    def expand(self, count: int) -> "Conditioning":
        """Repeat a single row for a batch of `count`."""
        return Conditioning(
            self.tokens.expand(count, -1, -1), None if self.pooled is None else self.pooled.expand(count, -1)
        )


def join_rows(batches: Sequence[Conditioning]) -> Conditioning:
    """Concatenate the rows of several batches; either all of them have pooled embeddings, or none."""
    pooled = [batch.pooled for batch in batches if batch.pooled is not None]
    return Conditioning(torch.cat([batch.tokens for batch in batches]), torch.cat(pooled) if pooled else None)
