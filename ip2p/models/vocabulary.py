"""The words that a small model has been trained on, so that a request with others is answered by more than a picture.

A model of real pictures has seen every word. The storybook models have seen a few thousand, and draw something for
each of the others, too; so their `ip2p.json` lists the words, and examples of what they can do.
"""

import difflib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ip2p.settings import SETTINGS_FILE

VOCABULARY_KEY = "vocabulary"


@dataclass(frozen=True)
class Vocabulary:
    """The closed vocabulary of a model.

    Args:
        words: all words of the texts that it was trained on, in lower case.
        examples: texts that it can follow.
    """

    words: frozenset[str]
    examples: tuple[str, ...] = ()

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the model was not trained on, each once, in order."""
        return [word for word in dict.fromkeys(split_words(text)) if word not in self.words]

    def describe(self, unknown: Iterable[str]) -> str:
        """Say which words are unknown, with similar ones that are known, or else examples of what the model can do."""
        asked, guesses = [], 0
        for word in unknown:
            near = difflib.get_close_matches(word, sorted(self.words), n=1, cutoff=0.8) if len(word) > 3 else []
            asked.append(f"{word!r} (did you mean {near[0]!r}?)" if near else repr(word))
            guesses += len(near)
        can = f". It can, for example: {', '.join(self.examples)}" if self.examples and guesses < len(asked) else ""
        return f"the word{'s' if len(asked) > 1 else ''} {', '.join(asked)}{can}"

    def add(self, texts: Iterable[str], examples: Iterable[str] = ()) -> "Vocabulary":
        """The vocabulary after a training on further texts, with other examples if given."""
        words = self.words | {word for text in texts for word in split_words(text)}
        return Vocabulary(words, tuple(examples) or self.examples)

    def as_json(self) -> dict[str, Any]:
        """The entry of `ip2p.json`."""
        return {VOCABULARY_KEY: {"words": " ".join(sorted(self.words)), "examples": list(self.examples)}}


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; in any script, and pictures such as emoji too."""
    spaced = "".join(sign if _is_part_of_word(sign) else " " for sign in text.lower().replace("’", "'"))
    return [word.strip("'") for word in spaced.split() if word.strip("'")]


def _is_part_of_word(sign: str) -> bool:
    kind = unicodedata.category(sign)
    return kind[0] in "LMN" or kind == "So" or sign == "'"


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Read the vocabulary of a model folder; None if it is not closed."""
    try:
        entry = json.loads((folder / SETTINGS_FILE).read_text())[VOCABULARY_KEY]
        return Vocabulary(frozenset(entry["words"].split()), tuple(map(str, entry["examples"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
