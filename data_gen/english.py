"""Rules that edit any English caption: season, time of day, weather, style, colours, and nouns of a kind.

A rule changes one thing that a caption names, or adds what it does not name; it never leaves a caption that speaks
against itself, such as "a snowy hill in summer". Capitals in the middle of a sentence are names, and stay.
"""

import random
import re
from collections.abc import Iterator
from typing import NamedTuple

from ip2p.data_gen.triples import Draft

MOSTLY_LETTERS = 0.7


class Value(NamedTuple):
    """A value of an aspect.

    Args:
        name: as an instruction says it.
        forms: of one meaning, from adverbial to adjective; the same place in another value's forms has the same
            grammar, and "" is a form that the value has not. The first is what a caption gets that says nothing.
        hints: pattern of words that take this value for granted.
    """

    name: str
    forms: tuple[str, ...]
    hints: str = ""


class Aspect(NamedTuple):
    """Something that holds for a whole picture, and how to ask for another value of it."""

    kind: str
    values: tuple[Value, ...]
    instructions: tuple[str, ...]


SEASON = Aspect(
    "season",
    (
        Value("spring", ("in spring", "in the spring", "springtime", "spring"), "blossoms?|blooming"),
        Value("summer", ("in summer", "in the summer", "summertime", "summer"), "sunbath\\w+"),
        Value("autumn", ("in autumn", "in the fall", "", "autumn"), "fallen leaves|falling leaves|pumpkins?|halloween"),
        Value("winter", ("in winter", "in the winter", "wintertime", "winter"), "snow\\w*|ic[ey]\\w*|frozen|christmas"),
    ),
    (
        "make it {}",
        "change the season to {}",
        "turn it into {}",
        "what would it look like in {}?",
        "it should be {}",
        "set it in {}",
        "have it be {}",
    ),
)
TIME = Aspect(
    "time",
    (
        Value("day", ("during the day", "by day", "daytime", ""), "sunny|sunlit|sunlight|sunshine|daylight|noon"),
        Value("night", ("at night", "by night", "nighttime", "night"), "moon\\w*|star(ry|s|lit)|midnight|nocturnal"),
        Value("sunset", ("at sunset", "at dusk", "", "sunset"), "golden hour|evening|twilight"),
        Value("sunrise", ("at sunrise", "at dawn", "", "sunrise"), "morning"),
    ),
    (
        "make it {}",
        "change the time to {}",
        "what if it were {}?",
        "turn it into {}",
        "it should be {}",
        "let it be {}",
    ),
)
WEATHER = Aspect(
    "weather",
    (
        Value("sunny", ("in the sunshine", "on a sunny day", "sunny"), "sunlit|sunlight|blue sky|clear sky"),
        Value("rainy", ("in the rain", "on a rainy day", "rainy"), "umbrellas?|raindrops?|wet street"),
        Value("foggy", ("in the fog", "on a foggy day", "foggy"), "mist\\w*|haz[ey]"),
        Value("stormy", ("in a storm", "on a stormy day", "stormy"), "lightning|thunder\\w*"),
        Value("snowy", ("in the snow", "on a snowy day", "snowy"), "snow-?(covered|capped)|blizzard"),
    ),
    (
        "make it {}",
        "make the weather {}",
        "change the weather to {}",
        "it should be {}",
        "turn it into a {} day",
        "have it be {}",
    ),
)
ASPECTS = (SEASON, TIME, WEATHER)

CLASHES = (
    re.compile(r"(?=.*\b(spring|summer|autumn|the fall)\b)(?=.*\b(snow\w*|blizzard)\b)", re.IGNORECASE),
    re.compile(r"(?=.*\b(night|nighttime|midnight|moonlit)\b)(?=.*\b(sunny|sunshine|sunlit)\b)", re.IGNORECASE),
)
"""What one picture cannot show, between different aspects."""

