"""Rules that edit any English caption: its season, time of day, weather, style and place, and the things in it.

A rule changes one thing that a caption names, or adds something that the picture will show; it never makes a caption
that contradicts itself, such as "a snowy hill in summer". In doubt, there is no edit. Capitalized words within a
sentence are names, and stay; listings of shops have no edits.
"""

import random
import re
from collections.abc import Iterator, Sequence

from ip2p.data_gen.triples.grammar import article
from ip2p.data_gen.triples.proposals import Proposal
from ip2p.data_gen.writers.rules import scenery, visibility
from ip2p.data_gen.writers.rules import vocabulary as words
from ip2p.data_gen.writers.rules.listings import is_listing
from ip2p.data_gen.writers.rules.phrases import Phrase, append, insert, like, phrases, plural, replace
from ip2p.data_gen.writers.rules.scenery import Aspect, Value

MOSTLY_LETTERS = 0.7
EARLY = 45
"""Number of characters within which a caption names its subject."""
LONG = 8
"""Number of words from which a caption gets a comma before an addition."""

_SAID = {
    aspect.kind: [
        (re.compile(rf"\b(?:{value.forms[form]})\b{context}", re.IGNORECASE), form, value)
        for form, context in enumerate(aspect.context)
        for value in aspect.values
        if value.forms[form]
    ]
    for aspect in scenery.ASPECTS
}
_SWAPS = {noun: group for group in words.SWAP_GROUPS for noun in group}
_MASS = {noun: group for group in words.MASS_GROUPS for noun in group}
_TIED = {"wearing": words.WEARABLE, "holding": words.HANDHELD, "carrying": words.HANDHELD}
_LIVING = words.PERSONS | words.ANIMALS
_COLORS = frozenset(words.COLORS) | words.MORE_COLORS
_FACES = {**words.MORE_EXPRESSIONS, **words.EXPRESSIONS}
_END = r"(?=\s*(?:$|[,.;!?]))"
_DOING = re.compile(r" (?!wearing)(?:[a-z]+ing|asleep|at night|at sunset|at sunrise)\b", re.IGNORECASE)
_HAVING = re.compile(r"(?:(?<!ing)(?<!ed)(?<!en)(?<!full)(?<!rid)(?<!hung)(?<!wn)) with $", re.IGNORECASE)
_OWN_PLACE = re.compile(rf" (?:in|on|over|under|around) (?:its|his|her|their) \w+{_END}", re.IGNORECASE)
_OPENING = re.compile(r"(?:.{,40} (?:of|showing) )?", re.IGNORECASE)
_AND_MORE = re.compile(r" and (?=(?:an?|two|three|some|his|her|its) )", re.IGNORECASE)
_MORE = re.compile(r", (?=[^,]+(?:, [^,]+)* and )")
_LIST = re.compile(
    r"(?:(?:^|\b(?:with|of) )(?:[\w'-]+ ){0,2}[\w'-]+)(?:, (?:[\w'-]+ ){0,3}[\w'-]+)*(,) (?:[\w'-]+ ){0,3}[\w'-]+$"
)
_DEFINITE = frozenset("the its his her their".split())
_TOGETHER = words.pattern("both two three between each together are were other pair couple sharing and_her and_his")
_PLACE_END = rf"(?:{_END}|(?= (?:with|at night|at sunset|at dusk|at dawn|during|under|wearing|holding)\b))"
_PLACES = tuple(
    (places, re.compile(rf"(?<=\w )(?:{'|'.join(form for forms in places.values() for form in forms)})\b{_PLACE_END}"))
    for places in (scenery.PLACES, scenery.ROOMS)
)


