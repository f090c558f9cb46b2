"""Scenes of the storybook world: attributes, layout, and concepts reserved for evaluation.

A scene is a set of attributes and a layout. *Natural* layouts are drawn from P(layout | attributes), as in
photographs: the horizon depends on the season and the place, the building's position and size on its kind, the
mirroring on the time of day. So another caption moves things even with the same noise, unless Prompt-to-Prompt keeps
them. An edit changes attributes and keeps the layout, so that every edit has its exact target.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import Literal

Vocabulary = Literal["base", "clip", "all"]

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "place": ("meadow", "lake", "mountains", "beach"),
    "season": ("spring", "summer", "autumn", "winter"),
    "time": ("day", "sunset", "night"),
    "weather": ("clear", "rain", "fog", "storm"),
    "clouds": ("none", "one", "three"),
    "building": ("barn", "castle", "cottage", "windmill", "lighthouse", "church", "temple", "pagoda"),
    "color": ("red", "blue", "yellow", "white", "green"),
    "roof": ("brown", "red", "blue", "gray"),
    "door": ("brown", "red", "blue"),
    "animal": ("none", "sheep", "cow", "fox", "rabbit", "cat", "dog", "horse"),
    "sky": ("none", "balloon", "rainbow", "bird"),
    "style": ("illustration", "watercolor", "sketch", "poster", "mosaic", "neon", "pixel", "glass"),
}

EDIT_KINDS = (
    "season", "time", "weather", "clouds", "style", "place", "swap_building", "recolor", "roof", "door", "add_animal",
    "remove_animal", "swap_animal", "add_sky", "remove_sky", "swap_sky",
)  # fmt: skip


@dataclass(frozen=True)
class Reserved:
    """Concepts reserved by name, before anything was trained.

    Args:
        clip_only: values that only the CLIPs are trained on, for domain shifts by text.
        unseen: values that only the judge is trained on, for textual inversion and learning from examples.
        no_triple: kind of edit that no triple asks for, though the base model can draw both pictures.
        pairs: combinations of building and color that are used in evaluation only.
    """

    clip_only: dict[str, tuple[str, ...]]
    unseen: dict[str, tuple[str, ...]]
    no_triple: str
    pairs: frozenset[tuple[str, str]]


RESERVED = Reserved(
    clip_only={"style": ("mosaic", "neon"), "weather": ("storm",)},
    unseen={"style": ("pixel", "glass"), "building": ("pagoda",)},
    no_triple="swap_sky",
    pairs=frozenset({("barn", "yellow"), ("castle", "green"), ("windmill", "blue")}),
)


@dataclass(frozen=True)
class Layout:
    """Positions of things, in fractions of the picture's side, before mirroring.

    Args:
        horizon: distance of the horizon from the top, 0.42 to 0.68.
        building_x: middle of the building, 0.2 to 0.55.
        building_size: height of the building, 0.24 to 0.52.
        mirrored: whether the finished picture is flipped left to right.
        animal_x: middle of the animal, 0.66 to 0.78.
        sky_x, sky_y: middle of the thing in the sky, 0.57 to 0.65 and 0.15 to 0.24.
        seed: seed of the small things (flowers, clouds, stars, texture).
    """

    horizon: float
    building_x: float
    building_size: float
    mirrored: bool
    animal_x: float
    sky_x: float
    sky_y: float
    seed: int


@dataclass(frozen=True)
class Scene:
    """One picture of the world: twelve attributes (see `ATTRIBUTES`) and a layout."""

    place: str
    season: str
    time: str
    weather: str
    clouds: str
    building: str
    color: str
    roof: str
    door: str
    animal: str
    sky: str
    style: str
    layout: Layout

    @property
    def attributes(self) -> dict[str, str]:
        """The twelve attributes by name, in the order of `ATTRIBUTES`."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "layout"}


@dataclass(frozen=True)
class Edit:
    """A change of one attribute to another value.

    Args:
        kind: kind of edit, one of EDIT_KINDS; it follows from the attribute and the two values.
        attribute: name of the attribute, one of ATTRIBUTES.
        value: new value, one of the attribute's.
    """

    kind: str
    attribute: str
    value: str


