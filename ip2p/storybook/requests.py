"""Phrases of instructions: tables by kind of edit, with phrases held out for evaluation.

A template is an imperative, a question or a wish. `WRAPPERS` make more of every imperative: "could you …?", "please …".
In a template {new} and {old} are the names of the new value and of the one in the scene, {building} is that of the
building, and a slot of a caption ("{season}") is the phrase of the new value.
"""

from ip2p.storybook.phrases import Phrasings

NAMES = {
    "neon": "neon drawing",
    "pixel": "pixel art picture",
    "glass": "stained glass picture",
    "clear": "clear weather",
}
"""Names of values in instructions, if they are not the values themselves."""

WRAPPERS = Phrasings(
    (
        "please {}", "{}, please", "could you {}?", "can you {}?", "i would like you to {}", "i want you to {}",
        "now {}", "{} now", "would you {}?", "just {}", "let us {}", "you should {}", "try to {}",
    ),
    ("could you please {}?", "i would like to {}", "can you now {}?", "please just {}"),
)  # fmt: skip

IMPERATIVES = frozenset(
    "add bring build change clear color cover delete draw erase get give have leave let lose make move paint place put "
    "redraw remove render replace send set show stop swap switch take transform turn".split()
)
"""First words of templates that WRAPPERS are used for."""

_ADD = (
    "add a {new}", "draw a {new}", "there should be a {new}", "give it a {new}", "show it with a {new}",
    "let a {new} appear", "i want a {new} in the picture", "what would it look like with a {new}?", "a {new}, please",
    "with a {new}", "let there be a {new}", "i would like a {new}", "we need a {new}", "place a {new} in the picture",
    "how about a {new}?", "have a {new} in the picture", "i miss a {new}", "i would like to see a {new}",
    "paint a {new} into it",
)  # fmt: skip
_ADD_HELD_OUT = (
    "what if there were a {new}?", "put a {new} in the picture, please", "how would it look with a {new}?",
    "give the picture a {new}", "i want to see a {new}", "the picture should have a {new}",
)  # fmt: skip
_REMOVE = Phrasings(
    (
        "remove the {old}", "take away the {old}", "take the {old} away", "delete the {old}", "erase the {old}",
        "get rid of the {old}", "there should be no {old}", "show it without the {old}", "send the {old} away",
        "what would it look like without the {old}?", "no {old}, please", "let the {old} go", "i want no {old}",
        "no more {old}", "without the {old}", "lose the {old}", "make the {old} go away", "leave out the {old}",
        "make the {old} disappear", "i do not want the {old}", "the {old} should go", "we do not need the {old}",
        "take out the {old}", "clear away the {old}", "the same picture without the {old}", "paint over the {old}",
    ),
    (
        "i want it without the {old}", "what if there were no {old}?", "let the {old} go away",
        "show the {building} without the {old}", "let the {old} disappear", "how would it look without the {old}?",
    ),
)  # fmt: skip
_SWAP = Phrasings(
    (
        "replace the {old} with a {new}", "turn the {old} into a {new}", "swap the {old} for a {new}",
        "change the {old} to a {new}", "make the {old} a {new}", "a {new} instead of the {old}",
        "put a {new} there instead of the {old}", "the {old} should be a {new}", "the {old} becomes a {new}",
        "i want a {new} instead of the {old}", "let the {old} be a {new}", "draw a {new} instead of the {old}",
        "remove the {old} and add a {new}", "change the {old} into a {new}", "transform the {old} into a {new}",
        "switch the {old} with a {new}", "i would like a {new} instead of the {old}", "not a {old} but a {new}",
        "show a {new} where the {old} is", "how about a {new} instead of the {old}?", "make a {new} of the {old}",
        "replace the {old} by a {new}", "there should be a {new} instead of the {old}",
        "it should be a {new}, not a {old}",
    ),
    (
        "what if the {old} were a {new}?", "take away the {old} and put a {new} there",
        "show a {new} instead of the {old}", "a {new} in place of the {old}, please", "swap the {old} with a {new}",
        "what would it look like with a {new} instead of the {old}?", "the {old} should turn into a {new}",
    ),
)  # fmt: skip