def english_edits(caption: str, rng: random.Random) -> list[Proposal]:
    """Return all edits of a caption by the rules, each with a random instruction; none of listings or foreign texts."""
    if not _is_english(caption) or is_listing(caption):
        return []
    shouted = caption.isupper()
    text = caption.lower() if shouted else caption
    found = phrases(text)
    proposals = [
        *(proposal for aspect in scenery.ASPECTS for proposal in _aspect_edits(text, aspect, rng)),
        *_style_edits(text, rng),
        *_place_edits(text, found, rng),
        *_color_edits(text, found, rng),
        *_material_edits(text, found, rng),
        *_swap_edits(text, found, rng),
        *_expression_edits(text, found, rng),
        *_add_edits(text, found, rng),
        *_wear_edits(text, found, rng),
        *_remove_edits(text, found, rng),
    ]
    return (
        [proposal._replace(edited_caption=proposal.edited_caption.upper()) for proposal in proposals]
        if shouted
        else proposals
    )


def _is_english(text: str) -> bool:
    """Return whether a text has a word and consists mostly of the letters a to z."""
    seen = [sign for sign in text if not sign.isspace()]
    letters = sum(sign.isascii() and sign.isalpha() for sign in seen)
    return bool(re.search(r"[A-Za-z]{3}", text)) and letters >= MOSTLY_LETTERS * len(seen)


def _is_open_air(caption: str) -> bool:
    """Return whether a caption names an outdoor place, and no indoor one."""
    return bool(scenery.OUTSIDE.search(caption)) and not (
        scenery.INSIDE.search(caption) or scenery.NO_SCENE.search(caption)
    )


def _aspect_edits(caption: str, aspect: Aspect, rng: random.Random) -> Iterator[Proposal]:
    """Yield edits to other values of an aspect, in the grammatical form of the caption's value."""
    said = next(
        ((match, form, value) for shape, form, value in _SAID[aspect.kind] if (match := shape.search(caption))), None
    )
    rest = f"{caption[: said[0].start()]} {caption[said[0].end() :]}" if said else caption
    if aspect.hints.search(rest) or not (said or _is_open_air(caption)):
        return
    for value in aspect.values:
        inverse, edited = "", ""
        if not said and visibility.may_be_added(value.name, caption):
            edited = _with_value(caption, value)
        if said:
            match, form, old = said
            new = value.forms[form].split("|")[0]
            same = visibility.is_same_to_the_eye(value.name, old.name)
            edited = replace(caption, *match.span(), new) if new and not same else ""
            inverse = rng.choice(aspect.instructions).format(scenery.name_said(match.group(), old))
        if edited and not any(one.search(edited) and other.search(edited) for one, other in scenery.CLASHES):
            yield Proposal(rng.choice(aspect.instructions).format(value.name), edited, aspect.kind, inverse=inverse)


def _with_value(caption: str, value: Value) -> str:
    """Add a value to a caption."""
    return append(caption, (", " if "," in caption else " ") + value.forms[0].split("|")[0])


def _style_edits(caption: str, rng: random.Random) -> Iterator[Proposal]:
    """Yield edits to other media: "a photo of ..." becomes "a mosaic of ..."; without a medium, one is appended."""
    opening = scenery.MEDIUM.match(caption)
    if scenery.SAID_MEDIUM.search(caption[opening.end() :] if opening else caption):
        return  # it names a medium somewhere else, or two
    old = re.sub(r"^(?:an?|the) | \w+ $", "", opening.group().lower()) if opening else ""
    for style, instructions in scenery.STYLES.items():
        if any(name[:5] in old for name in style.split()[1:]):
            continue  # the same medium, or nearly
        if (style == visibility.PLAIN_STYLE and not opening) or (
            "window" in style and visibility.names_window(caption)
        ):
            continue
        if opening:
            edited = like(opening.group(), f"{style} of ") + caption[opening.end() :]
        else:
            edited = append(caption, f", as {style}")
        yield Proposal(
            rng.choice(instructions), edited, "style", inverse=f"make it {article(old)} {old}" if old else ""
        )


