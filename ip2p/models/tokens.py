"""Token ids of texts, for the text encoders of a model."""

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor


def tokenize(tokenizer: Any, text_encoder: Any, texts: Sequence[str], *, warn: bool) -> Int[Tensor, "b n"]:
    """Tokenize texts for one text encoder, with a warning about truncated texts if `warn`."""
    max_tokens = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
    several = words_of_several_tokens(tokenizer)
    rows = []
    for text, ids in zip(texts, tokenizer(list(texts), verbose=False).input_ids, strict=True):
        ids = [each for one in ids for each in several.get(one, [one])]
        if len(ids) > max_tokens:
            lost = tokenizer.decode(ids[max_tokens - 1 : -1]).strip("\ufffd ")  # it may begin within a character
            if warn:
                warnings.warn(f"text longer than {max_tokens - 2} tokens; not read: {lost!r} of {text!r}", stacklevel=2)
            ids = [*ids[: max_tokens - 1], ids[-1]]
        rows.append(ids + [tokenizer.pad_token_id] * (max_tokens - len(ids)))
    return torch.tensor(rows, dtype=torch.long).reshape(len(rows), max_tokens)


def words_of_several_tokens(tokenizer: Any) -> dict[int, list[int]]:
    """All ids of the words that textual inversion added with several vectors, by the first id of each.

    diffusers names them word, word_1, word_2 and so on. They are replaced by id and not in the text, of which the
    tokenizer ignores the case.
    """
    added = tokenizer.get_added_vocab()
    found = {}
    for word, first in added.items():
        if f"{word}_1" in added:
            rest = itertools.takewhile(lambda name: name in added, (f"{word}_{n}" for n in itertools.count(1)))
            found[first] = [first, *(added[name] for name in rest)]
    return found