def _part(name: str) -> Phrasings:
    """Phrasings that give a part of the building another color."""
    return Phrasings(
        (
            f"paint the {name} {{new}}", f"make the {name} {{new}}", f"turn the {name} {{new}}",
            f"color the {name} {{new}}", f"change the color of the {name} to {{new}}", f"a {{new}} {name}, please",
            f"the {name} should be {{new}}", f"give it a {{new}} {name}", f"give the {{building}} a {{new}} {name}",
            f"change the {name} to {{new}}", f"i want a {{new}} {name}", f"what if the {name} were {{new}}?",
            f"make the {{old}} {name} {{new}}", f"i would like a {{new}} {name}", f"let the {name} be {{new}}",
            f"replace the {{old}} {name} with a {{new}} {name}", f"turn the {{old}} {name} into a {{new}} {name}",
            f"the {name} of the {{building}} should be {{new}}", f"paint the {name} of the {{building}} {{new}}",
            f"a {{new}} {name} instead of the {{old}} {name}", f"show it with a {{new}} {name}",
            f"what would it look like with a {{new}} {name}?", f"how about a {{new}} {name}?",
            f"swap the {{old}} {name} for a {{new}} {name}", f"the {{building}} needs a {{new}} {name}",
        ),
        (
            f"let the {name} of the {{building}} be {{new}}", f"change the {{old}} {name} to {{new}}",
            f"how about it with a {{new}} {name}?", f"there should be a {{new}} {name}", f"put a {{new}} {name} on it",
            f"how would it look with a {{new}} {name}?",
        ),
    )  # fmt: skip


