"""Near copies are found whatever was done to them, and other pictures are none."""

import io
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image, ImageChops

from ip2p.measuring.near_copies import NearCopies, shrink
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.render import render
from ip2p.storybook.scene import natural_layout

COUNT = 24


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    """Pictures of different scenes."""
    return [render(case.scene) for case in evaluation_cases(COUNT, seed=5)]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Encode a picture as JPEG and decode it."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def brighter(image: Image.Image) -> Image.Image:
    """Add two levels."""
    return ImageChops.add(image, Image.new("RGB", image.size, (2, 2, 2)))


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda image: image, COUNT),
        (lambda image: jpeg(image, 90), COUNT),
        (lambda image: jpeg(image, 50), COUNT - 1),
        (lambda image: image.resize((254, 254), Image.Resampling.LANCZOS), COUNT),
        (lambda image: image.resize((128, 128)), COUNT),
        (brighter, COUNT),
        (lambda image: jpeg(brighter(image.resize((258, 256))), 75), COUNT - 1),
    ],
)
def test_near_copies_are_found(
    scenes: list[Image.Image], change: Callable[[Image.Image], Image.Image], least: int
) -> None:
    earlier = NearCopies()
    assert [earlier.find(each, str(number)) for number, each in enumerate(scenes)] == [None] * COUNT
    found = [earlier.find(change(each), "again") for each in scenes]
    right = sum(name == str(number) for number, name in enumerate(found))
    assert right >= least and all(name in (None, str(number), "again") for number, name in enumerate(found))


def test_other_scenes_of_the_same_caption_are_none() -> None:
    earlier, rng = NearCopies(), random.Random(3)
    for case in evaluation_cases(6, seed=9):
        for _ in range(4):
            layout = natural_layout(case.scene.attributes, rng)
            assert earlier.find(render(replace(case.scene, layout=layout)), "scene") is None


def test_a_small_edit_is_no_copy(scenes: list[Image.Image]) -> None:
    edited = scenes[0].copy()
    edited.paste((255, 240, 30), (120, 120, 140, 150))
    earlier = NearCopies()
    assert earlier.find(scenes[0], "a") is None and earlier.find(edited, "b") is None


def test_of_many_alike_those_are_found_that_a_comparison_of_all_finds(scenes: list[Image.Image]) -> None:
    """Pictures with little contrast lie in few cells, where means are compared before pixels are."""
    pale = [Image.blend(Image.new("RGB", each.size, "silver"), each, 0.12) for each in (*scenes, *scenes[:4])]
    thumbnails = [shrink(jpeg(each, 60)) for each in pale]
    firsts: list[int] = []
    expected: list[str | None] = []
    for number, each in enumerate(thumbnails):
        found = next((first for first in firsts if each.is_near(thumbnails[first])), None)
        firsts += [number] * (found is None)
        expected.append(None if found is None else str(found))
    earlier = NearCopies()
    assert [earlier.find_thumbnail(each, str(number)) for number, each in enumerate(thumbnails)] == expected
    assert 4 <= sum(each is not None for each in expected) < len(pale) - 4


def test_copies_all_have_the_name_of_the_first(scenes: list[Image.Image]) -> None:
    earlier = NearCopies()
    assert [earlier.find(scenes[1], name) for name in "abc"] == [None, "a", "a"]
    plain = Image.new("RGB", (64, 64), "white")
    assert [earlier.find(each, "w") for each in (plain, brighter(plain.point(lambda level: level - 9)))] == [None, "w"]
    assert earlier.find(Image.new("RGB", (64, 64), "gray"), "g") is None
