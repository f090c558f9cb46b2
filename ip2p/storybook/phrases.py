"""Phrases of storybook captions: tables of words, slots and sentences; those of instructions are in `requests`.

A row has one phrase for each value of an attribute, in the order of `ATTRIBUTES`, so that an edit of a caption is a
step along a row: "by a lake" becomes "on a beach". Held-out phrases appear in evaluation only; their words all occur
in other phrases too, so that they do not test unknown words.
"""

from typing import NamedTuple


class Phrasings(NamedTuple):
    """Phrasings of one meaning.

    Args:
        common: phrasings for training.
        held_out: phrasings for evaluation only.
    """

    common: tuple[str, ...]
    held_out: tuple[str, ...] = ()


UNSAID = {
    "weather": "clear", "clouds": "one", "roof": "brown", "door": "brown", "animal": "none", "sky": "none",
    "style": "illustration",
}  # fmt: skip
"""Values that a caption need not name; an edit to one of them removes the phrase of the old value."""

# Captions are parsed by these words. The first one is used for a value if no row fits.
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "place": {
        "meadow": ("meadow", "field", "grassland"),
        "lake": ("lake", "pond", "lakeside"),
        "mountains": ("mountains", "mountain", "alps"),
        "beach": ("beach", "sea", "seaside", "shore"),
    },
    "season": {
        "spring": ("spring", "springtime"),
        "summer": ("summer", "summertime"),
        "autumn": ("autumn", "fall"),
        "winter": ("winter", "snow", "wintertime", "snowy", "wintry"),
    },
    "time": {
        "day": ("day", "daylight", "daytime"),
        "sunset": ("sunset", "evening", "dusk", "sundown"),
        "night": ("night", "dark", "nighttime", "midnight"),
    },
    "weather": {
        "clear": ("clear",),
        "rain": ("rain", "rainy", "rains", "raining"),
        "fog": ("fog", "foggy", "mist", "misty"),
        "storm": ("storm", "stormy", "thunderstorm"),
    },
    "clouds": {
        "none": ("cloudless", "without a cloud"),
        "one": ("one cloud", "single cloud", "lone cloud"),
        "three": ("three clouds", "cloudy"),
    },
    "building": {
        "barn": ("barn", "farmhouse"),
        "castle": ("castle", "palace", "fortress"),
        "cottage": ("cottage", "house", "home", "cabin", "hut"),
        "windmill": ("windmill", "mill"),
        "lighthouse": ("lighthouse", "beacon"),
        "church": ("church", "chapel"),
        "temple": ("temple", "shrine"),
        "pagoda": ("pagoda",),
    },
    "color": {name: (name,) for name in ("red", "blue", "yellow", "white", "green")},
    "roof": {"brown": ("brown",), "red": ("red",), "blue": ("blue",), "gray": ("gray", "grey")},
    "door": {"brown": ("brown",), "red": ("red",), "blue": ("blue",)},
    "animal": {
        "sheep": ("sheep", "lamb"),
        "cow": ("cow",),
        "fox": ("fox",),
        "rabbit": ("rabbit", "bunny", "hare"),
        "cat": ("cat", "kitty", "kitten"),
        "dog": ("dog", "puppy"),
        "horse": ("horse", "pony"),
    },
    "sky": {"balloon": ("balloon",), "rainbow": ("rainbow",), "bird": ("bird", "seagull")},
    "style": {
        "illustration": ("illustration",),
        "watercolor": ("watercolor", "watercolour"),
        "sketch": ("sketch",),
        "poster": ("poster",),
        "mosaic": ("mosaic",),
        "neon": ("neon",),
        "pixel": ("pixel",),
        "glass": ("glass",),
    },
}
PLURALS = {
    "sheep": "sheep", "fox": "foxes", "bunny": "bunnies", "kitty": "kitties", "puppy": "puppies", "pony": "ponies",
    "church": "churches", "fortress": "fortresses",
}  # fmt: skip
"""Irregular plurals."""