INSTRUCTIONS: dict[str, Phrasings] = {
    "season": Phrasings(
        (
            "make it {new}", "turn it into {new}", "change the season to {new}", "show it {season}",
            "what would it look like {season}?", "it should be {new}", "let it be {new}", "turn {old} into {new}",
            "make the season {new}", "put the {building} {season}", "what if it were {new}?", "i want it {season}",
            "the same {building} {season}", "make it {new} instead of {old}", "{new} is coming", "it is {new} now",
            "i would like it to be {new}", "let {new} begin", "{new}, please", "no more {old}, make it {new}",
            "swap {old} for {new}", "change {old} to {new}", "bring {new}", "{new} instead of {old}",
            "the same picture {season}", "transform it into {new}", "as if it were {new}",
        ),
        (
            "change it to {new}", "replace {old} with {new}", "let {new} come",
            "how would the {building} look {season}?",
            "i would like to see it {season}", "it should be {new}, not {old}",
        ),
    ),
    "time": Phrasings(
        (
            "make it {new}", "turn it into {new}", "change the time to {new}", "show it {time}",
            "what would it look like {time}?", "how would it look {time}?", "it should be {new}", "let it be {new}",
            "turn {old} into {new}", "i want it {time}", "the same {building} {time}", "make it {time}",
            "show the {building} {time}", "it is {new} now", "{new} is coming", "change the time of day to {new}",
            "i would like it {time}", "swap {old} for {new}", "change {old} to {new}", "{new} instead of {old}",
            "the same picture {time}", "make the time {new}", "set it {time}", "no more {old}, make it {new}",
            "as if it were {new}", "what if it were {time}?",
        ),
        (
            "change it to {new}", "what if it were {new}?", "replace {old} with {new}", "let the time be {new}",
            "how would the {building} look {time}?", "it should be {new}, not {old}",
        ),
    ),
    "weather": Phrasings(
        (
            "make it {weather_adjective}", "make the weather {weather_adjective}", "show it {weather}",
            "put it {weather}", "what would it look like {weather}?", "let the {new} come", "bring the {new}",
            "it should be {weather_adjective}", "change the weather to {weather_adjective}", "i want it {weather}",
            "turn it into a {weather_adjective} picture", "let it be {weather_adjective}", "add some {new}",
            "the same {building} {weather}", "the {new} is coming", "it is {weather_adjective} now",
            "let there be {new}", "i would like some {new}", "make it a {weather_adjective} picture",
            "i would like it to be {weather_adjective}",
            "turn the weather {weather_adjective}", "give it {weather_adjective} weather", "the same picture {weather}",
            "the weather should be {weather_adjective}", "what if it were {weather}?", "we need some {new}",
        ),
        (
            "what if it were {weather_adjective}?", "put the {building} {weather}", "show the {building} {weather}",
            "let the weather be {weather_adjective}", "how would it look {weather}?",
            "change it to {weather_adjective}",
        ),
    ),
    "weather_clear": Phrasings(
        (
            "make it clear", "make the weather clear", "show it in clear weather", "stop the {old}", "no more {old}",
            "remove the {old}", "take away the {old}", "get rid of the {old}", "there should be no {old}",
            "let the {old} stop", "what would it look like without the {old}?", "it should be clear", "lose the {old}",
            "change the weather to clear", "turn the {old} into clear weather", "the {old} should stop",
            "let clear weather come", "give it clear weather", "the {old} is over", "let the weather clear up",
            "i want clear weather", "i want no {old}", "without the {old}", "the weather should be clear",
            "make the {old} go away", "clear weather, please",
        ),
        (
            "let the weather be clear", "show it without the {old}", "what would it look like in clear weather?",
            "i would like clear weather", "what if there were no {old}?", "let the {old} go away",
        ),
    ),
    "clouds_none": Phrasings(
        (
            "remove the clouds", "take away the clouds", "get rid of the clouds", "no clouds, please", "no more clouds",
            "there should be no clouds", "a cloudless sky", "make the sky cloudless", "show it without clouds",
            "delete the clouds", "erase all clouds", "i want no clouds", "let the clouds go away", "lose the clouds",
            "show it under a cloudless sky", "what would it look like without clouds?", "clear away the clouds",
            "make all clouds disappear", "turn the sky cloudless", "i would like a cloudless sky", "an empty sky",
            "take every cloud away", "the sky should be cloudless", "leave out the clouds", "without clouds",
        ),
        (
            "what if there were no clouds?", "let the sky be cloudless", "i want it without clouds",
            "the clouds should go", "give it a cloudless sky", "how would it look without clouds?",
        ),
    ),
    "clouds_one": Phrasings(
        (
            "show one cloud", "there should be one cloud", "a single cloud", "make it one cloud", "just one cloud",
            "one cloud in the sky", "put one cloud in the sky", "i want one cloud", "only one cloud, please",
            "leave one cloud", "let there be one cloud", "draw one cloud", "a single cloud in the sky",
            "what would it look like with one cloud?", "have one cloud in the sky", "i would like one cloud",
            "change the clouds to one cloud", "show it under one cloud", "with a single cloud",
            "make the sky have one cloud",
            "the sky should have one cloud", "how about one cloud?", "one lone cloud", "show a single cloud",
        ),
        (
            "let the sky have one cloud", "what if there were one cloud?", "give it one cloud", "i want a single cloud",
            "just a single cloud, please", "how would it look with one cloud?",
        ),
    ),
    "clouds_three": Phrasings(
        (
            "add clouds", "more clouds", "add more clouds", "three clouds", "make it cloudy",
            "put three clouds in the sky",
            "there should be three clouds", "draw three clouds", "i want more clouds", "show it under three clouds",
            "bring some clouds", "let there be clouds", "what would it look like with three clouds?",
            "it should be cloudy",
            "more clouds in the sky", "cover the sky with clouds", "i would like more clouds", "a cloudy sky",
            "make the sky cloudy", "let clouds come", "the sky should have three clouds", "add some clouds to the sky",
            "turn the sky cloudy", "how about more clouds?", "i want three clouds",
        ),
        (
            "what if there were more clouds?", "let the sky be cloudy", "give it three clouds", "let more clouds come",
            "what if it were cloudy?", "how would it look with three clouds?",
        ),
    ),
    "style": Phrasings(
        (
            "make it a {new}", "turn it into a {new}", "change it to a {new}", "make this a {new}", "as a {new}",
            "redraw it as a {new}", "what would it look like as a {new}?", "show it as a {new}", "it should be a {new}",
            "change the style to a {new}", "i want a {new}", "a {new} of the same {building}", "draw it as a {new}",
            "give it the style of a {new}", "make the picture a {new}", "turn the picture into a {new}",
            "i would like a {new}", "as if it were a {new}", "transform it into a {new}", "render it as a {new}",
            "make a {new} of it", "the same picture as a {new}", "in the style of a {new}",
            "draw the {building} as a {new}",
            "paint it as a {new}", "how about a {new}?",
        ),
        (
            "let it be a {new}", "what if it were a {new}?", "turn this into a {new}", "show this as a {new}, please",
            "how would it look as a {new}?", "change the picture to a {new}",
        ),
    ),
    "place": Phrasings(
        (
            "move it to the {new}", "move the {building} to the {new}", "put it {place}", "put the {building} {place}",
            "set it {place}", "what would it look like {place}?", "change the place to the {new}", "show it {place}",
            "replace the {old} with the {new}", "let the {building} stand {place}", "take it to the {new}",
            "it should be {place}", "swap the {old} for the {new}", "the same {building} {place}", "i want it {place}",
            "the {building} should be {place}", "i would like it {place}", "place the {building} {place}",
            "the same picture {place}", "turn the {old} into the {new}", "not the {old} but the {new}",
            "bring it to the {new}", "the {new} instead of the {old}", "make it stand {place}", "to the {new}, please",
        ),
        (
            "take the {building} to the {new}", "what if it were {place}?", "change the {old} to the {new}",
            "show the same {building} {place}", "how would it look {place}?", "bring the {building} to the {new}",
        ),
    ),
    "swap_building": Phrasings(
        (
            *_SWAP.common, "make it a {new}", "put a {new} there instead", "what would it look like with a {new}?",
            "build a {new} instead of the {old}", "it should be a {new}", "show a {new} there",
        ),
        (*_SWAP.held_out, "build a {new} in place of the {old}"),
    ),
    "recolor": Phrasings(
        (
            "paint the {building} {new}", "make the {building} {new}", "turn the {building} {new}",
            "color the {building} {new}", "change the color of the {building} to {new}", "paint it {new}",
            "the {building} should be {new}", "make it a {new} {building}", "give it {new} walls",
            "change the color to {new}", "i want a {new} {building}", "what if the {building} were {new}?",
            "make the {old} {building} {new}", "paint the walls {new}", "make the walls {new}", "{new} walls, please",
            "the walls should be {new}", "turn the {old} walls {new}", "i would like a {new} {building}",
            "change the walls to {new}", "show it with {new} walls", "a {new} {building} instead of a {old} {building}",
            "how about {new} walls?", "replace the {old} walls with {new} walls", "color the walls {new}",
        ),
        (
            "let the {building} be {new}", "change the {old} {building} to {new}", "color it {new}",
            "give the {building} {new} walls", "let the walls be {new}", "what if the walls were {new}?",
        ),
    ),
    "roof": _part("roof"),
    "door": _part("door"),
    "add_animal": Phrasings(
        (
            *_ADD, "put a {new} beside the {building}", "add a {new} next to the {building}", "bring a {new}",
            "let a {new} stand there", "put a {new} near the {building}", "let a {new} come", "add a {new} in front",
            "put a {new} in front of the {building}", "a {new} should stand there", "have a {new} stand in front",
        ),
        (*_ADD_HELD_OUT, "draw a {new} beside the {building}"),
    ),
    "remove_animal": _REMOVE,
    "swap_animal": _SWAP,
    "add_sky": Phrasings(
        (
            *_ADD, "put a {new} in the sky", "add a {new} to the sky", "put a {new} above the {building}",
            "show it under a {new}", "there should be a {new} in the sky", "draw a {new} over the {building}",
            "a {new} in the sky", "let a {new} come", "have a {new} in the sky",
        ),
        (*_ADD_HELD_OUT, "give the sky a {new}"),
    ),
    "remove_sky": _REMOVE,
    "swap_sky": _SWAP,
}  # fmt: skip
"""Instructions by kind of edit, or by kind and value if the value has phrases of its own."""

