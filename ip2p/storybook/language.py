"""The storybook language: captions of scenes, instructions for edits, and captions edited in place."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from ip2p.storybook.phrases import (
    EXTRAS,
    INSTRUCTIONS,
    NAMES,
    PATTERNS,
    PLURALS,
    ROWS,
    UNSAID,
    WORDS,
    Phrasings,
)  # fmt: skip
from ip2p.storybook.scene import ATTRIBUTES, Scene

if TYPE_CHECKING:
    from ip2p.storybook.edits import Edit

LONGEST = 28
"""Words and marks of a caption, edited or not, at most: the text encoder has 30 places, two for tokens of its own."""

_SAID_ANYWAY = 0.25  # how often a caption names a value that it need not
_ADDED, _REPLACED = 5, 2  # words by which an edit lengthens a caption at most
_TOKEN = re.compile(r"[a-z]+|[^a-z\s]")


def caption(scene: Scene, rng: random.Random, held_out: bool = False) -> str:
    """A caption that names all that the scene has, though "clear" and "illustration" only at times and "none" never.

    Args:
        scene: with values of any vocabulary.
        rng: source of all randomness.
        held_out: True takes a sentence that training never sees, and may take such phrases.
    """
    named = scene.attributes
    for name, value in UNSAID.items():
        if named[name] == value and (value == "none" or rng.random() >= _SAID_ANYWAY):
            named[name] = ""
    room = LONGEST - (_REPLACED if all(named.values()) else _ADDED)
    while True:
        text = _drawn(named, rng, held_out)
        if len(_TOKEN.findall(text)) <= room:
            return text


def _drawn(named: dict[str, str], rng: random.Random, held_out: bool) -> str:
    """A sentence for the values named ("" goes unsaid), however long."""
    pattern = rng.choice(PATTERNS.held_out if held_out else PATTERNS.common)
    slots = {}
    for slot in _slots(pattern):
        value, rows = named[_attribute(slot)], _rows(slot, held_out)
        slots[slot] = rng.choice(rows).get(value, "") if rows else value
    return _tidy(pattern.format(**slots))


def parse(text: str) -> dict[str, str]:
    """Attributes that a caption names; nothing of a text with words that no storybook caption has.

    An attribute named twice is left out, and a colour counts directly before the building only.

    Args:
        text: any, in upper or lower case.
    """
    if not _tokens(text) <= _readable():
        return {}
    found = {name: list(_mentions(text, name)) for name in ATTRIBUTES}
    return {name: mentions[0][0] for name, mentions in found.items() if len(mentions) == 1}


def instruction(edit: Edit, scene: Scene, rng: random.Random, held_out: bool = False) -> str:
    """A sentence that asks for an edit.

    Args:
        edit: what to ask for.
        scene: before the edit.
        rng: source of all randomness.
        held_out: True takes one of the phrasings that training never sees, False one of the others.
    """
    asked = INSTRUCTIONS["clear" if edit.value == "clear" else edit.kind]
    extra = EXTRAS.get(edit.value, Phrasings(()))
    template = rng.choice(asked.held_out + extra.held_out if held_out else asked.common + extra.common)
    old = scene.attributes[edit.attribute]
    fills = {"building": scene.building, "new": NAMES.get(edit.value, edit.value), "old": NAMES.get(old, old)}
    for slot in ROWS:
        if _attribute(slot) == edit.attribute:
            fills[slot] = _rows(slot)[0].get(edit.value, "")
    return _with_articles(template.format(**fills))


def edited_caption(text: str, scene: Scene, edit: Edit) -> str:
    """The caption with the edited attribute changed, and not a word more.

    A phrase for the value gives way to the same phrase for the new value, or is cut where the new value goes unsaid. A
    value that the caption does not name is added.

    Args:
        text: a caption in the storybook language.
        scene: that the caption describes.
        edit: what changes.

    Raises:
        ValueError: the caption does not name the building or the colour that shall change.
    """
    name, new = edit.attribute, edit.value
    old, unsaid = scene.attributes[name], UNSAID.get(name) == new
    for value, start, end in _mentions(text, name):
        if value == old:
            start, end, phrase = _replacement(text, start, end, name, old, new)
            return _tidy(f"{text[:start]} {'' if unsaid else _cased(phrase, text[start])} {text[end:]}")
    if name in ("building", "color"):
        raise ValueError(f"the caption {text!r} names no {name} {old!r}; give one that does")
    return text if unsaid else _added(text, name, new)


def vocabulary() -> list[str]:
    """Every word and punctuation mark of all captions and instructions, sorted; for a tokenizer of words."""
    asked = [*INSTRUCTIONS.values(), *EXTRAS.values()]
    texts = [_literal(text) for phrasings in asked for text in (*phrasings.common, *phrasings.held_out)]
    return sorted(_caption_words() | _tokens(" ".join([*texts, *NAMES.values()])))


def _added(text: str, name: str, value: str) -> str:
    """The text with a value named that it did not name: a style in front where that reads well, all else at the end."""
    if name == "style" and re.match(r"(an?|the)\b", text, re.IGNORECASE):
        phrase = _rows("style_of")[0][value]
        return _tidy(f"{_cased(phrase, text[0])} {text[0].lower()}{text[1:]}")
    phrase = _rows("style_as" if name == "style" else name)[0][value]
    body = text.rstrip(" .")
    comma = "," if re.search("[,:]", body) else ""
    return _tidy(f"{body}{comma} {phrase}{text[len(body) :]}")


def _replacement(text: str, start: int, end: int, name: str, old: str, new: str) -> tuple[int, int, str]:
    """Span of the phrase around a word for the old value, and the phrase for the new one; by default of words alone."""
    best = 0, 0, ""
    for row in _all_rows(name):
        for match in _whole(row.get(old, "")).finditer(text):
            longer = match.end() - match.start() > best[1] - best[0]
            if longer and match.start() <= start and end <= match.end():
                best = match.start(), match.end(), row.get(new, "")
    if best[1]:
        return best
    if new == "none":  # no row fits: cut the small words before it too
        small = re.search(
            r"(?:\b(?:with|and|under|below|next|to|near|beside|a|an|the)\s+)*$", text[:start], re.IGNORECASE
        )
        return (small.start() if small else start), end, ""
    word = WORDS[name][new][0]
    plural = text[start:end].lower() not in WORDS[name][old]
    return start, end, _plural(word) if plural else word


def _mentions(text: str, name: str) -> Iterator[tuple[str, int, int]]:
    """Values of an attribute that a text names, with their spans."""
    values, pattern = _readers()[name]
    for match in pattern.finditer(text):
        yield values[match.group().lower()], match.start(), match.end()


@cache
def _readers() -> dict[str, tuple[dict[str, str], re.Pattern[str]]]:
    """For each attribute the value of each word, and a pattern that finds the words."""
    readers = {}
    for name, words in WORDS.items():
        values = {word: value for value, synonyms in words.items() for word in synonyms}
        if name in ("building", "animal", "sky"):
            values |= {_plural(word): value for word, value in values.items()}
        readers[name] = values, _whole("|".join(values))
    buildings = "|".join(readers["building"][0])
    colors = readers["color"][0]
    readers["color"] = colors, re.compile(rf"\b(?:{'|'.join(colors)})(?=\s+(?:{buildings})\b)", re.IGNORECASE)
    return readers


@cache
def _whole(alternatives: str) -> re.Pattern[str]:
    """Finds alternatives (letters, spaces, colons) that neither begin nor end inside a word; never the empty one."""
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)" if alternatives else r"(?!)", re.IGNORECASE)


@cache
def _rows(slot: str, held_out: bool = False) -> list[dict[str, str]]:
    """Phrases by value, a table for each row of a slot; none for the building and its colour."""
    phrasings = ROWS.get(slot, Phrasings(()))
    rows = phrasings.common + (phrasings.held_out if held_out else ())
    values = ATTRIBUTES[_attribute(slot)]
    return [dict(zip(values, (phrase.strip() for phrase in row.split("|")), strict=False)) for row in rows]


@cache
def _all_rows(name: str) -> list[dict[str, str]]:
    """Rows of all slots of an attribute."""
    return [row for slot in ROWS if _attribute(slot) == name for row in _rows(slot, True)]


@cache
def _caption_words() -> frozenset[str]:
    """Words and marks of all captions."""
    texts = [_literal(pattern) for pattern in (*PATTERNS.common, *PATTERNS.held_out)]
    texts += [phrase for slot in ROWS for row in _rows(slot, True) for phrase in row.values()]
    return frozenset(_tokens(" ".join([*texts, *WORDS["building"], *WORDS["color"], "a an"])))


@cache
def _readable() -> frozenset[str]:
    """Words and marks that a caption may have to be read: plurals and other spellings too."""
    return _caption_words().union(["."], *(values for values, _ in _readers().values()))


def _attribute(slot: str) -> str:
    return slot.partition("_")[0]


def _slots(template: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(template) if field]


def _literal(template: str) -> str:
    return " ".join(text for text, _, _, _ in string.Formatter().parse(template))


def _tokens(text: str) -> set[str]:
    return set(_TOKEN.findall(text.lower()))


def _plural(word: str) -> str:
    return PLURALS.get(word, f"{word}s")


def _cased(phrase: str, first: str) -> str:
    """The phrase, with a capital where the letter that it replaces was one."""
    return phrase[:1].upper() + phrase[1:] if first.isupper() else phrase


def _tidy(text: str) -> str:
    """One space between words, the strongest mark where marks have met, none at the ends, and a or an as it should."""
    text = re.sub(r"\s*([,:.])(?:\s*[,:.])*", lambda run: max(run.group(), key=" ,:.".find), text)
    text = re.sub(r"(?<=[,:.])(?=\w)", " ", text)
    return _with_articles(re.sub(r"\s+", " ", text).strip().lstrip(",:. ").rstrip(",: "))


def _with_articles(text: str) -> str:
    """The text with "an" before vowels and "a" before all else, which is right for every word that storybook has."""
    return re.sub(r"\b(a)n?(?= (.))", lambda found: found[1] + "n" * (found[2].lower() in "aeiou"), text, flags=re.I)