def _place_edits(caption: str, found: Sequence[Phrase], rng: random.Random) -> Iterator[Proposal]:
    """Yield edits to another place, or that add a place to a caption without one."""
    for places, shape in _PLACES:
        for match in shape.finditer(caption):
            rest = f"{caption[: match.start()]} {caption[match.end() :]}"
            if scenery.PLACE_TIES.search(rest):
                continue
            for name, forms in places.items():
                if match.group() not in forms and name not in match.group():
                    edited = caption[: match.start()] + forms[0] + caption[match.end() :]
                    yield _propose_place(edited, forms[0], match.group(), rng)
    if _is_nowhere(caption, found):
        for forms in scenery.PLACES.values():
            yield _propose_place(append(caption, f" {forms[0]}"), forms[0], "", rng)


def _propose_place(edited: str, new: str, old: str, rng: random.Random) -> Proposal:
    """Make the edit from an old place to a new one, each with its preposition."""
    asked = rng.choice(scenery.PLACE_INSTRUCTIONS)
    inverse = asked.format(old, old.split(" ", 1)[1]) if old else ""
    return Proposal(asked.format(new, new.split(" ", 1)[1]), edited, "place", inverse=inverse)


def _is_nowhere(caption: str, found: Sequence[Phrase]) -> bool:
    """Return whether a caption begins with an animal, a person or a vehicle, and names no place."""
    opening = scenery.MEDIUM.match(caption)
    start = opening.end() if opening else 0
    if not found or found[0].single not in _LIVING | words.VEHICLES or caption[start : found[0].start].strip():
        return False
    after = caption[found[0].end :]
    return len(after.split()) < LONG and not any(
        sign.search(after)
        for sign in (scenery.AT_A_PLACE, scenery.PLACE_TIES, scenery.OUTSIDE, scenery.INSIDE, scenery.NO_SCENE)
    )


def _color_edits(caption: str, found: Sequence[Phrase], rng: random.Random) -> Iterator[Proposal]:
    """Yield edits to another color of each object with one, and edits that add a color."""
    if words.COLORLESS.search(caption):
        return
    for thing in found:
        said = [word for word in thing.adjectives if word in _COLORS]
        listed = re.search(rf"\b(?:{'|'.join(_COLORS)})(?:,| and| or| &) $", caption[: thing.start], re.IGNORECASE)
        if (
            thing.single not in words.COLORABLE
            or len(said) > 1
            or listed
            or not words.PLAIN.isdisjoint(thing.adjectives)
        ):
            continue
        asked = rng.choice(words.COLOR_INSTRUCTIONS)
        for color in words.NATURAL.get(thing.single, words.COLORS):
            if re.search(rf"\b{color.replace('gray', 'gr[ae]y')}s?\b", caption, re.IGNORECASE):
                continue
            if said:
                start, end = _adjective(caption, thing, said[0])
                inverse = asked.format(thing.noun, said[0])
                yield Proposal(
                    asked.format(thing.noun, color), replace(caption, start, end, color), "color", inverse=inverse
                )
            elif thing.single in words.PAINTABLE and color in visibility.VIVID:
                made_of = next((word for word in thing.adjectives if word in words.NOUN_OF_MATERIAL), "")
                place = _adjective(caption, thing, made_of)[0] if made_of else thing.head
                yield Proposal(asked.format(thing.noun, color), insert(caption, place, color), "color")


def _material_edits(caption: str, found: Sequence[Phrase], rng: random.Random) -> Iterator[Proposal]:
    """Yield edits to another material of each object with one, and edits that add a material."""
    for thing in found:
        said = [word for word in thing.adjectives if word in words.NOUN_OF_MATERIAL]
        if (
            thing.single not in words.MATERIALS
            or len(said) > 1
            or "ice" in said
            or visibility.INDOORS.search(caption)
            or words.SAID_MATERIAL.search(caption, thing.head)
        ):
            continue
        asked = rng.choice(words.MATERIAL_INSTRUCTIONS)
        for material in words.MATERIALS[thing.single]:
            colored = material in words.METALS and not _COLORS.isdisjoint(thing.adjectives)
            plain = not said and material in visibility.USUAL_MATERIALS.get(thing.single, ())
            plain = plain or any(visibility.feels_alike(old, material) for old in said)
            if (
                plain
                or colored
                or "rusty" in thing.adjectives
                or re.search(rf"\b{material}(?:es)?\b", caption, re.IGNORECASE)
            ):
                continue
            edited, inverse = insert(caption, thing.head, material), ""
            if said:
                edited = replace(caption, *_adjective(caption, thing, said[0]), material)
                inverse = asked.format(thing.noun, words.NOUN_OF_MATERIAL[said[0]])
            yield Proposal(
                asked.format(thing.noun, words.NOUN_OF_MATERIAL[material]), edited, "material", inverse=inverse
            )


