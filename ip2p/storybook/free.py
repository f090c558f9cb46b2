"""Sixty instructions as people type them, written before any template, for evaluation only."""

from __future__ import annotations

import random
from typing import NamedTuple

from ip2p.seeding import derive_seed
from ip2p.storybook.edits import Case, edit_to
from ip2p.storybook.language import caption, edited_caption
from ip2p.storybook.scene import Scene, sample_scene


class Wish(NamedTuple):
    """An instruction and the change that it asks for.

    Args:
        text: instruction as typed.
        attribute: attribute to change.
        value: new value.
        needs: attributes, by name, that a scene must have for the instruction to make sense.
    """

    text: str
    attribute: str
    value: str
    needs: dict[str, str] = {}


FREE: tuple[Wish, ...] = (
    Wish("its snowing now", "season", "winter"),
    Wish("everything is covered with thick white snow", "season", "winter"),
    Wish("can we have a winter version of this picture", "season", "winter"),
    Wish("autumn colours everywhere!", "season", "autumn", {"season": "summer"}),
    Wish("the trees should have orange leaves", "season", "autumn", {"place": "lake", "season": "spring"}),
    Wish("lovely spring with flowers in the grass", "season", "spring", {"place": "meadow"}),
    Wish("a hot summer, green trees", "season", "summer", {"season": "winter", "place": "lake"}),
    Wish("get me out of the cold, i prefer summer", "season", "summer", {"season": "winter"}),
    Wish("night time", "time", "night"),
    Wish("it got late, the moon is out and there are stars", "time", "night", {"time": "day"}),
    Wish("middle of the night", "time", "night"),
    Wish("golden evening light with the sun going down", "time", "sunset", {"time": "day"}),
    Wish("sunset mood", "time", "sunset"),
    Wish("bright daylight instead of darkness", "time", "day", {"time": "night"}),
    Wish("good morning, the sun is up", "time", "day", {"time": "night", "weather": "clear"}),
    Wish("pouring rain", "weather", "rain"),
    Wish("such a rainy day", "weather", "rain", {"time": "day"}),
    Wish("heavy fog rolling in", "weather", "fog"),
    Wish("you can hardly see anything because of the mist", "weather", "fog"),
    Wish("the rain has stopped at last", "weather", "clear", {"weather": "rain"}),
    Wish("i do not like this fog, clear it up", "weather", "clear", {"weather": "fog"}),
    Wish("not a single cloud up there", "clouds", "none", {"clouds": "three"}),
    Wish("clouds gone", "clouds", "none", {"clouds": "one"}),
    Wish("i would love to see a few more clouds", "clouds", "three", {"clouds": "none"}),
    Wish("could it be a church instead?", "building", "church"),
    Wish("a castle would be so much nicer", "building", "castle"),
    Wish("knock down the barn and build a lighthouse", "building", "lighthouse", {"building": "barn"}),
    Wish("i would rather live in a cottage", "building", "cottage"),
    Wish("this should be a mill with big sails", "building", "windmill"),
    Wish("an old greek temple in its place", "building", "temple"),
    Wish("paint the walls blue pls", "color", "blue"),
    Wish("red walls would look great", "color", "red"),
    Wish("give the whole house a coat of white paint", "color", "white", {"building": "cottage"}),
    Wish("yellow suits it better", "color", "yellow"),
    Wish("new roof in blue", "roof", "blue"),
    Wish("the roof tiles are red", "roof", "red"),
    Wish("make that roof grey, like slate", "roof", "gray"),
    Wish("blue front door", "door", "blue"),
    Wish("somebody painted the door red", "door", "red"),
    Wish("I want a kitty sitting there", "animal", "cat", {"animal": "none"}),
    Wish(
        "where is the dog? it belongs in front of the house", "animal", "dog", {"animal": "none", "building": "cottage"}
    ),
    Wish("a brown horse grazing out front", "animal", "horse", {"animal": "none"}),
    Wish("theres a little fox looking at us", "animal", "fox", {"animal": "none"}),
    Wish("one fluffy sheep", "animal", "sheep", {"animal": "none"}),
    Wish("the cow has gone home", "animal", "none", {"animal": "cow"}),
    Wish("nobody is there, not even the dog", "animal", "none", {"animal": "dog"}),
    Wish("cat out of the picture", "animal", "none", {"animal": "cat"}),
    Wish("it was never a rabbit, it was a fox", "animal", "fox", {"animal": "rabbit"}),
    Wish("a cow where the horse stands", "animal", "cow", {"animal": "horse"}),
    Wish("colourful rainbow across the sky", "sky", "rainbow", {"sky": "none"}),
    Wish("a hot air balloon floats by", "sky", "balloon", {"sky": "none"}),
    Wish("some bird flies past", "sky", "bird", {"sky": "none"}),
    Wish("the balloon has landed somewhere else", "sky", "none", {"sky": "balloon"}),
    Wish("rainbow off", "sky", "none", {"sky": "rainbow"}),
    Wish("done with a soft brush in watercolours", "style", "watercolor"),
    Wish("only a quick drawing with pencils", "style", "sketch"),
    Wish("like a printed poster on a wall", "style", "poster"),
    Wish("we are at the seaside now", "place", "beach"),
    Wish("high mountains behind it", "place", "mountains"),
    Wish("there is a lake next to the house", "place", "lake", {"place": "meadow", "building": "cottage"}),
)


def free_cases(seed: int = 2024) -> list[Case]:
    """Make a held-out scene for each of the sixty instructions, such that the instruction makes sense."""
    return [_case(seed, number, wish) for number, wish in enumerate(FREE)]


def _case(seed: int, number: int, wish: Wish) -> Case:
    rng = random.Random(derive_seed(seed, "free", str(number)))
    while True:
        scene = sample_scene(rng, "base", held_out=True)
        if _suits(scene, wish):
            break
    edit, text = edit_to(scene, wish.attribute, wish.value), caption(scene, rng)
    return Case(scene, edit, text, wish.text, edited_caption(text, scene, edit))


def _suits(scene: Scene, wish: Wish) -> bool:
    now = scene.attributes
    return now[wish.attribute] != wish.value and all(now[name] == value for name, value in wish.needs.items())