STYLES = {
    "a watercolor painting": ("make it a watercolor painting", "turn it into a watercolor", "as a watercolor"),
    "an oil painting": ("make it an oil painting", "turn it into an oil painting", "paint it in oil"),
    "a pencil sketch": ("make it a pencil sketch", "turn it into a pencil sketch", "as a pencil drawing"),
    "a mosaic": ("make it a mosaic", "turn it into a mosaic", "lay it as a mosaic"),
    "a comic book illustration": ("make it a comic", "draw it as a comic book", "in the style of a comic book"),
    "a photograph": ("make it a photograph", "turn it into a photo", "as a real photograph"),
    "a stained glass window": ("make it stained glass", "turn it into a stained glass window", "as stained glass"),
    "a woodblock print": ("make it a woodblock print", "turn it into a woodblock print", "as a woodblock print"),
}
MEDIUM = re.compile(
    r"^(?:an? |the )?(?:[\w-]+ ){0,2}?(?:photo(?:graph)?|picture|image|painting|watercolou?r|drawing|sketch"
    r"|illustration|print|mosaic|portrait)s? (?:of|showing) ",
    re.IGNORECASE,
)
SAID_MEDIUM = re.compile(
    r"\b(?:photo\w*|paint\w*|watercolou?r|draw\w*|sketch\w*|illustrat\w*|mosaic|print|comic|glass|canvas)\b", re.I
)

COLORS = ("red", "blue", "green", "yellow", "orange", "purple", "pink", "black", "white", "brown")
COLORED = re.compile(rf"\b({'|'.join(COLORS)}) ([a-z]{{3,}})\b", re.IGNORECASE)
NO_THINGS = frozenset(
    "and with for the that from into over under near photo photos photograph photography background version colored "
    "coloured light lights one ones men man women woman people house wine hair skin".split()
)
COLOR_INSTRUCTIONS = (
    "make the {0} {1}",
    "change the color of the {0} to {1}",
    "turn the {0} {1}",
    "the {0} should be {1}",
    "paint the {0} {1}",
)

GROUPS = (
    "dog cat horse cow sheep goat rabbit fox wolf bear lion tiger elephant deer pig".split(),
    "owl eagle parrot duck swan crow penguin".split(),
    "house castle cottage barn church temple lighthouse windmill cabin tower".split(),
    "car truck bus motorcycle bicycle tractor".split(),
    "boat ship canoe sailboat".split(),
    "rose tulip sunflower daisy lily".split(),
    "apple pear banana lemon strawberry".split(),
    "pizza cake burger salad pie".split(),
    "mountain hill volcano".split(),
    "guitar violin piano trumpet".split(),
)
PLURALS = {"sheep": "sheep", "deer": "deer", "wolf": "wolves"}
NO_SWAP_AFTER = r"(?<!\bhot )(?<!\bpolar )(?<!\bteddy )(?<!\brubber )(?<!\bsea )(?<!\bguinea )"
SWAP_INSTRUCTIONS = (
    "turn the {0} into {1}",
    "replace the {0} with {1}",
    "change the {0} to {1}",
    "swap the {0} for {1}",
    "make the {0} {1}",
)


def english_edits(caption: str, rng: random.Random) -> list[Draft]:
    """All edits that the rules know for a caption, each with an instruction drawn by rng; none if it is not English."""
    if not _is_english(caption):
        return []
    return [
        *(draft for aspect in ASPECTS for draft in _aspect_edits(caption, aspect, rng)),
        *_style_edits(caption, rng),
        *_color_edits(caption, rng),
        *_swap_edits(caption, rng),
    ]


def _is_english(text: str) -> bool:
    """Whether a text has a word and consists mostly of the letters a to z."""
    seen = [sign for sign in text if not sign.isspace()]
    letters = sum(sign.isascii() and sign.isalpha() for sign in seen)
    return bool(re.search(r"[A-Za-z]{3}", text)) and letters >= MOSTLY_LETTERS * len(seen)


def _aspect_edits(caption: str, aspect: Aspect, rng: random.Random) -> Iterator[Draft]:
    """Other values of an aspect, said in the form in which the caption says its own."""
    said = [
        (form, value)
        for form in range(len(aspect.values[0].forms))
        for value in aspect.values
        if value.forms[form] and re.search(rf"\b{value.forms[form]}\b", caption, re.IGNORECASE)
    ]
    for value in aspect.values:
        if any(value is other for _, other in said):
            continue
        if not said:
            edited = _append(caption, f" {value.forms[0]}")
        else:
            form, old = said[0]
            edited = _replace(caption, old.forms[form], value.forms[form]) if value.forms[form] else ""
        others = [other for other in aspect.values if other is not value]
        patterns = [other.hints for other in others] + [form for other in others for form in other.forms]
        # What goes against the new value, such as snow against summer, or a second word for the old one.
        stale = any(pattern and re.search(rf"\b(?:{pattern})\b", edited, re.IGNORECASE) for pattern in patterns)
        if edited and not stale and not any(clash.match(edited) for clash in CLASHES):
            yield Draft(rng.choice(aspect.instructions).format(value.name), edited, aspect.kind)