EXTRAS: dict[str, Phrasings] = {
    "spring": Phrasings(
        ("let the flowers bloom", "let the trees bloom", "make the trees pink with blossoms"), ("let it bloom",)
    ),
    "summer": Phrasings(("make the trees green", "make it warm and green"), ("let it be warm and green",)),
    "autumn": Phrasings(("let the leaves fall", "make the leaves orange", "turn it into fall"), (
    "have the leaves fall",)),
    "winter": Phrasings(
        (
            "let snow fall", "cover it in snow", "have it snow", "make it snowy", "add snow", "make it wintry",
            "cover everything in snow", "let it snow", "a snowy picture",
        ),
        ("make it snow", "put snow on everything"),
    ),
    "day": Phrasings(
        ("show it in daylight", "make it light", "let the sun shine", "make it daytime"), ("let it be light",)
    ),
    "sunset": Phrasings(
        ("let the sun set", "make it evening", "make it dusk", "turn the sky orange"), ("let it be evening",)
    ),
    "night": Phrasings(
        ("let night fall", "make it dark", "let the stars shine", "turn on the lights in the windows"), (
        "let it be dark",)
    ),
    "rain": Phrasings(("let it rain", "make it rain"), ("have it rain",)),
    "fog": Phrasings(("cover it in fog", "add fog", "make it misty"), ("let fog cover it",)),
    "storm": Phrasings(("let a storm come", "bring a storm", "add a thunderstorm"), ("let there be a storm",)),
    "watercolor": Phrasings(("paint it in watercolor", "paint it with watercolors"), ("redraw it in watercolor",)),
    "sketch": Phrasings(("make it a pencil sketch", "draw it in pencil"), ("redraw it in pencil",)),
    "illustration": Phrasings(("make it a storybook illustration", "draw it cleanly again"), ("redraw it cleanly",)),
}  # fmt: skip
"""Further instructions for some values."""
