"""Conditioning of a UNet: the embeddings of the texts of a batch, and what goes with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


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


def embed_xl(
    text_encoder: nn.Module,
    text_encoder_2: nn.Module,
    tokens: Int[Tensor, "b n"],
    tokens_2: Int[Tensor, "b n"],
    *,
    zeroed: Bool[Tensor, " b"] | None = None,
) -> Conditioning:
    """Embed tokens in fp32 as SDXL's UNet takes them.

    These are the penultimate hidden states of both text encoders, concatenated, and the pooled embedding of the second.

    Args:
        text_encoder, text_encoder_2: SDXL's text encoders.
        tokens, tokens_2: tokens of the same texts, by the tokenizer of each.
        zeroed: rows whose embeddings become zero; None for none.
    """
    first = text_encoder(tokens, output_hidden_states=True)
    second = text_encoder_2(tokens_2, output_hidden_states=True)
    rows = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1).float()
    pooled = second.text_embeds.float()
    if zeroed is not None:
        kept = (~zeroed)[:, None]
        rows, pooled = rows * kept[:, None], pooled * kept
    return Conditioning(rows, pooled)