def _style_edits(caption: str, rng: random.Random) -> Iterator[Draft]:
    """Other media: "a photo of ..." becomes "a mosaic of ..."; a caption that names none gets one at its end."""
    opening = MEDIUM.match(caption)
    if SAID_MEDIUM.search(caption[opening.end() :] if opening else caption):
        return  # it names a medium somewhere else, or two
    for style, instructions in STYLES.items():
        names = [word[:5] for word in style.split()[1:] if word != "painting"]
        if opening and any(name in opening.group().lower() for name in names):
            continue  # the same medium
        if opening:
            edited = _like(opening.group(), f"{style} of ") + caption[opening.end() :]
        else:
            edited = _append(caption, f", as {style}")
        yield Draft(rng.choice(instructions), edited, "style")


def _color_edits(caption: str, rng: random.Random) -> Iterator[Draft]:
    """Another colour for each thing that has one."""
    for match in COLORED.finditer(caption):
        old, thing = match.groups()
        in_a_list = re.search(r"\b(?:and|or|&)\s*$", caption[: match.start()], re.IGNORECASE)
        if (
            thing.lower() in NO_THINGS
            or in_a_list
            or _is_name(caption, match.start())
            or _is_name(caption, match.start(2))
        ):
            continue
        for color in COLORS:
            if color != old.lower():
                edited = _with_article(caption[: match.start()], _like(old, color)) + caption[match.end(1) :]
                yield Draft(rng.choice(COLOR_INSTRUCTIONS).format(thing.lower(), color), edited, "color")


def _swap_edits(caption: str, rng: random.Random) -> Iterator[Draft]:
    """Another noun of the same group for each noun that has one."""
    for group in GROUPS:
        for noun in group:
            for old, many in ((noun, False), (_plural(noun), True)):
                match = re.search(rf"{NO_SWAP_AFTER}\b{old}\b", caption, re.IGNORECASE)
                if not match or _is_name(caption, match.start()) or (many and old == noun):
                    continue
                for other in group:
                    new = _plural(other) if many else other
                    if not re.search(rf"\b(?:{other}|{_plural(other)})\b", caption, re.IGNORECASE):
                        asked = new if many else f"{_article(new)} {new}"
                        yield Draft(
                            rng.choice(SWAP_INSTRUCTIONS).format(old, asked), _replace(caption, old, new), "swap"
                        )


def _replace(caption: str, old: str, new: str) -> str:
    """The caption with every old word new, keeping capitals and mending "a" and "an"."""
    parts, end = "", 0
    for match in re.finditer(rf"\b{re.escape(old)}\b", caption, re.IGNORECASE):
        parts = _with_article(parts + caption[end : match.start()], _like(match.group(), new))
        end = match.end()
    return parts + caption[end:]


def _append(caption: str, words: str) -> str:
    """Words at the end of a caption, before its closing mark."""
    body = caption.rstrip(" .!?")
    return body + words + caption.rstrip()[len(body) :]


def _like(old: str, new: str) -> str:
    """New words with a capital where the old ones have one."""
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def _with_article(before: str, word: str) -> str:
    """A text that goes on with a word, its last "a" or "an" as the word wants it."""
    return re.sub(r"\b([Aa])n?(\s+)$", lambda match: _like(match[1], _article(word)) + match[2], before) + word


def _article(noun: str) -> str:
    return "an" if noun[0].lower() in "aeiou" else "a"


def _plural(noun: str) -> str:
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if re.search(r"[^aeiou]y$", noun) else f"{noun}s"


def _is_name(caption: str, start: int) -> bool:
    """Whether a word has a capital in the middle of a sentence that is not written in capitals throughout."""
    if start == 0 or not caption[start].isupper():
        return False
    initials = [word[0] for word in caption.split() if word[0].isalpha() and len(word) > 3]
    return sum(initial.isupper() for initial in initials) <= len(initials) / 2