def _animals(phrase: str) -> str:
    """Make a row of animals: the phrase with each animal's name, and empty for none."""
    return " | ".join(["", *(phrase.format(names[0]) for names in WORDS["animal"].values())])


# Slots of the patterns below. A slot's name starts with its attribute's; the rest says where its rows fit.
ROWS: dict[str, Phrasings] = {
    "place": Phrasings(
        (
            "in a meadow | by a lake | in the mountains | on a beach",
            "in the meadow | by the lake | below the mountains | on the beach",
            "in a field | at a lake | among mountains | by the sea",
            "in the grassland | by a pond | in the alps | at the seaside",
            "in a meadow | at the lakeside | near a mountain | on the shore",
        ),
        ("on the meadow | at the lake | by the mountains | at the beach",),
    ),
    "season": Phrasings(
        (
            "in spring | in summer | in autumn | in winter",
            "in the spring | in the summer | in the autumn | in the winter",
            "in spring | in summer | in autumn | in the snow",
            "in springtime | in summertime | in the fall | in wintertime",
        ),
        ("in spring weather | in summer weather | in autumn weather | in winter weather",),
    ),
    "season_noun": Phrasings(("spring | summer | autumn | winter", "spring | summer | fall | snowy winter")),
    "time": Phrasings(
        (
            "by day | at sunset | at night",
            "during the day | in the evening | during the night",
            "in daylight | at dusk | in the dark",
            "in the daytime | at sundown | at nighttime",
        ),
        ("in the day | during sunset | in the night",),
    ),
    "time_noun": Phrasings(("day | evening | night", "day | sunset | night")),
    "weather": Phrasings(
        (
            "in clear weather | in the rain | in the fog | in a storm",
            "in clear weather | in rain | in fog | in the storm",
            "in clear weather | in rainy weather | in foggy weather | in stormy weather",
            "under a clear sky | under a rainy sky | in thick fog | under a stormy sky",
            "in clear weather | while it rains | in the mist | in a thunderstorm",
        ),
        ("in the clear weather | in the rainy weather | in the thick fog | in the stormy weather",),
    ),
    "weather_adjective": Phrasings(("clear | rainy | foggy | stormy",)),
    "animal": Phrasings(
        (
            _animals("with a {}"),
            _animals("with a {} beside it"),
            _animals("next to a {}"),
            _animals("and a {} nearby"),
            _animals("and in front of it a {}"),
        ),
        (_animals("with a {} next to it"),),
    ),
    "animal_and": Phrasings((_animals("and a {}"),)),
    "animal_lead": Phrasings(
        (_animals("a {} beside"), _animals("a {} and"), _animals("a {} near"), _animals("a {} in front of")),
        (_animals("a {} next to"),),
    ),
    "clouds": Phrasings(
        (
            "under a cloudless sky | under one cloud | under three clouds",
            "with a cloudless sky | with one cloud | with three clouds",
            "without a cloud in the sky | with a single cloud in the sky | with three clouds in the sky",
        ),
        ("below a cloudless sky | below one cloud | below three clouds",),
    ),
    "sky": Phrasings(
        (
            "| under a balloon | under a rainbow | under a flying bird",
            "| with a balloon in the sky | with a rainbow in the sky | with a bird in the sky",
            "| with a balloon above it | with a rainbow above it | with a bird above it",
            "| with a balloon in the sky | with a rainbow in the sky | with a seagull in the sky",
            "| under a hot air balloon | under a rainbow | under a flying bird",
        ),
        ("| below a balloon | below a rainbow | below a bird",),
    ),
    "sky_lead": Phrasings(
        (
            "| a balloon over | a rainbow over | a bird over",
            "| a hot air balloon above | a rainbow above | a bird above",
        ),
        ("| a balloon in the sky above | a rainbow in the sky above | a bird in the sky above",),
    ),
    "style_of": Phrasings(
        (
            "an illustration of | a watercolor of | a sketch of | a poster of | a mosaic of | a neon picture of"
            " | a pixel art picture of | a stained glass picture of",
            "an illustration of | a watercolor picture of | a pencil sketch of | a poster of | a mosaic of"
            " | a neon drawing of | a pixel art drawing of | a stained glass window of",
        ),
    ),
    "style_as": Phrasings(
        (
            "as an illustration | as a watercolor | as a sketch | as a poster | as a mosaic | as a neon drawing"
            " | as pixel art | as stained glass",
            "drawn as an illustration | painted in watercolor | drawn as a pencil sketch | printed as a poster"
            " | laid as a mosaic | drawn in neon | drawn in pixel art | made of stained glass",
        ),
        (
            "made as an illustration | in watercolor | as a pencil sketch | made as a poster | made as a mosaic"
            " | in neon | in pixel art | in stained glass",
        ),
    ),
    "style_name": Phrasings(
        ("illustration: | watercolor: | sketch: | poster: | mosaic: | neon drawing: | pixel art: | stained glass:",)
    ),
}

