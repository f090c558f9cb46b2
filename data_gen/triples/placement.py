"""Check by noun phrases whether what was to go has gone, and what was to come stands where it belongs.

The noun phrases of caption and edited caption are compared with those of the instruction. In doubt, an edit passes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ip2p.data_gen.kinds import general_kind
from ip2p.data_gen.triples.slots import NounPhrase, heads, noun_phrases, stands_at
from ip2p.data_gen.triples.wording import (
    GENERIC_KEYS,
    content,
    family,
    has_aspect,
    inflected,
    is_medium,
    related,
    rivals,
    rivals_in,
    words,
)

MAX_LOST = 1
"""Things that an edit may lose without having been asked to: a better phrase may say two things in one."""

PROPERTIES = ("color", "material", "mood")
LOCAL = frozenset({"swap", "add", "remove", "color", "material", "expression"})
"""General kinds of edit that change one thing, and leave all others."""
ROLES = frozenset(
    map(
        inflected,
        "toy robot zombie ghost skeleton baby vampire cyborg plush puppet giant cartoon lego alien monster pirate "
        "ninja statue sculpture party night fire".split(),
    )
)
"""Nouns that stand before others like adjectives: a robot dog is a robot."""
EMPTY = frozenset(
    map(
        inflected,
        "one ones second third other kind sort version style look feel feeling touch bit scene finish coat layer "
        "hint sense air effect texture tone shade".split(),
    )
)
"""Words that name nothing by themselves: "a blue one"."""
SEEN = frozenset(
    map(
        inflected,
        "rainbow moon star flower leaf umbrella lantern blossom cloud puddle lightning snowflake ghost robot baby "
        "child".split(),
    )
)
"""Things whose words also stand for a season, an hour, a weather, a mood or an age."""

MEDIA = frozenset(
    map(
        inflected,
        "photo photograph painting drawing sketch watercolor watercolour illustration cartoon comic mosaic collage "
        "engraving woodcut print poster sculpture statue".split(),
    )
)
"""Names of media that stand for nothing else in captions, as "window" and "line" do."""

_TO = r"(?:with|for|by|to|into)"
_THE = r"(?:the |a |an |his |her |its |their )"
TURNED = re.compile(r"\b(?:turn|change|transform|convert) +(?P<old>.+?) +(?:in)?to +(?P<new>.+)")
OLD_AND_NEW = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b(?:replace|swap|exchange|switch|substitute)(?: out)? +(?P<old>.+?) +{_TO} +(?P<new>.+)",
        TURNED,
        rf"\b(?:make|let) +(?P<old>{_THE}.+?) +(?:be +)?(?P<new>an? .+)",
        r"(?P<new>.+?) +(?:instead|in place) of +(?P<old>.+)",
    )
)
"""Phrasings that name what is to be replaced, and by what."""
GIVEN = re.compile(r"(?:please )?(?:add|give|put|place|hang|insert|draw) +.+")
GIVE = re.compile(
    r"(?:give|get) +(?:the|his|her|their|its) +(?P<owner>[a-z' -]+?) +(?P<thing>(?:a|an|some) .+)"
    r"|(?:put|add|place) +(?P<thing2>.+?) +(?:on|to) +(?:the|his|her|their|its) +(?P<owner2>[a-z' -]+)"
)
"""Phrasings that name a thing and its owner."""
CLEARED = re.compile(r"\bclear (?:up |away )?(?:the )?(fog|mist|haze|smoke|clouds|snow|rain|storm)\b")
STATES = {
    "season": ("winter | snow snowy", "spring", "summer", "autumn fall"),
    "time": (
        "night midnight nighttime nocturnal",
        "daytime daylight noon midday afternoon",
        "sunset dusk twilight evening sundown",
        "sunrise dawn morning",
    ),
    "weather": ("sunny sunshine sunlit", "rain rainy fog foggy storm stormy overcast cloudy thunderstorm"),
}
"""Names of states of a whole picture, which exclude each other; after a bar, what implies a state."""


class _Edit(NamedTuple):
    """An edit, in noun phrases.

    Attributes:
        before: those of the caption.
        after: those of the edited caption.
        asked: those of the instruction.
        said: content words of the instruction.
    """

    before: tuple[NounPhrase, ...]
    after: tuple[NounPhrase, ...]
    asked: tuple[NounPhrase, ...]
    said: tuple[str, ...]


def misplaces(instruction: str, caption: str, edited: str, kind: str) -> bool:
    """Return whether an edit leaves what was to go, puts a thing or property elsewhere, or changes what nobody named.

    Args:
        instruction: instruction, in lower case, with single spaces.
        caption: caption before the edit.
        edited: caption after the edit.
        kind: kind of edit; abstract ones may change whatever they need.
    """
    said = tuple(word for word in content(instruction) if word not in GENERIC_KEYS)
    edit = _Edit(noun_phrases(caption), noun_phrases(edited), noun_phrases(instruction, asked=True), said)
    wrong = (
        _keeps_the_old(instruction, caption, edited)
        or _leaves_a_state(said, caption, edited)
        or _is_at_another_thing(instruction, edit)
        or _is_no_thing(instruction, edit, kind)
        or _has_another_owner(instruction, edit)
        or (general_kind(kind) == "remove" and _leaves_a_rest(edit))
    )
    if wrong or kind == "abstract":
        return wrong
    return (
        _is_missing(instruction, edit)
        or _loses(edit)
        or _repaints(edit)
        or (general_kind(kind) in LOCAL and _exchanges(edit))
    )


def _leaves_a_rest(edit: _Edit) -> bool:
    """Return whether adjectives of a thing that was removed are left over: "a man holding a silver"."""
    before, after = (Counter(_words(phrases)) for phrases in (edit.before, edit.after))
    gone = [phrase for phrase in edit.before if phrase.head in edit.said and not after[phrase.head]]
    return any(after[word] >= before[word] for phrase in gone for word in phrase.words[:-1])


def _words(phrases: Iterable[NounPhrase]) -> Iterator[str]:
    """Yield all words of phrases, and the verbs between them, as keys."""
    for phrase in phrases:
        yield from (inflected(phrase.link.strip(", ")), *phrase.words)


def _keeps_the_old(instruction: str, caption: str, edited: str) -> bool:
    """Return whether a thing that was to be replaced or cleared is as often in the edited caption as before."""
    before, after = Counter(content(caption)), Counter(content(edited))
    for pattern in OLD_AND_NEW:
        if match := pattern.search(instruction):
            old, new = (noun_phrases(match[name], asked=True) for name in ("old", "new"))
            going = old[0].head if old else ""
            comes = [word for phrase in new for word in phrase.words]
            if not going or inflected(words(match["old"])[-1]) != going:
                return False  # "let the woman wear a hat"
            if not new or not _is_thing(new[0].head) or going in comes or not _is_thing(going):
                return False
            if pattern is TURNED and not new[0].determiner and not match["new"].endswith("s"):
                return False  # into a material
            return bool(before[going]) and after[going] >= before[going]
    cleared = CLEARED.search(instruction)
    return cleared is not None and family(inflected(cleared[1])) in {family(word) for word in after if word in before}


def _is_thing(key: str) -> bool:
    """Return whether a key may name a thing, and no property, medium or season."""
    if key in EMPTY or key in GENERIC_KEYS or key in SEEN:
        return key in SEEN
    return not (has_aspect(key, *PROPERTIES, "age", "season", "time", "weather") or is_medium(key))


def _leaves_a_state(said: Iterable[str], caption: str, edited: str) -> bool:
    """Return whether the edited caption has the season, hour or weather asked for and still the old one."""
    before, after, asked = set(content(caption)), set(content(edited)), set(said)
    for groups in STATES.values():
        states = [set(map(inflected, group.partition("|")[0].split())) for group in groups]
        signs = [set(map(inflected, group.replace("|", " ").split())) for group in groups]
        for new in range(len(groups)):
            if states[new] & asked and states[new] & after:
                return any(old & before & after for place, old in enumerate(signs) if place != new)
    return False


def _is_at_another_thing(instruction: str, edit: _Edit) -> bool:
    """Return whether a property that was asked for one thing belongs to another, too: "make the hat blue"."""
    present = {word for phrase in edit.after for word in (*phrase.words, inflected(phrase.link))}
    for value, things in _wishes(edit, predicates=not GIVEN.fullmatch(instruction)):
        there = [thing for thing in things if any(thing in phrase.words for phrase in edit.after)]
        if value in present and there and not any(stands_at(value, thing, edit.after) for thing in there):
            return True
        before, after = (sum(value in each.words for each in phrases) for phrases in (edit.before, edit.after))
        if has_aspect(value, "color") and not before and after > max(len(there), edit.said.count(value)):
            return True
    return False


def _wishes(edit: _Edit, *, predicates: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield properties that an instruction asks for, with the things that may have them.

    Args:
        edit: edit in noun phrases.
        predicates: whether a property may stand apart from its thing, as in "the hat should be blue".
    """
    known = {word for phrase in edit.before for word in phrase.words}
    named = [_thing_of(phrase, known) for phrase in edit.asked if _is_thing(_thing_of(phrase, known))]
    for number, phrase in enumerate(edit.asked):
        wholes = edit.asked[number - 1].words if number and phrase.link == "of" else ()  # the roof of the barn
        if predicates and not phrase.determiner and all(has_aspect(word, *PROPERTIES) for word in phrase.words):
            yield from ((word, named) for word in phrase.words if word not in known)
        for place, word in enumerate(phrase.words):
            earlier = [thing for thing in phrase.words[:place] if thing in known and _is_thing(thing)]
            if earlier and predicates and (has_aspect(word, *PROPERTIES) or (phrase.determiner and word not in known)):
                yield word, [*wholes, *earlier]  # "the hat blue", "the boats new"
            elif word not in known and word != phrase.head and has_aspect(word, *PROPERTIES):
                yield word, [phrase.head]  # "a glass table"


