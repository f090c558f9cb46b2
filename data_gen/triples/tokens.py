"""Counts of the tokens that a text encoder reads: by the base model's tokenizer, or estimated."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ip2p.errors import ModelError, reason
from ip2p.models.bundled import BUNDLED_NAMES, bundled_path

TOKENIZER = "tokenizer"
"""Folder of the tokenizer in a model folder."""

TOKEN = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_+")
VOWEL = re.compile("[aeiouy]", re.IGNORECASE)
LONG_WORD, LETTERS = 8, 4
"""Letters of the shortest word that CLIP may not know whole, and of each further piece of it."""


def token_counter(model: str, limit: int) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text, including start and end.

    The tokenizer of the base model counts, if the model is a folder here and its encoder reads as many tokens as are
    allowed. Otherwise the tokens of CLIP are estimated: the limit is meant for other models than storybook's, whose
    vocabulary is one of few words.

    Args:
        model: base model of the pairs: bundled name, folder or hub id.
        limit: most tokens that a text may have.

    Raises:
        ModelError: the model's tokenizer is damaged.
    """
    folder = find_tokenizer(model, limit)
    if folder is None:
        return estimate_tokens
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises no other
        raise ModelError(
            f"cannot read the tokenizer in {folder} ({reason(error)})", "Download the model again, or name another"
        ) from error
    return lambda text: len(tokenizer(text, verbose=False).input_ids)


def find_tokenizer(model: str, limit: int) -> Path | None:
    """Return the folder of a base model's tokenizer that reads at least `limit` tokens; None if there is none here."""
    try:
        folder = (bundled_path(model) if model in BUNDLED_NAMES else Path(model)) / TOKENIZER
        longest = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"]
        return folder if longest >= limit else None
    except (ModelError, OSError, ValueError, KeyError, TypeError):
        return None


def estimate_tokens(text: str) -> int:
    """Estimate the CLIP tokens of a text, including start and end; rather too many than too few.

    CLIP's vocabulary has most English words of captions whole. Rare words are cut into pieces.
    """
    return 2 + sum(_count_pieces(piece) for piece in TOKEN.findall(text))


def _count_pieces(piece: str) -> int:
    """Estimate the tokens of one word, digit, or run of marks."""
    if not piece.isascii():
        return len(piece.encode("utf-8", "replace"))
    if not VOWEL.search(piece):
        return 1 + len(piece) // 2
    return 1 + max(0, (len(piece) - LONG_WORD) // LETTERS + 1)
