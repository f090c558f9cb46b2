"""English words for the checks: content words, forms of one word, and words with similar meanings.

The lists are small and coarse. They do not have to be right for every word, but to tell, for most captions, whether an
edit is the one that its instruction says, without a language model.
"""

import re
from functools import lru_cache

WORD = re.compile(r"[^\W_]+")

STOP = frozenset(
    "a an the this that these those some any each every all both such same own other another its it is are was were be "
    "been being has have had do does did i me my mine we us our you your he him his she her hers they them their "
    "who whose which what there here and or but nor so as if than then of in on at by to from into onto for with about "
    "over under above below behind beside between among near next along across through around against toward towards "
    "upon inside outside within front before after during while up down out very just also too s t".split()
)
"""Words that no picture depends on. "no", "not", "off" and "without" are none of them."""

GENERIC = frozenset(
    "make turn change let put give show set bring take move replace swap switch transform convert add remove have "
    "place get keep use create want need should would could can will might must may look see feel seem become appear "
    "please picture image scene version instead like more less bit much lot little everything something somebody "
    "thing plain everyday way kind style mood color colour time weather season back ordinary normal usual today go "
    "come away off again no not without whole how when where why one ones it's let's render edit now what".split()
)
"""Words of instructions that say how to ask and not what for."""

# Groups of words with similar meanings, by aspect of a picture. Two groups of one aspect are rivals.
ASPECTS: dict[str, tuple[str, ...]] = {
    "season": (
        "winter wintry snow ice icy frost freeze christmas cold",
        "spring springtime blossom bloom flower bud green",
        "summer summertime sun warm hot green",
        "autumn fall leaf harvest golden",
    ),
    "time": (
        "day daytime daylight noon midday sun light bright afternoon",
        "night nighttime midnight moon moonlit moonlight star dark neon lantern",
        "sunset sundown dusk evening twilight golden hour sun",
        "sunrise dawn morning sun",
    ),
    "weather": (
        "rain wet umbrella puddle drizzle",
        "fog mist haze",
        "storm thunder thunderstorm thundercloud lightning hurricane rough wave wind dark cloud",
        "clear sun sunshine sunlit cloudless blue bright calm",
        "snow snowfall snowflake blizzard winter",
        "cloud overcast grey gray",
        "rainbow rain",
    ),
    "medium": (
        "photo photograph photography real realistic",
        "paint painting oil canvas watercolor watercolour impressionist acrylic",
        "draw drawing sketch pencil charcoal crayon ink line",
        "cartoon comic manga anime animation illustration",
        "pixel pixelated retro game",
        "glass stained window",
        "sculpture statue carve bronze marble",
        "paper origami fold",
        "wool knit yarn",
        "mosaic tile",
        "print woodcut poster engraving blueprint collage",
    ),
    "color": (
        "red crimson scarlet", "blue navy azure", "green emerald mint", "yellow mustard", "orange", "purple violet",
        "pink", "black", "white", "brown", "grey gray silver", "gold golden", "teal turquoise", "blond blonde",
        "colorful rainbow",
    ),
    "material": (
        "wood timber bamboo", "stone marble granite", "metal steel iron chrome copper tin bronze", "gold golden",
        "silver", "glass crystal", "ice freeze", "brick clay", "porcelain ceramic", "leather", "silk denim wool",
        "plastic rubber", "straw thatch", "paper cardboard",
    ),
    "mood": (
        "smile laugh grin happy cheer joy glad",
        "sad cry weep tear frown unhappy",
        "angry anger furious rage glare mad",
        "calm peaceful serene quiet gentle",
        "sleep asleep awake tired",
        "serious stern proud",
        "surprise astonish shock",
        "scare scary fear spooky haunted ghost horror creepy",
        "lonely alone deserted empty",
    ),
    "place": (
        "meadow field grass pasture", "lake pond", "mountain hill peak", "beach sea coast shore ocean",
        "city town street", "forest wood jungle tree",
    ),
    "building": (
        "barn farmhouse", "castle palace fortress", "cottage house home cabin hut lodge", "windmill mill",
        "lighthouse beacon", "church chapel", "temple shrine",
    ),
    "animal": (
        "sheep lamb", "cow calf bull", "rabbit bunny hare", "cat kitty kitten", "dog puppy hound", "horse pony foal",
        "bird seagull",
    ),
    "age": (
        "future futuristic modern robot cyberpunk",
        "old vintage retro ancient antique medieval middle",
        "young baby child",
        "ruin abandon destroy overgrow break",
    ),
}  # fmt: skip

THINGS = frozenset({"building", "animal"})
"""Aspects whose words name things: another one is no rival, since a dog is not what ends a cat."""