def _adjective(caption: str, thing: Phrase, adjective: str) -> tuple[int, int]:
    """Return start and end of an adjective of a phrase, in characters."""
    start = thing.inner + caption[thing.inner : thing.head].lower().index(adjective)
    return start, start + len(adjective)


def _swap_edits(caption: str, found: Sequence[Phrase], rng: random.Random) -> Iterator[Proposal]:
    """Yield edits to another noun of the same group, for each noun."""
    for thing in found:
        mass = thing.single in _MASS
        if thing.single in words.ANIMALS and visibility.FAMILY.search(caption):
            continue
        if thing.single not in (_MASS if mass else _SWAPS) or not words.NO_SWAP.isdisjoint(thing.adjectives):
            continue
        if (thing.noun == "orange" and not thing.determiner) or (mass and not _COLORS.isdisjoint(thing.adjectives)):
            continue  # the color; and no water is red
        for other in (_MASS if mass else _SWAPS)[thing.single]:
            named = re.search(rf"\b(?:{other}|{plural(other)})\b", caption, re.IGNORECASE)
            if named or visibility.look_alike(thing.single, other):
                continue
            new = plural(other) if thing.many else other
            old, asked = (name if mass or thing.many else f"{article(name)} {name}" for name in (thing.noun, new))
            template = rng.choice(words.SWAP_INSTRUCTIONS)
            edited = replace(caption, thing.head, thing.end, new)
            yield Proposal(template.format(thing.noun, asked), edited, "swap", inverse=template.format(new, old))


def _expression_edits(caption: str, found: Sequence[Phrase], rng: random.Random) -> Iterator[Proposal]:
    """Yield edits to other expressions of the person or couple that a caption is about, whose face can be seen."""
    person = next((each for each in found if each.single in words.PERSONS and each.start < EARLY), None)
    if person is None or not _OPENING.fullmatch(caption, 0, person.start):
        return
    crowd = person.many and person.determiner not in ("two", "three")
    if crowd or visibility.NO_FACE.search(caption) or not visibility.FACELESS.isdisjoint(person.adjectives):
        return
    doing = re.compile(rf" ({'|'.join(_FACES)})(?: at the camera)?{_END}", re.IGNORECASE).match(caption, person.end)
    said = [word for word in person.adjectives if word in _FACES]
    span = doing.span(1) if doing else _adjective(caption, person, said[0]) if said else None
    rest = f"{caption[: span[0]]} {caption[span[1] :]}" if span else caption
    if words.HIDDEN_FACE.search(rest) or len(said) + bool(doing) > 1:
        return
    old = caption[slice(*span)].lower() if span else ""
    for face, verb in words.EXPRESSIONS.items():
        if face == old or (doing and not face.endswith("ing")):
            continue
        template = rng.choice(words.EXPRESSION_INSTRUCTIONS)
        edited = replace(caption, *span, face) if span else insert(caption, person.inner, face)
        inverse = template.format(person.noun, _FACES[old]) if old else ""
        yield Proposal(template.format(person.noun, verb), edited, "expression", inverse=inverse)


