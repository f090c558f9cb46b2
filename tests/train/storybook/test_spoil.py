"""Spoiled pictures: their changes, and their targets for the judge."""

import functools
import random

import pytest
import torch
from torch import Tensor

from ip2p.pictures.tensors import to_tensor
from ip2p.storybook.edits import apply as edited_scene
from ip2p.storybook.edits import edit_to
from ip2p.storybook.judge import IGNORED, OBJECTS, attribute_target, whole_target
from ip2p.storybook.language import parse
from ip2p.storybook.render import render
from ip2p.storybook.scene import ATTRIBUTES, Scene, natural_layout
from ip2p.train.storybook.spoil import (
    SPOILED_SHARES,
    JudgeExample,
    blend_pictures,
    blur_picture,
    clean_example,
    join_pictures,
    region,
    spoil_picture,
    stack_examples,
)

ATTRIBUTE_NAMES = list(ATTRIBUTES)
ATTRIBUTES_OF_THE_SCENE = {name: values[0] for name, values in ATTRIBUTES.items()} | parse(
    "a red barn by a lake in winter with a cow, under a balloon"
)
SCENE = Scene(**ATTRIBUTES_OF_THE_SCENE, layout=natural_layout(ATTRIBUTES_OF_THE_SCENE, random.Random(1)))


@functools.cache
def drawn(scene: Scene) -> Tensor:
    return to_tensor([render(scene)])[0]


def target(example: JudgeExample, name: str) -> int:
    return example.attributes[ATTRIBUTE_NAMES.index(name)]


@pytest.mark.parametrize(
    ("name", "value"), [("building", "castle"), ("animal", "none"), ("season", "summer"), ("door", "red")]
)
def test_two_pictures_at_once_leave_what_differs_unclear(name: str, value: str) -> None:
    edited = edited_scene(SCENE, edit_to(SCENE, name, value))
    strong = faint = 0
    for seed in range(20):
        example = blend_pictures(clean_example(drawn(SCENE), SCENE), SCENE, drawn(edited), edited, random.Random(seed))
        unclear = target(example, name) == len(ATTRIBUTES[name])
        strong, faint = strong + unclear, faint + (not unclear)
        others = [index for index, each in enumerate(ATTRIBUTE_NAMES) if each != name]
        assert [example.attributes[k] for k in others] == [attribute_target(SCENE)[k] for k in others]
        if name in OBJECTS:
            assert example.whole[OBJECTS.index(name)] == (0 if unclear else 1)
    assert strong > faint > 0


def test_half_a_change_has_both_pictures() -> None:
    edited = edited_scene(SCENE, edit_to(SCENE, "building", "castle"))
    before, after = drawn(SCENE), drawn(edited)
    differs = (before - after).abs().sum(0) > 0.1
    for seed in range(10):
        example = join_pictures(clean_example(before, SCENE), SCENE, after, edited, random.Random(seed))
        old, new = ((example.picture - each).abs().sum(0)[differs] < 0.02 for each in (before, after))
        assert old.float().mean() > 0.15 and new.float().mean() > 0.15
        assert target(example, "building") == len(ATTRIBUTES["building"]) and example.whole[0] == 0


def test_a_region_holds_its_thing() -> None:
    for mirrored in (False, True):
        layout = natural_layout(SCENE.attributes, random.Random(3))
        layout = type(layout)(**{**layout.__dict__, "mirrored": mirrored})
        for name, other in (("building", "castle"), ("animal", "none"), ("sky", "none")):
            scene = Scene(**SCENE.attributes, layout=layout)
            changed = edited_scene(scene, edit_to(scene, name, other))
            differs = (drawn(scene) - drawn(changed)).abs().sum(0) > 0.05
            side = differs.shape[0]
            left, top, right, bottom = (round(part * side) for part in region(scene, name))
            inside = torch.zeros_like(differs)
            inside[max(0, top) : bottom, max(0, left) : right] = True
            if name == "building":
                inside[round((scene.layout.horizon + 0.13) * side) :] = True  # and its reflection
            assert (differs & inside).sum() > 0.97 * differs.sum(), name


@pytest.mark.slow
def test_a_spoiled_thing_differs_there_alone_and_is_not_whole() -> None:
    picture, seen = drawn(SCENE), set()
    edited = edited_scene(SCENE, edit_to(SCENE, "season", "summer"))
    for seed in range(400):
        example = spoil_picture(clean_example(picture, SCENE), SCENE, drawn(edited), edited, random.Random(seed))
        things = [name for name, whole in zip(OBJECTS, example.whole, strict=True) if whole == 0]
        if len(things) == 1:
            seen.add(things[0])
            assert target(example, things[0]) == len(ATTRIBUTES[things[0]])
            assert (example.picture != picture).any(0).float().mean() < 0.6
            if things == ["building"]:
                assert target(example, "color") == IGNORED
                assert all(target(example, name) == len(ATTRIBUTES[name]) for name in ("roof", "door"))
        elif torch.equal(example.picture, picture):
            assert example.attributes == attribute_target(SCENE) and example.whole == whole_target(SCENE)
    assert seen == set(OBJECTS)


def test_a_vague_picture_shows_no_thing() -> None:
    example = blur_picture(clean_example(drawn(SCENE), SCENE), SCENE, random.Random(0))
    assert example.whole == [0, 0, 0]
    assert all(target(example, name) == len(ATTRIBUTES[name]) for name in (*OBJECTS, "door"))
    assert target(example, "season") == IGNORED


def test_half_a_place_and_half_the_rain_are_shown_often() -> None:
    picture = drawn(SCENE)
    for name, value in (("weather", "rain"), ("place", "meadow"), ("season", "summer")):
        edited = edited_scene(SCENE, edit_to(SCENE, name, value))
        examples = [
            spoil_picture(clean_example(picture, SCENE), SCENE, drawn(edited), edited, random.Random(seed))
            for seed in range(60)
        ]
        share = sum(target(each, name) == len(ATTRIBUTES[name]) for each in examples) / len(examples)
        assert (share > 0.4) == (name != "season"), f"{name} is unclear in {share:.0%}"


def test_about_half_stay_as_they_are_and_a_batch_is_stacked() -> None:
    assert 0.4 <= sum(SPOILED_SHARES.values()) <= 0.6
    pictures, attributes, whole = stack_examples([clean_example(drawn(SCENE), SCENE)] * 3)
    assert pictures.shape == (3, 3, 256, 256) and attributes.shape == (3, len(ATTRIBUTES)) and whole.shape == (3, 3)
