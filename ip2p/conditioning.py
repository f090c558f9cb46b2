"""What a UNet is conditioned on: the texts of a batch as its text encoders embed them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Embedded texts, one for each row of a batch. Guidance selects and joins rows and never looks inside.

    Args:
        tokens: token embeddings, shape (b, n, d), which cross-attention reads.
        pooled: pooled embeddings of the whole texts, shape (b, p), for SDXL's UNet; None for the others.
    """

    tokens: Float[Tensor, "b n d"]
    pooled: Float[Tensor, "b p"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: list[int] | slice) -> "Conditioning":
        """The conditioning of some rows, in the given order."""
        return Conditioning(self.tokens[rows], None if self.pooled is None else self.pooled[rows])

    def expand(self, count: int) -> "Conditioning":
        """A single row, repeated for a batch of this many."""
        return Conditioning(
            self.tokens.expand(count, -1, -1), None if self.pooled is None else self.pooled.expand(count, -1)
        )


def join_rows(parts: Sequence[Conditioning]) -> Conditioning:
    """The rows of several batches in one, in order; all of them are pooled, or none is."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Conditioning(torch.cat([part.tokens for part in parts]), torch.cat(pooled) if pooled else None)
