"""Phrases of the storybook language: tables only, of the words, captions and instructions that `language` speaks.

A row has one phrase for each value of an attribute, in the order of `ATTRIBUTES`, so that an edit of a caption is a
step along a row: "by a lake" becomes "on a beach". What is held out appears in evaluation only, and is made of words
that the rest uses too, so that it asks for understanding and not for words never seen.
"""

from typing import NamedTuple


class Phrasings(NamedTuple):
    """Ways to say something.

    Args:
        common: for training.
        held_out: for evaluation alone.
    """

    common: tuple[str, ...]
    held_out: tuple[str, ...] = ()


UNSAID = {"weather": "clear", "animal": "none", "sky": "none", "style": "illustration"}
"""Values that a caption need not name; an edit to one of them cuts what was named."""

# By these a caption is read. The first one stands for a value where no row fits.
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "place": {
        "meadow": ("meadow", "field"),
        "lake": ("lake",),
        "mountains": ("mountains", "mountain"),
        "beach": ("beach", "sea"),
    },
    "season": {"spring": ("spring",), "summer": ("summer",), "autumn": ("autumn",), "winter": ("winter", "snow")},
    "time": {"day": ("day", "daylight"), "sunset": ("sunset", "evening", "dusk"), "night": ("night", "dark")},
    "weather": {
        "clear": ("clear",),
        "rain": ("rain", "rainy"),
        "fog": ("fog", "foggy"),
        "storm": ("storm", "stormy"),
    },
    "building": {name: (name,) for name in ("barn", "castle", "cottage", "windmill", "lighthouse", "pagoda")},
    "color": {name: (name,) for name in ("red", "blue", "yellow", "white", "green")},
    "animal": {name: (name,) for name in ("sheep", "cow", "fox", "rabbit")},
    "sky": {name: (name,) for name in ("balloon", "rainbow", "bird")},
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
PLURALS = {"sheep": "sheep", "fox": "foxes"}
"""Those that do not end in a mere s."""

