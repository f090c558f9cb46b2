"""The storybook language: captions of scenes, instructions for edits, and captions edited in place."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator, Mapping
from functools import cache

from ip2p.storybook.phrases import PATTERNS, PLURALS, ROWS, UNSAID, WORDS, Phrasings
from ip2p.storybook.requests import EXTRAS, IMPERATIVES, INSTRUCTIONS, NAMES, WRAPPERS
from ip2p.storybook.scene import ATTRIBUTES, Edit, Scene

MAX_CAPTION_TOKENS = 46
"""Limit of the words and marks of a caption, edited or not: the text encoder has 48 positions, two of them special."""

_SAID_ANYWAY = 0.2  # probability that a caption names a value that it need not
_SYNONYM = 0.3  # probability that a building or an animal gets another of its names
_ADDED, _REPLACED = 5, 3  # most words by which an edit lengthens a caption
_WRAPPED = 0.3  # probability that an imperative gets a "please" or a "could you"
_CARELESS = 0.03  # probability of a typo in an instruction, and of missing articles
_PARTS = ("roof", "door")
_TOKEN = re.compile(r"[a-z]+|[^a-z\s]")


def caption(scene: Scene, rng: random.Random, held_out: bool = False) -> str:
    """Write a caption that names all values of a scene, "clear" and "illustration" only at times and "none" never.

    Args:
        scene: scene with values of any vocabulary.
        rng: source of all randomness.
        held_out: whether to use a sentence that training never sees, possibly with such phrases.
    """
    named = scene.attributes
    for name, value in UNSAID.items():
        if named[name] == value and (value == "none" or rng.random() >= _SAID_ANYWAY):
            named[name] = ""
    room = MAX_CAPTION_TOKENS - (_REPLACED if all(named.values()) else _ADDED)
    while True:
        text = _write_caption(named, rng, held_out)
        if len(_TOKEN.findall(text)) <= room:
            return text


def _write_caption(named: dict[str, str], rng: random.Random, held_out: bool) -> str:
    """Write a sentence of any length for the named values; "" is not named."""
    pattern = rng.choice(PATTERNS.held_out if held_out else PATTERNS.common)
    slots = {}
    for slot in _slots(pattern):
        if slot == "trim":
            slots[slot] = _trim(named)
            continue
        value, rows = named[_attribute(slot)], _rows(slot, held_out)
        slots[slot] = rng.choice(rows).get(value, "") if rows else value
    return _use_synonyms(_tidy(pattern.format(**slots)), named, rng)


def _trim(named: Mapping[str, str]) -> str:
    """The phrase for roof and door of a building, if they are named."""
    parts = [f"a {named[part]} {part}" for part in _PARTS if named[part]]
    return f"with {' and '.join(parts)}" if parts else ""


def _use_synonyms(text: str, named: Mapping[str, str], rng: random.Random) -> str:
    """Replace the name of the building or the animal by another one at times."""
    for name in ("building", "animal"):
        first, *others = WORDS[name].get(named[name], (named[name],))
        if others and rng.random() < _SYNONYM:
            text = _word_pattern(first).sub(rng.choice(others), text)
    return _fix_articles(text)


def parse(text: str) -> dict[str, str]:
    """Parse the attributes that a caption names; empty for a text with words that no storybook caption has.

    An attribute named with two values is left out, and a color counts only directly before the building, the roof or
    the door.

    Args:
        text: any text, in upper or lower case.
    """
    if not _tokens(text) <= _readable():
        return {}
    found = {name: {value for value, _, _ in _mentions(text, name)} for name in ATTRIBUTES}
    return {name: named.pop() for name, named in found.items() if len(named) == 1}


def instruction(edit: Edit, scene: Scene, rng: random.Random, held_out: bool = False, plain: bool = False) -> str:
    """Write an instruction for an edit, at times polite, careless, or with a capital and a full stop.

    Args:
        edit: edit to ask for.
        scene: scene before the edit.
        rng: source of all randomness.
        held_out: whether to use a phrasing that training never sees, without careless errors.
        plain: whether to leave the phrasing as it is in the tables, in lower case.
    """
    text = _write_request(edit, scene, rng, held_out)
    return text if plain else _type_sentence(text, rng, held_out)


def instruction_for_both(first: Edit, second: Edit, scene: Scene, rng: random.Random, held_out: bool = False) -> str:
    """Write an instruction for two edits at once.

    Args:
        first: edit of one attribute.
        second: edit of another attribute.
        scene: scene before both edits.
        rng: source of all randomness.
        held_out: whether to use phrasings that training never sees.
    """
    assert first.attribute != second.attribute, f"both edits change {first.attribute}"
    wishes = []
    for edit in (first, second):
        wish = ""
        while _first_word(wish) not in IMPERATIVES:
            wish = _write_request(edit, scene, rng, held_out, wrapped=False)
        wishes.append(wish)
    joint = rng.choice((" and then ", " and also ") if held_out else (" and ", ", and ", " and "))
    return _type_sentence(joint.join(wishes), rng, held_out)


def with_typo(text: str, rng: random.Random) -> str:
    """Add a typo: one letter of a longer word is swapped with the next, dropped, doubled or replaced."""
    words = [match.span() for match in re.finditer(r"[a-z]{5,}", text)]
    if not words:
        return text
    start, end = rng.choice(words)
    place = rng.randrange(start + 1, end - 1)  # people rarely miss the first letter
    a, b = text[place], text[place + 1]
    wrong = rng.choice((b + a, b, a + a + b, rng.choice(string.ascii_lowercase) + b))
    return text[:place] + wrong + text[place + 2 :]


def unknown_words(text: str) -> list[str]:
    """List the words of a text that no caption and no instruction has, in order; one wrong letter is allowed.

    Args:
        text: any text, such as an instruction that somebody typed.
    """
    known = set(vocabulary())
    return [word for word in _TOKEN.findall(text.lower()) if word.isalpha() and not _is_known(word, known)]


def _is_known(word: str, known: set[str]) -> bool:
    if word in known or len(word) < 5:
        return word in known
    letters = string.ascii_lowercase
    splits = [(word[:k], word[k:]) for k in range(len(word) + 1)]
    near = {a + b[1:] for a, b in splits if b}
    near |= {a + b[1] + b[0] + b[2:] for a, b in splits if len(b) > 1}
    near |= {a + letter + b[1:] for a, b in splits if b for letter in letters}
    near |= {a + letter + b for a, b in splits for letter in letters}
    return bool(near & known)


def _write_request(edit: Edit, scene: Scene, rng: random.Random, held_out: bool, wrapped: bool = True) -> str:
    """Choose a phrasing and fill its slots, in lower case and without a full stop."""
    phrasings = INSTRUCTIONS.get(f"{edit.kind}_{edit.value}") or INSTRUCTIONS[edit.kind]
    extra = EXTRAS.get(edit.value, Phrasings(()))
    template = rng.choice(phrasings.held_out + extra.held_out if held_out else phrasings.common + extra.common)
    names = {
        "building": _choose_name("building", scene.building, rng),
        "new": _choose_name(edit.attribute, edit.value, rng),
        "old": _choose_name(edit.attribute, scene.attributes[edit.attribute], rng),
    }
    for slot in ROWS:
        if _attribute(slot) == edit.attribute:
            names[slot] = rng.choice(_rows(slot)).get(edit.value, "")
    text = template.format(**names)
    plain = _first_word(text) in IMPERATIVES and not text.endswith(("?", "please"))
    if wrapped and plain and rng.random() < _WRAPPED:
        text = rng.choice(WRAPPERS.held_out if held_out else WRAPPERS.common).format(text)
    return _fix_articles(text)


def _choose_name(attribute: str, value: str, rng: random.Random) -> str:
    """The name of a value in an instruction; buildings and animals get another of their names at times."""
    names = WORDS[attribute].get(value, ())
    if attribute in ("building", "animal") and len(names) > 1 and rng.random() < _SYNONYM:
        return rng.choice(names[1:])
    return NAMES.get(value, value)


def _type_sentence(text: str, rng: random.Random, carefully: bool) -> str:
    """Vary a sentence as people type it: with a capital and a full stop, without articles, or with a typo."""
    if not carefully and rng.random() < _CARELESS:
        text = re.sub(r"\b(?:an?|the) (?=\w)", "", text)
    if not carefully and rng.random() < _CARELESS:
        text = with_typo(text, rng)
    if rng.random() < 0.15:
        text = text[0].upper() + text[1:] + ("" if text[-1] in "?." else ".")
    return text


def _first_word(text: str) -> str:
    return text.partition(" ")[0]


def edited_caption(text: str, scene: Scene, edit: Edit) -> str:
    """Edit a caption in place: only the edited attribute changes.

    The phrase for the value is replaced by the same phrase for the new value, or removed if the new value needs no
    naming. A value that the caption does not name is added.

    Args:
        text: caption in the storybook language.
        scene: scene that the caption describes.
        edit: change of one attribute.

    Raises:
        ValueError: the caption does not name the building or the color to change.
    """
    name, new = edit.attribute, edit.value
    old, unsaid = scene.attributes[name], UNSAID.get(name) == new
    for value, start, end in _mentions(text, name):
        if value == old:
            start, end, phrase = _replacement(text, start, end, name, old, new)
            cut = unsaid and name not in _PARTS  # "with a brown roof" reads well, so the word is replaced
            return _tidy(f"{text[:start]} {'' if cut else _match_case(phrase, text[start])} {text[end:]}")
    if name in ("building", "color"):
        raise ValueError(f"the caption {text!r} names no {name} {old!r}; give one that does")
    return text if unsaid else _add_value(text, name, new)


def vocabulary() -> list[str]:
    """Every word and punctuation mark of all captions and instructions, sorted, for a word-level tokenizer."""
    asked = [*INSTRUCTIONS.values(), *EXTRAS.values(), WRAPPERS]
    texts = [_literal(text) for phrasings in asked for text in (*phrasings.common, *phrasings.held_out)]
    joints = "and then also , . ?"
    return sorted(_caption_words() | _tokens(" ".join([*texts, *NAMES.values(), joints])))


def _add_value(text: str, name: str, value: str) -> str:
    """Add a value that the text does not name: a style in front if that reads well, all else at the end."""
    if name == "style" and re.match(r"(an?|the)\b", text, re.IGNORECASE):
        phrase = _rows("style_of")[0][value]
        return _tidy(f"{_match_case(phrase, text[0])} {text[0].lower()}{text[1:]}")
    if name in _PARTS:
        return _add_part(text, name, value)
    phrase = _rows("style_as" if name == "style" else name)[0][value]
    body = text.rstrip(" .")
    comma = "," if re.search("[,:]", body) else ""
    return _tidy(f"{body}{comma} {phrase}{text[len(body) :]}")


def _add_part(text: str, name: str, value: str) -> str:
    """Add a roof or a door of a color, right after the building."""
    _, _, end = next(_mentions(text, "building"))
    before, after = text[:end], text[end:]
    other = re.match(r" with (an? \w+ (?:roof|door)\b)", after)
    if other is None:
        return _tidy(f"{before} with a {value} {name}{after}")
    pair = [f"a {value} {name}", other[1]]
    return _tidy(f"{before} with {' and '.join(pair if name == 'roof' else pair[::-1])}{after[other.end() :]}")


def _replacement(text: str, start: int, end: int, name: str, old: str, new: str) -> tuple[int, int, str]:
    """Span of the phrase around a word for the old value, and the phrase for the new one; single words by default."""
    best = 0, 0, ""
    found, first = text[start:end].lower(), WORDS[name][old][0]
    for row in _all_rows(name):
        as_here = _word_pattern(first).sub(found, row.get(old, ""))  # with the name that this caption has for the value
        for match in _word_pattern(f"{row.get(old, '')}|{as_here}" if row.get(old) else "").finditer(text):
            longer = match.end() - match.start() > best[1] - best[0]
            if longer and match.start() <= start and end <= match.end():
                best = match.start(), match.end(), row.get(new, "")
    if best[1]:
        return best
    if new == UNSAID.get(name) == "none":  # no row fits: cut the small words before it too
        small = re.search(
            r"(?:\b(?:with|and|under|below|next|to|near|beside|a|an|the)\s+)*$", text[:start], re.IGNORECASE
        )
        return (small.start() if small else start), end, ""
    word = WORDS[name][new][0]
    plural = text[start:end].lower() not in WORDS[name][old]
    return start, end, _plural(word) if plural else word


def _mentions(text: str, name: str) -> Iterator[tuple[str, int, int]]:
    """Find the values of an attribute that a text names, with their spans."""
    values, pattern = _readers()[name]
    for match in pattern.finditer(text):
        yield values[match.group().lower()], match.start(), match.end()


@cache
def _readers() -> dict[str, tuple[dict[str, str], re.Pattern[str]]]:
    """Values of each attribute by word, and a pattern that finds the words."""
    readers = {}
    for name, words in WORDS.items():
        values = {word: value for value, synonyms in words.items() for word in synonyms}
        if name in ("building", "animal", "sky"):
            values |= {_plural(word): value for word, value in values.items()}
        readers[name] = values, _word_pattern("|".join(values))
    buildings = "|".join(readers["building"][0])
    for name, things in (("color", buildings), ("roof", "roof"), ("door", "door")):
        colors = readers[name][0]
        readers[name] = colors, re.compile(rf"\b(?:{'|'.join(colors)})(?=\s+(?:{things})\b)", re.IGNORECASE)
    return readers


@cache
def _word_pattern(alternatives: str) -> re.Pattern[str]:
    """Compile a pattern of alternatives (letters, spaces, colons) that match whole words only, never the empty one."""
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)" if alternatives else r"(?!)", re.IGNORECASE)


@cache
def _rows(slot: str, held_out: bool = False) -> list[dict[str, str]]:
    """Phrases by value, a table for each row of a slot; none for the building and its color."""
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
    return frozenset(_tokens(" ".join([*texts, *_spoken(), "a an with and roof door"])))


def _spoken() -> Iterator[str]:
    """All names of buildings, animals and colors in captions."""
    for name in ("building", "animal", "color", *_PARTS):
        for names in WORDS[name].values():
            yield from names


@cache
def _readable() -> frozenset[str]:
    """Words and marks of captions that can be parsed: plurals and other spellings too."""
    return _caption_words().union(["."], *(_tokens(" ".join(values)) for values, _ in _readers().values()))


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


def _match_case(phrase: str, first: str) -> str:
    """Capitalize a phrase if the letter that it replaces is a capital."""
    return phrase[:1].upper() + phrase[1:] if first.isupper() else phrase


def _tidy(text: str) -> str:
    """Fix spaces, adjacent punctuation marks (the strongest stays), marks at the ends, and articles."""
    text = re.sub(r"\s*([,:.])(?:\s*[,:.])*", lambda run: max(run.group(), key=" ,:.".find), text)
    text = re.sub(r"(?<=[,:.])(?=\w)", " ", text)
    return _fix_articles(re.sub(r"\s+", " ", text).strip().lstrip(",:. ").rstrip(",: "))


def _fix_articles(text: str) -> str:
    """Fix articles: "an" before vowels and "a" before all else, which is right for every storybook word."""
    return re.sub(r"\b(a)n?(?= (.))", lambda found: found[1] + "n" * (found[2].lower() in "aeiou"), text, flags=re.I)