def _thing_of(phrase: NounPhrase, known: set[str]) -> str:
    """Return the last word of a phrase that the caption has as a thing, or its head."""
    return next((word for word in reversed(phrase.words) if word in known and _is_thing(word)), phrase.head)


def _is_no_thing(instruction: str, edit: _Edit, kind: str) -> bool:
    """Return whether a new thing only describes an old one, or the other way round: "a castle cottage"."""
    old = set(heads(edit.before))
    for place, phrase in enumerate(edit.asked):
        new = phrase.head
        kind_of = phrase.link == "of" and place > 0 and edit.asked[place - 1].determiner in ("a", "an", "some")
        if not (phrase.determiner or kind_of) or new in old or any(word in old for word in phrase.words):
            continue
        holding = [each for each in edit.after if new in each.words]
        if is_medium(new) and any(_mixes(new, each, edit.before) for each in [*holding, *_opening(edit.after)]):
            return True
        mood = kind == "abstract" and phrase.link == "of"
        if mood or not _is_thing(new):
            continue
        added = GIVEN.fullmatch(instruction) is not None
        if new in ROLES and not added:
            holding = [each for each in holding if each.head == new]
        if holding and not any(_stands_alone(each, phrase, edit.before, added=added) for each in holding):
            return True
    return False


def _mixes(new: str, phrase: NounPhrase, before: Iterable[NounPhrase]) -> bool:
    """Return whether a new medium stands beside the old one: "an oil painting photograph"."""
    old = {word for each in before for word in each.words if word in MEDIA}
    return any(word in old and rivals_in("medium", new, word) for word in phrase.words)


