"""The tokenizer of the storybook models: a CLIP tokenizer with one token for every word of the storybook language.

It has the files of a `CLIPTokenizer`, so every library with CLIP support can read it. Its alphabet is all bytes, so
other words have tokens too: several for pieces or letters.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from ip2p.errors import DataError
from ip2p.storybook.language import MAX_CAPTION_TOKENS, vocabulary
from ip2p.storybook.words import COMMON

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
POSITIONS = MAX_CAPTION_TOKENS + 2  # of the text encoders: the longest caption with start and end token


def make_tokenizer(folder: Path, positions: int = POSITIONS) -> CLIPTokenizer:
    """Write vocab.json, merges.txt and tokenizer_config.json, with the same bytes each time, and load them.

    Args:
        folder: folder to write to, made if missing.
        positions: positions of the text encoder, including start and end token; longer texts can be truncated.

    Raises:
        DataError: a word of the storybook language is not one token.
    """
    words = sorted({*vocabulary(), *COMMON})
    merges = learn_merges(words)
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *map("".join, merges), START, END]
    settings = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": positions, "bos_token": START, "eos_token": END,
        "unk_token": END, "pad_token": END,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "vocab.json", json.dumps({token: index for index, token in enumerate(tokens)}))
    _write(folder / "merges.txt", "\n".join(["#version: 0.2", *map(" ".join, merges)]))
    _write(folder / "tokenizer_config.json", json.dumps(settings, indent=2))
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    broken = [word for word in words if len(tokenizer(word).input_ids) != 3]
    if broken:
        raise DataError(
            f"the storybook word {broken[0]!r} has {len(tokenizer(broken[0]).input_ids) - 2} tokens, not one",
            "Take words of letters, or single marks, in ip2p/storybook/phrases.py",
        )
    return tokenizer


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Learn the merges of byte-pair encoding until every word is one piece; of equally frequent pairs the first wins.

    The trainer of the tokenizers library breaks ties in the order of a hash table, which differs in every process.

    Args:
        words: words of ASCII letters, or single marks; each counts once.
    """
    pieces = [[*word[:-1], word[-1] + END_OF_WORD] for word in words]
    merges = []
    while counts := Counter(pair for word in pieces for pair in pairwise(word)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        pieces = [list(_merged(word, best)) for word in pieces]
    return merges


def _merged(word: Sequence[str], pair: tuple[str, str]) -> Iterator[str]:
    """Yield the pieces of a word after merging every occurrence of a pair."""
    place = 0
    while place < len(word):
        found = tuple(word[place : place + 2]) == pair
        yield "".join(pair) if found else word[place]
        place += 2 if found else 1


def _write(path: Path, text: str) -> None:
    path.write_text(f"{text}\n", encoding="utf-8")
