"""Token ids of texts, for the text encoders of a model."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin
from jaxtyping import Int
from torch import Tensor


def tokenize(tokenizer: Any, text_encoder: Any, texts: Sequence[str], *, warn: bool) -> Int[Tensor, "b n"]:
    """Tokenize texts for one text encoder, with a warning about truncated texts if `warn`."""
    max_tokens = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
    if any(
        word.endswith("_1") for word in tokenizer.get_added_vocab()
    ):  # textual inversion: one word of several tokens
        texts = TextualInversionLoaderMixin().maybe_convert_prompt(list(texts), tokenizer)
    rows = []
    for text, ids in zip(texts, tokenizer(list(texts), verbose=False).input_ids, strict=True):
        if len(ids) > max_tokens:
            lost = tokenizer.decode(ids[max_tokens - 1 : -1]).strip()
            if warn:
                warnings.warn(f"text longer than {max_tokens - 2} tokens; not read: {lost!r} of {text!r}", stacklevel=2)
            ids = [*ids[: max_tokens - 1], ids[-1]]
        rows.append(ids + [tokenizer.pad_token_id] * (max_tokens - len(ids)))
    return torch.tensor(rows, dtype=torch.long).reshape(len(rows), max_tokens)
