"""Noun phrases of a text, cut out by its function words.

No grammar is parsed. A phrase ends before a function word, a mark, or a verb, and its last word is its head: "a man in
a red hat riding a bicycle" has the heads man, hat and bicycle. All words are keys, see `wording.inflected`.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from ip2p.data_gen.triples.wording import GENERIC, STOP, has_aspect, inflected, related

TOKEN = re.compile(r"[^\W_]+|[,.;:!?()]")

DETERMINERS = frozenset(
    "a an the some two three four five six seven several many his her its their another one".split()
)
OBJECTS = frozenset("it him them this that up down off away out".split())
"""Words that may follow the verb of an order, besides a determiner."""
NOUNS_IN_ING = frozenset(
    "king ring spring string wing swing thing evening morning building painting drawing wedding ceiling lightning "
    "clothing railing awning frosting icing earring stocking duckling sterling sapling darling herring pudding "
    "living dining fishing sailing viking crossing clearing lighting dumpling landing sibling bedding paving".split()
)
BETWEEN = frozenset(
    "is are was were stands sits lies runs walks sleeps looks plays jumps flies rests hangs leans shows holds wears "
    "painted made lit seen built drawn covered filled surrounded dressed decorated turned parked shot taken worn "
    "hung carved wear hold carry ride eat drink nearby without off away no not set left asleep alone awake beneath "
    "underneath beyond past amid atop alongside throughout within like via despite because until".split()
)
"""Verbs and prepositions between two phrases that `wording.STOP` does not have."""


class NounPhrase(NamedTuple):
    """A noun phrase.

    Attributes:
        determiner: its determiner in lower case, or "".
        words: its words as keys; the last one is the head.
        link: the word that ties it to what stands before, such as "with", "of" or "riding", or a mark, or both
            (", wearing"); "" at the beginning.
    """

    determiner: str
    words: tuple[str, ...]
    link: str

    @property
    def head(self) -> str:
        """The noun."""
        return self.words[-1]


@lru_cache(maxsize=64)
def noun_phrases(text: str, *, asked: bool = False) -> tuple[NounPhrase, ...]:
    """Cut a text into its noun phrases; cached, since every check uses them.

    Args:
        text: caption or instruction.
        asked: whether it is an instruction, whose verbs ("make", "add") are no part of a phrase.
    """
    tokens = TOKEN.findall(text.lower())
    found: list[NounPhrase] = []
    words: list[str] = []
    determiner = link = ""
    for place, word in enumerate(tokens):
        after = tokens[place + 1] if place + 1 < len(tokens) else "."
        opening = asked and place == 0 and (after in DETERMINERS or after in OBJECTS)
        if not (opening or _ends_phrase(word, after, words, asked)):
            words.append(word)
            continue
        if words:
            found.append(NounPhrase(determiner, tuple(map(inflected, words)), link))
            words, determiner, link = [], "", ""
        if word in DETERMINERS:
            determiner = word
        else:
            determiner, link = "", f", {word}" if link == "," else word
    if words:
        found.append(NounPhrase(determiner, tuple(map(inflected, words)), link))
    return tuple(found)


def _ends_phrase(word: str, after: str, words: list[str], asked: bool) -> bool:
    """Return whether a token stands between two phrases."""
    if (
        word in STOP
        or word in BETWEEN
        or word in DETERMINERS
        or (word == "full" and after == "of")
        or not word[0].isalnum()
        or (asked and word in GENERIC)
    ):
        return True
    if not words:
        return False
    if after in DETERMINERS and word.endswith("ing"):
        return True
    closed = after in STOP or after in BETWEEN or not after[0].isalnum()
    if word.endswith("ing") and len(word) > 4 and word not in NOUNS_IN_ING:
        return closed or not is_adjective(words[-1])
    return word.endswith("ed") and len(word) > 4 and closed


def is_adjective(word: str) -> bool:
    """Return whether a word is an adjective, as far as its form or the tables tell."""
    key = inflected(word)
    return has_aspect(key, "color", "material", "age", "mood") or bool(
        re.search(r"(?:ful|ish|less|ous|ed|ny|sty|ly|gy)$", word)
        or word in "small big large tiny huge giant little tall long short wide round dark bright deep pale".split()
    )


def heads(phrases: Iterable[NounPhrase]) -> list[str]:
    """Return the heads of phrases, each once."""
    return list(dict.fromkeys(phrase.head for phrase in phrases))


def stands_at(value: str, thing: str, phrases: tuple[NounPhrase, ...]) -> bool:
    """Return whether a value belongs to a thing: "blue hat", "hat of blue wool", "hat painted blue", "man, smiling".

    Args:
        value: key of a color, material or another property that the text names.
        thing: key of a noun.
        phrases: noun phrases of the text.
    """
    for place, phrase in enumerate(phrases):
        owner = phrases[place - 1].words if place else ()
        made = value == phrase.head or has_aspect(phrase.head, "material") or has_aspect(value, "mood")
        ties = (phrase.link in ("of", "in", "from", "out", "with") and made) or phrase.link in BETWEEN
        if _has(phrase.words, value) and (_has(phrase.words, thing) or (ties and _has(owner, thing))):
            return True
        loose = phrase.words == (value,) and phrase.link.startswith(",")
        if (loose or related(inflected(phrase.link.strip(", ")), value)) and (
            _has(owner, thing) or _has(phrases[0].words, thing)
        ):
            return True
    return False


def _has(words: Iterable[str], key: str) -> bool:
    return any(related(word, key) for word in words)