def _add_edits(caption: str, found: Sequence[Phrase], rng: random.Random) -> Iterator[Proposal]:
    """Yield edits that add an object to the place in a caption."""
    for addition in words.ADDITIONS:
        where = list(addition.where.finditer(caption))
        if not where or addition.unless.search(caption) or (addition.outside and not _is_open_air(caption)):
            continue
        anchor = where[-1]
        if "{}" in addition.place and not any(each.end == anchor.end() and not each.many for each in found):
            continue
        place = addition.place.format(anchor.group().lower())
        ends = not caption[anchor.end() :].strip(" .!?")
        shown = addition.place.replace("the {}", "it") if ends else place
        for thing in addition.things:
            if re.search(rf"\b(?:{'|'.join(thing.split()[1:])})s?\b", caption, re.IGNORECASE):
                continue  # a second one
            template = rng.choice(words.ADD_INSTRUCTIONS)
            inverse = f"remove the {thing.split(' ', 1)[1]}"
            yield Proposal(template.format(thing, place), _joined(caption, f"{thing} {shown}"), "add", inverse=inverse)


def _joined(caption: str, things: str) -> str:
    """Add objects to a caption."""
    if re.search(r"\bwith\b", caption, re.IGNORECASE):
        return append(caption, f", and {things}")
    return append(caption, f"{',' if ',' in caption or len(caption.split()) > LONG else ''} with {things}")


def _wear_edits(caption: str, found: Sequence[Phrase], rng: random.Random) -> Iterator[Proposal]:
    """Yield edits that give the only person or animal of a caption something to wear."""
    living = [each for each in found if each.single in _LIVING]
    if len(living) != 1 or living[0].many or "," in caption or words.DRESSED.search(caption):
        return
    (wearer,) = living
    if not _OPENING.fullmatch(caption, 0, wearer.start):
        return
    ends = not caption[wearer.end :].strip(" .!?")
    if caption.startswith(" in ", wearer.end):
        return
    for thing in words.WEAR if wearer.single in words.PERSONS else words.WEAR_OF_ANIMALS:
        inverse = f"remove the {thing.removeprefix('a ')}"
        asked = rng.choice(words.WEAR_INSTRUCTIONS).format(thing, wearer.noun)
        edited = f"{caption[: wearer.end]} in {thing}{caption[wearer.end :]}"
        yield Proposal(asked, append(caption, f", wearing {thing}") if ends else edited, "add", inverse=inverse)


def _remove_edits(caption: str, found: Sequence[Phrase], rng: random.Random) -> Iterator[Proposal]:
    """Yield edits that remove an incidental object from a caption."""
    for thing in found:
        if thing.single not in words.REMOVABLE | words.WEARABLE or thing.determiner in _DEFINITE:
            continue
        edited = _without(caption, thing)
        if len(edited.split()) > 2 or (edited and len(thing.bare.split()) <= 2):
            asked = rng.choice(words.REMOVE_INSTRUCTIONS).format(thing.bare)
            yield Proposal(asked, edited, "remove", inverse=f"add {caption[thing.start : thing.end].lower()}")


def _without(caption: str, thing: Phrase) -> str:
    """Remove a phrase and the word before it from a caption; "" if that would break the sentence."""
    before, after = caption[: thing.start], caption[thing.end :]
    ends = bool(re.match(_END, after))
    if _HAVING.search(before):
        own = _OWN_PLACE.match(after)
        if more := _AND_MORE.match(after) or _MORE.match(after):
            return before + after[more.end() :]
        return before[: -len(" with ")] + after[own.end() if own else 0 :] if ends or own or _DOING.match(after) else ""
    if before.endswith(" and ") and ends and not _TOGETHER.search(before + after):
        rest = before[: -len(" and ")].rstrip(",")
        listed = _LIST.search(rest)
        return (f"{rest[: listed.start(1)]} and{rest[listed.end(1) :]}" if listed else rest) + after
    tie = re.search(r" (wearing|holding|carrying|next to|beside) $", before)
    known = tie and thing.single in _TIED.get(tie[1].lower(), words.REMOVABLE)
    stays = ends or (tie and tie[1].endswith("ing") and re.match(r" (?:in|on|at|near|under) ", after))
    return before[: tie.start()] + after if tie and known and stays else ""