def _opening(phrases: tuple[NounPhrase, ...]) -> tuple[NounPhrase, ...]:
    """Return the phrase that says the medium of a caption, as in "a photo of"; or nothing."""
    return phrases[:1] if len(phrases) > 1 and phrases[1].link == "of" and phrases[0].head in MEDIA else ()


def _stands_alone(phrase: NounPhrase, wish: NounPhrase, before: Iterable[NounPhrase], *, added: bool) -> bool:
    """Return whether a phrase with a new noun names no old thing, or the noun replaces a word of it that is gone."""
    others = [word for word in phrase.words if word not in wish.words]
    return not any(each.head in others and (added or set(each.words) <= set(phrase.words)) for each in before)


def _has_another_owner(instruction: str, edit: _Edit) -> bool:
    """Return whether a thing was given to another one than the instruction says: "put sunglasses on the dog"."""
    match = GIVE.match(instruction)
    if not match:
        return False
    owner = noun_phrases(match["owner"] or match["owner2"], asked=True)
    thing = noun_phrases(match["thing"] or match["thing2"], asked=True)
    if not owner or not thing or owner[-1].head not in heads(edit.before):
        return False
    for place, phrase in enumerate(edit.after):
        if phrase.head == thing[0].head and place and phrase.link in ("with", "in", "wearing"):
            nearest = edit.after[place - 1]
            later = [word for each in edit.after[place + 1 : place + 3] for word in each.words]
            return owner[-1].head not in (*nearest.words, *later) and nearest.head in heads(edit.before)
    return False