# Empty slots vanish together with the commas around them; {trim} names roof and door.
PATTERNS = Phrasings(
    (
        "{style_of} a {color} {building} {trim} {place} {season} {time}, {weather}, {animal}, {sky}, {clouds}",
        "{style_of} a {color} {building} {trim} {place} on a {weather_adjective} {season_noun} {time_noun},"
        " {animal}, {sky}, {clouds}",
        "{style_of} {animal_lead} a {color} {building} {trim} {place} {season}, {time} {weather}, {sky}, {clouds}",
        "{style_of} {sky_lead} a {color} {building} {trim} {place} {time} {season}, {animal} {weather}, {clouds}",
        "{style_of} a {weather_adjective} {season_noun} {time_noun} {place}: a {color} {building} {trim},"
        " {animal}, {sky}, {clouds}",
        "{style_name} a {color} {building} {trim} {place}, {season_noun}, {time_noun}, {animal}, {weather},"
        " {sky}, {clouds}",
        "{season_noun} {place}: a {color} {building} {trim} {animal_and} {time}, {weather}, {sky}, {clouds},"
        " {style_as}",
        "a {weather_adjective} {season_noun} {time_noun} {place}, and a {color} {building} {trim} {animal},"
        " {sky}, {clouds}, {style_as}",
        "{time} {season}, a {color} {building} {trim} {place}, {animal} {weather}, {sky}, {clouds}, {style_as}",
        "{place} {season} stands a {color} {building} {trim} {animal}, {time} {weather}, {sky}, {clouds}, {style_as}",
        "{sky}, a {color} {building} {trim} {animal_and} {place} {season} {time} {weather}, {clouds}, {style_as}",
        "{weather}, {time} {season}: {animal_lead} a {color} {building} {trim} {place}, {sky}, {clouds}, {style_as}",
        "there is a {color} {building} {trim} {place} {time} {season}, {animal} {weather}, {sky}, {clouds}, {style_as}",
        "the {color} {building} {trim} {place} {season} {weather} {time}, {animal}, {sky}, {clouds}, {style_as}",
    ),
    (
        "{weather}, {place} {season}, {animal_lead} a {color} {building} {trim} {time}, {sky}, {clouds}, {style_as}",
        "{style_of} a {season_noun} {time_noun} {place}, {weather}: {animal_lead} the {color} {building}"
        " {trim}, {sky}, {clouds}",
        "{time} {place} there is a {color} {building} {trim} {animal_and} {season}, {weather}, {sky},"
        " {clouds}, {style_as}",
        "{style_of} {sky_lead} the {color} {building} {trim} {animal_and} on a {weather_adjective}"
        " {season_noun} {time_noun} {place}, {clouds}",
    ),
)