IRREGULAR = {
    form: word
    for word, forms in {
        "man": "men", "woman": "women", "child": "children", "leaf": "leaves", "wolf": "wolves", "foot": "feet",
        "tooth": "teeth toothy", "mouse": "mice", "goose": "geese", "person": "people", "freeze": "frozen froze",
        "fall": "fallen fell", "break": "broken", "wear": "worn", "build": "built", "die": "dying dead", "lie": "lying",
        "light": "lit", "real": "really", "mist": "misty", "ice": "icy", "knife": "knives", "scary": "scared",
    }.items()
    for form in forms.split()
}  # fmt: skip


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without marks; "snow-covered" is two, "dog's" is "dog" and "s"."""
    return WORD.findall(text.lower())


@lru_cache(maxsize=64)
def content(text: str) -> tuple[str, ...]:
    """Return the content words of a text, each as a key from `inflected`; cached, since every check uses them."""
    return tuple(inflected(word) for word in words(text) if word not in STOP)


@lru_cache(maxsize=1 << 16)
def inflected(word: str) -> str:
    """Return one key for all forms of a word: "smile", "smiles", "smiled", "smiling"; also for plurals."""
    if word in IRREGULAR:
        word = IRREGULAR[word]
    elif len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and re.search(r"(?:ss|x|ch|sh|zz)es$", word):
        word = word[:-2]
    elif len(word) > 3 and re.search(r"[^sui]s$", word):
        word = word[:-1]
    stem = word.removesuffix("ing").removesuffix("ed")
    if 3 <= len(stem) < len(word) and re.search("[aeiouy]", stem):
        word = _undoubled(stem)
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


@lru_cache(maxsize=1 << 16)
def family(key: str) -> str:
    """Return one key for related words: "snow" and "snowy", "wood" and "wooden", "cheer" and "cheerful".

    Args:
        key: key from `inflected`.
    """
    stem = re.sub(r"(?<=...)(?:fully|ful|ily|ly|ish|y|en)$", "", key)
    return _undoubled(stem) if stem != key else key


@lru_cache(maxsize=1 << 16)
def related(one: str, other: str) -> bool:
    """Return whether two keys have one family, are long words with one beginning, or are in one group of ASPECTS."""
    a, b = family(one), family(other)
    return a == b or _one_beginning(a, b) or bool(_places(a) & _places(b))


@lru_cache(maxsize=1 << 16)
def rivals(one: str, other: str) -> bool:
    """Return whether two keys are different values of one aspect: "snow" and "summer", "red" and "blue"."""
    aspects = [{aspect for aspect, _ in _places(family(key))} for key in (one, other)]
    return bool(aspects[0] & aspects[1] - THINGS)


def has_aspect(key: str, *aspects: str) -> bool:
    """Return whether a key is a value of one of some aspects: "blue" of "color"."""
    return any(aspect in aspects for aspect, _ in _places(family(key)))


def rivals_in(aspect: str, one: str, other: str) -> bool:
    """Return whether two keys are different values of this aspect, and share none of its groups."""
    groups = [{number for name, number in _places(family(key)) if name == aspect} for key in (one, other)]
    return all(groups) and not groups[0] & groups[1]


def is_medium(key: str) -> bool:
    """Return whether a key names a medium, such as "sketch"."""
    return has_aspect(key, "medium")


def _undoubled(stem: str) -> str:
    """Undouble the last letter of a stem, as in "fogg" of "foggy"."""
    return re.sub(r"([bdgmnprt])\1$", r"\1", stem)


def _one_beginning(a: str, b: str) -> bool:
    """Return whether two words share five letters and differ little after them: "luxury" and "luxurious"."""
    short, long = sorted((a, b), key=len)
    shared = next((place for place, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), len(short))
    return (shared >= 5 or (shared == len(short) >= 4)) and len(long) - shared <= 4


GENERIC_KEYS = frozenset(inflected(word) for word in GENERIC) - {"can"}
"""GENERIC as `inflected` gives it, without the key of "cane"."""


@lru_cache(maxsize=1 << 14)
def _places(key: str) -> frozenset[tuple[str, int]]:
    """Return the groups of ASPECTS that a family is in."""
    return _table().get(key, frozenset())


@lru_cache(maxsize=1)
def _table() -> dict[str, frozenset[tuple[str, int]]]:
    places: dict[str, frozenset[tuple[str, int]]] = {}
    for aspect, groups in ASPECTS.items():
        for number, group in enumerate(groups):
            for word in group.split():
                key = family(inflected(word))
                places[key] = places.get(key, frozenset()) | {(aspect, number)}
    return places