def values(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The values of each attribute in a vocabulary.

    Args:
        vocabulary: "base" (base model, editor), "clip" (adds the CLIP-only concepts) or "all" (judge).
    """
    hidden: dict[str, set[str]] = {name: set() for name in ATTRIBUTES}
    if vocabulary != "all":
        for name, reserved in RESERVED.unseen.items():
            hidden[name].update(reserved)
    if vocabulary == "base":
        for name, reserved in RESERVED.clip_only.items():
            hidden[name].update(reserved)
    return {name: tuple(v for v in all_values if v not in hidden[name]) for name, all_values in ATTRIBUTES.items()}


# Probability of the common value of an attribute; the others share the rest. Other attributes are drawn uniformly.
_COMMON = {
    "weather": ("clear", 0.5),
    "clouds": ("one", 0.4),
    "roof": ("brown", 0.4),
    "door": ("brown", 0.5),
    "animal": ("none", 0.2),
    "sky": ("none", 0.4),
    "style": ("illustration", 0.4),
}


def _draw(rng: random.Random, name: str, allowed: tuple[str, ...]) -> str:
    common = _COMMON.get(name)
    if common is None:
        return rng.choice(allowed)
    if rng.random() < common[1]:
        return common[0]
    return rng.choice([value for value in allowed if value != common[0]])


def is_held_out(attributes: dict[str, str]) -> bool:
    """Whether these attributes belong to the combinations that are used in evaluation only."""
    return (attributes["building"], attributes["color"]) in RESERVED.pairs


def sample_scene(rng: random.Random, vocabulary: Vocabulary = "base", held_out: bool = False) -> Scene:
    """Draw a scene with a natural layout.

    Args:
        rng: source of all randomness.
        vocabulary: vocabulary of the values.
        held_out: whether combinations that training never shows may appear.
    """
    allowed = values(vocabulary)
    while True:
        attributes = {name: _draw(rng, name, allowed[name]) for name in ATTRIBUTES}
        if held_out or not is_held_out(attributes):
            return Scene(**attributes, layout=natural_layout(attributes, rng))


_HORIZON = {"spring": 0.585, "summer": 0.63, "autumn": 0.54, "winter": 0.495}
_HORIZON_SHIFT = {"meadow": 0.0, "lake": -0.015, "mountains": 0.015, "beach": -0.03}
_BUILDING_X = {
    "barn": 0.40, "castle": 0.46, "cottage": 0.34, "windmill": 0.30, "lighthouse": 0.24, "church": 0.36,
    "temple": 0.44, "pagoda": 0.42,
}  # fmt: skip
_BUILDING_SIZE = {
    "barn": 0.34, "castle": 0.42, "cottage": 0.31, "windmill": 0.42, "lighthouse": 0.48, "church": 0.46,
    "temple": 0.32, "pagoda": 0.44,
}  # fmt: skip
_MIRRORED = {"day": 0.1, "sunset": 0.5, "night": 0.9}


def natural_layout(attributes: dict[str, str], rng: random.Random) -> Layout:
    """Draw a layout from P(layout | attributes), with noise on every quantity."""
    horizon = _HORIZON[attributes["season"]] + _HORIZON_SHIFT[attributes["place"]] + rng.gauss(0, 0.016)
    size = _BUILDING_SIZE[attributes["building"]] * (1 + rng.gauss(0, 0.07))
    return Layout(
        horizon=min(max(horizon, 0.42), 0.68),
        building_x=min(max(_BUILDING_X[attributes["building"]] + rng.gauss(0, 0.03), 0.2), 0.55),
        building_size=min(max(size, 0.24), 0.52),
        mirrored=rng.random() < _MIRRORED[attributes["time"]],
        animal_x=rng.uniform(0.66, 0.78),
        sky_x=rng.uniform(0.57, 0.65),
        sky_y=rng.uniform(0.15, 0.24),
        seed=rng.randrange(1 << 31),
    )