# Slots of the patterns below. A slot's name begins with its attribute's; what follows tells where its rows fit.
ROWS: dict[str, Phrasings] = {
    "place": Phrasings(
        (
            "in a meadow | by a lake | in the mountains | on a beach",
            "in the meadow | by the lake | below the mountains | on the beach",
            "in a field | at a lake | among mountains | by the sea",
        ),
        ("on the meadow | at the lake | by the mountains | at the beach",),
    ),
    "season": Phrasings(
        (
            "in spring | in summer | in autumn | in winter",
            "in the spring | in the summer | in the autumn | in the winter",
            "in spring | in summer | in autumn | in the snow",
        ),
        ("in spring weather | in summer weather | in autumn weather | in winter weather",),
    ),
    "season_noun": Phrasings(("spring | summer | autumn | winter",)),
    "time": Phrasings(
        (
            "by day | at sunset | at night",
            "during the day | in the evening | during the night",
            "in daylight | at dusk | in the dark",
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
        ),
        ("in the clear weather | in the rainy weather | in the thick fog | in the stormy weather",),
    ),
    "weather_adjective": Phrasings(("clear | rainy | foggy | stormy",)),
    "animal": Phrasings(
        (
            "| with a sheep | with a cow | with a fox | with a rabbit",
            "| with a sheep beside it | with a cow beside it | with a fox beside it | with a rabbit beside it",
            "| next to a sheep | next to a cow | next to a fox | next to a rabbit",
        ),
        ("| with a sheep next to it | with a cow next to it | with a fox next to it | with a rabbit next to it",),
    ),
    "animal_and": Phrasings(("| and a sheep | and a cow | and a fox | and a rabbit",)),
    "animal_lead": Phrasings(
        (
            "| a sheep beside | a cow beside | a fox beside | a rabbit beside",
            "| a sheep and | a cow and | a fox and | a rabbit and",
            "| a sheep near | a cow near | a fox near | a rabbit near",
        ),
        ("| a sheep next to | a cow next to | a fox next to | a rabbit next to",),
    ),
    "sky": Phrasings(
        (
            "| under a balloon | under a rainbow | under a flying bird",
            "| with a balloon in the sky | with a rainbow in the sky | with a bird in the sky",
            "| with a balloon above it | with a rainbow above it | with a bird above it",
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

# Empty slots vanish together with the commas around them.
PATTERNS = Phrasings(
    (
        "{style_of} a {color} {building} {place} {season} {time}, {weather}, {animal}, {sky}",
        "{style_of} a {color} {building} {place} on a {weather_adjective} {season_noun} {time_noun}, {animal}, {sky}",
        "{style_of} {animal_lead} a {color} {building} {place} {season}, {time} {weather}, {sky}",
        "{style_of} {sky_lead} a {color} {building} {place} {time} {season}, {animal} {weather}",
        "{style_of} a {weather_adjective} {season_noun} {time_noun} {place}: a {color} {building}, {animal}, {sky}",
        "{style_name} a {color} {building} {place}, {season_noun}, {time_noun}, {animal}, {weather}, {sky}",
        "{season_noun} {place}: a {color} {building} {animal_and} {time}, {weather}, {sky}, {style_as}",
        "a {weather_adjective} {season_noun} {time_noun} {place}, and a {color} {building} {animal}, {sky}, {style_as}",
        "{time} {season}, a {color} {building} {place}, {animal} {weather}, {sky}, {style_as}",
        "{place} {season} stands a {color} {building} {animal}, {time} {weather}, {sky}, {style_as}",
        "{sky}, a {color} {building} {animal_and} {place} {season} {time} {weather}, {style_as}",
        "{weather}, {time} {season}: {animal_lead} a {color} {building} {place}, {sky}, {style_as}",
        "there is a {color} {building} {place} {time} {season}, {animal} {weather}, {sky}, {style_as}",
        "the {color} {building} {place} {season} {weather} {time}, {animal}, {sky}, {style_as}",
    ),
    (
        "{weather}, {place} {season}, {animal_lead} a {color} {building} {time}, {sky}, {style_as}",
        "{style_of} a {season_noun} {time_noun} {place}, {weather}: {animal_lead} the {color} {building}, {sky}",
        "{time} {place} there is a {color} {building} {animal_and} {season}, {weather}, {sky}, {style_as}",
        "{style_of} {sky_lead} the {color} {building} {animal_and} on a {weather_adjective} {season_noun} {time_noun}"
        " {place}",
    ),
)

# {new} and {old}: names of the value asked for and of the one in the scene; slots of ROWS: first row, value asked for.
NAMES = {
    "neon": "neon drawing",
    "pixel": "pixel art picture",
    "glass": "stained glass picture",
    "clear": "clear weather",
}
"""What instructions call a value, where that is not the value itself."""

_ADD = (
    "add a {new}", "draw a {new}", "there should be a {new}", "give it a {new}", "show it with a {new}",
    "let a {new} appear", "i want a {new} in the picture", "what would it look like with a {new}?",
)  # fmt: skip
_ADD_HELD_OUT = ("let there be a {new}", "what if there were a {new}?", "put a {new} in the picture, please")
_REMOVE = Phrasings(
    (
        "remove the {old}", "take away the {old}", "take the {old} away", "delete the {old}", "erase the {old}",
        "get rid of the {old}", "there should be no {old}", "show it without the {old}", "send the {old} away",
        "what would it look like without the {old}?", "no {old}, please", "let the {old} go", "i want no {old}",
    ),
    ("i want it without the {old}", "what if there were no {old}?", "let the {old} go away",
        "show the {building} without the {old}",
   ),
)  # fmt: skip
_SWAP = Phrasings(
    (
        "replace the {old} with a {new}", "turn the {old} into a {new}", "swap the {old} for a {new}",
        "change the {old} to a {new}", "make the {old} a {new}", "a {new} instead of the {old}",
        "put a {new} there instead of the {old}", "the {old} should be a {new}", "the {old} becomes a {new}",
        "i want a {new} instead of the {old}", "let the {old} be a {new}", "draw a {new} instead of the {old}",
        "remove the {old} and add a {new}",
    ),
    (
        "what if the {old} were a {new}?", "take away the {old} and put a {new} there",
        "show a {new} instead of the {old}", "a {new} in place of the {old}, please",
    ),
)  # fmt: skip

INSTRUCTIONS: dict[str, Phrasings] = {
    "season": Phrasings(
        (
            "make it {new}", "turn it into {new}", "change the season to {new}", "show it {season}",
            "what would it look like {season}?", "it should be {new}", "let it be {new}", "turn {old} into {new}",
            "make the season {new}", "put the {building} {season}", "what if it were {new}?", "i want it {season}",
            "the same {building} {season}", "make it {new} instead of {old}",
        ),
        ("change it to {new}", "replace {old} with {new}", "let {new} come", "how would the {building} look {season}?"),
    ),
    "time": Phrasings(
        (
            "make it {new}", "turn it into {new}", "change the time to {new}", "show it {time}",
            "what would it look like {time}?", "how would it look {time}?", "it should be {new}", "let it be {new}",
            "turn {old} into {new}", "i want it {time}", "the same {building} {time}", "make it {new}, please",
            "show the {building} {time}",
        ),
        ("change it to {new}", "what if it were {new}?", "replace {old} with {new}", "it should be {new}, please"),
    ),
    "weather": Phrasings(
        (
            "make it {weather_adjective}", "make the weather {weather_adjective}", "show it {weather}",
            "put it {weather}", "what would it look like {weather}?", "let the {new} come", "bring the {new}",
            "it should be {weather_adjective}", "change the weather to {weather_adjective}", "i want it {weather}",
            "turn it into a {weather_adjective} picture", "let it be {weather_adjective}",
            "the same {building} {weather}",
        ),
        (
            "what if it were {weather_adjective}?", "put the {building} {weather}",
            "let the weather be {weather_adjective}", "make it {weather_adjective}, please",
        ),
    ),
    "clear": Phrasings(
        (
            "make it clear", "make the weather clear", "clear the sky", "show it in clear weather", "stop the {old}",
            "remove the {old}", "take away the {old}", "get rid of the {old}", "there should be no {old}",
            "let the {old} stop", "what would it look like without the {old}?", "it should be clear",
            "change the weather to clear", "turn the {old} into clear weather",
        ),
        ("let the weather be clear", "show it without the {old}", "what would it look like in clear weather?"),
    ),
    "style": Phrasings(
        (
            "make it a {new}", "turn it into a {new}", "change it to a {new}", "make this a {new}", "as a {new}",
            "redraw it as a {new}", "what would it look like as a {new}?", "show it as a {new}", "it should be a {new}",
            "change the style to a {new}", "i want a {new}", "a {new} of the same {building}", "draw it as a {new}",
        ),
        ("let it be a {new}", "what if it were a {new}?", "turn this into a {new}", "show this as a {new}, please"),
    ),
    "place": Phrasings(
        (
            "move it to the {new}", "move the {building} to the {new}", "put it {place}", "put the {building} {place}",
            "set it {place}", "what would it look like {place}?", "change the place to the {new}", "show it {place}",
            "replace the {old} with the {new}", "let the {building} stand {place}", "take it to the {new}",
            "it should be {place}", "swap the {old} for the {new}",
        ),
        (
            "take the {building} to the {new}", "what if it were {place}?", "change the {old} to the {new}",
            "show the same {building} {place}",
        ),
    ),
    "swap_building": Phrasings(
        (
            *_SWAP.common, "make it a {new}", "put a {new} there instead", "what would it look like with a {new}?",
            "build a {new} instead of the {old}",
        ),
        (*_SWAP.held_out, "build a {new} in place of the {old}"),
    ),
    "recolor": Phrasings(
        (
            "paint the {building} {new}", "make the {building} {new}", "turn the {building} {new}",
            "color the {building} {new}", "change the color of the {building} to {new}", "paint it {new}",
            "the {building} should be {new}", "make it a {new} {building}", "give it {new} walls",
            "change the color to {new}", "i want a {new} {building}", "what if the {building} were {new}?",
            "make the {old} {building} {new}",
        ),
        (
            "let the {building} be {new}", "change the {old} {building} to {new}", "color it {new}",
            "give the {building} {new} walls",
        ),
    ),
    "add_animal": Phrasings(
        (
            *_ADD, "put a {new} beside the {building}", "add a {new} next to the {building}", "bring a {new}",
            "let a {new} stand there", "put a {new} near the {building}", "let a {new} come",
        ),
        (*_ADD_HELD_OUT, "draw a {new} beside the {building}"),
    ),
    "remove_animal": _REMOVE,
    "swap_animal": _SWAP,
    "add_sky": Phrasings(
        (
            *_ADD, "put a {new} in the sky", "add a {new} to the sky", "put a {new} above the {building}",
            "show it under a {new}", "there should be a {new} in the sky", "draw a {new} over the {building}",
        ),
        (*_ADD_HELD_OUT, "give the sky a {new}"),
    ),
    "remove_sky": _REMOVE,
    "swap_sky": _SWAP,
}  # fmt: skip
"""By kind of edit; "clear" is a kind of its own here, since it takes weather away."""

EXTRAS: dict[str, Phrasings] = {
    "spring": Phrasings(("let the flowers bloom",), ("let it bloom",)),
    "autumn": Phrasings(("let the leaves fall",), ("have the leaves fall",)),
    "winter": Phrasings(("let snow fall", "cover it in snow", "have it snow"), ("make it snow",)),
    "day": Phrasings(("show it in daylight", "make it light"), ("let it be light",)),
    "sunset": Phrasings(("let the sun set", "make it evening"), ("let it be evening",)),
    "night": Phrasings(("let night fall", "make it dark"), ("let it be dark",)),
    "rain": Phrasings(("let it rain", "make it rain"), ("have it rain",)),
    "fog": Phrasings(("cover it in fog", "add fog"), ("let fog cover it",)),
    "storm": Phrasings(("let a storm come", "bring a storm"), ("let there be a storm",)),
    "watercolor": Phrasings(("paint it in watercolor",), ("redraw it in watercolor",)),
    "sketch": Phrasings(("make it a pencil sketch", "draw it in pencil"), ("redraw it in pencil",)),
}
"""More, for some values asked for."""