def _is_missing(instruction: str, edit: _Edit) -> bool:
    """Return whether a thing that was to be added is not there."""
    if not GIVEN.fullmatch(instruction):
        return False
    after = {word for phrase in edit.after for word in (*phrase.words, inflected(phrase.link))}
    before = {word for phrase in edit.before for word in phrase.words}
    wanted = [
        [word for word in phrase.words if _is_thing(word)]
        for phrase in edit.asked
        if phrase.determiner not in ("", "the") and phrase.link != "of"
        if phrase.head not in before and _is_thing(phrase.head)
    ]
    return bool(wanted) and not any(_alike(word, other) for new in wanted for word in new for other in after)


def _alike(word: str, other: str) -> bool:
    short, long = sorted((word, other), key=len)
    return related(word, other) or (len(short) > 2 and long.startswith(short))


def _loses(edit: _Edit) -> bool:
    """Return whether more things are lost than were asked for or replaced."""
    gone, came = _gone(edit), _came(edit)
    unasked = [head for head in gone if not _named(head, edit.said)]
    replaced = max(0, len(came) - (len(gone) - len(unasked)))
    return len(unasked) - replaced > MAX_LOST


def _exchanges(edit: _Edit) -> bool:
    """Return whether a thing that nobody spoke of became another one that nobody spoke of."""
    gone = [head for head in _gone(edit) if not _named(head, edit.said)]
    came = [head for head in _came(edit) if not _named(head, edit.said)]
    asked = [head for head in _came(edit) if _named(head, edit.said)]
    return bool(gone and came and (asked or not edit.said))


def _gone(edit: _Edit) -> list[str]:
    """Return the things of the caption that the edited caption does not name in any form, without states and "
    "media."""
    after = {family(word) for phrase in edit.after for word in (*phrase.words, inflected(phrase.link))}
    return [head for head in heads(edit.before) if family(head) not in after and _is_thing(head)]


def _came(edit: _Edit) -> list[str]:
    before = {family(word) for phrase in edit.before for word in (*phrase.words, inflected(phrase.link))}
    return [head for head in heads(edit.after) if family(head) not in before and _is_thing(head)]


def _named(head: str, said: Iterable[str]) -> bool:
    return any(related(head, word) for word in said)


def _repaints(edit: _Edit) -> bool:
    """Return whether a thing has another color or age than before, and nobody asked for this one."""
    often = Counter(phrase.head for phrase in (*edit.before, *edit.after))
    before = {phrase.head: phrase.words for phrase in edit.before if often[phrase.head] == 2}
    for phrase in edit.after:
        for new in phrase.words[:-1]:
            for old in before.get(phrase.head, ()):
                turned = any(rivals_in(aspect, new, old) for aspect in ("color", "age"))
                if turned and old not in phrase.words and not _named(new, edit.said):
                    return not any(rivals(old, word) and not rivals_in("color", old, word) for word in edit.said)
    return False
