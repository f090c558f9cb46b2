"""Pictures of scenes: the same for ever, and an edit touches nothing else."""

import dataclasses
import functools
import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from ip2p.storybook.render import SIDE, render
from ip2p.storybook.scene import ATTRIBUTES, Scene, natural_layout, sample_scene, values

PLAIN = {
    "place": "meadow", "season": "summer", "time": "day", "weather": "clear", "clouds": "one", "building": "barn",
    "color": "red", "roof": "brown", "door": "brown", "animal": "none", "sky": "none", "style": "illustration",
}  # fmt: skip


def scene(seed: int = 0, mirrored: bool = False, **attributes: str) -> Scene:
    """A plain scene with some attributes changed."""
    layout = dataclasses.replace(natural_layout(PLAIN, random.Random(seed)), mirrored=mirrored)
    return Scene(**(PLAIN | attributes), layout=layout)


@functools.lru_cache(64)
def pixels(drawn: Scene) -> np.ndarray:
    """Picture of a scene, drawn once."""
    return np.asarray(render(drawn), np.int16)


def difference(a: Scene, b: Scene) -> np.ndarray:
    """Mean absolute difference of two pictures by pixel, 0 to 255."""
    return np.abs(pixels(a) - pixels(b)).mean(2)


def test_equal_scenes_are_equal_pictures() -> None:
    for number in range(20):
        drawn = sample_scene(random.Random(number), "all", held_out=True)
        picture = render(drawn)
        assert (picture.mode, picture.size) == ("RGB", (SIDE, SIDE))
        assert picture.tobytes() == render(dataclasses.replace(drawn)).tobytes()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in ATTRIBUTES for value in ATTRIBUTES[name]])
def test_every_value_shows(name: str, value: str) -> None:
    for other in ATTRIBUTES[name]:
        if other != value:
            # What bears meaning is at least 20 px wide: some 240 pixels or more differ, and clearly.
            assert (difference(scene(**{name: value}), scene(**{name: other})) > 12).sum() >= 240, other


TIMES = ATTRIBUTES["time"]
PAIRWISE = [
    (style, TIMES[(row + column) % len(TIMES)], name)
    for row, style in enumerate(values("base")["style"])
    for column, name in enumerate(("color", "roof", "door", "clouds", "animal", "building"))
]
"""Every style with every name and at every hour, and every name at every hour."""


@pytest.mark.slow
@pytest.mark.parametrize(("style", "time", "name"), PAIRWISE)
def test_every_value_shows_in_every_style_at_every_hour(style: str, time: str, name: str) -> None:
    drawn = [scene(style=style, time=time, **{name: value}) for value in ATTRIBUTES[name]]
    for number, one in enumerate(drawn):
        assert all((difference(one, other) > 8).sum() >= 200 for other in drawn[:number])


@pytest.mark.slow
@pytest.mark.parametrize("style", values("base")["style"])
@pytest.mark.parametrize("time", ATTRIBUTES["time"])
@pytest.mark.parametrize("weather", values("base")["weather"])
def test_clouds_show_in_every_weather(style: str, time: str, weather: str) -> None:
    drawn = [scene(style=style, time=time, weather=weather, clouds=clouds) for clouds in ATTRIBUTES["clouds"]]
    for number, one in enumerate(drawn):
        assert all((difference(one, other) > 8).sum() >= 1000 for other in drawn[:number])


@pytest.mark.parametrize("season", ["summer", "winter"])
@pytest.mark.parametrize("building", values("base")["building"])
def test_every_building_shows_its_roof_in_snow_too(building: str, season: str) -> None:
    drawn = [scene(building=building, season=season, roof=roof) for roof in ATTRIBUTES["roof"]]
    for number, one in enumerate(drawn):
        assert all((difference(one, other) > 12).sum() >= 240 for other in drawn[:number])


@pytest.mark.parametrize("season", ATTRIBUTES["season"])
def test_an_edit_leaves_the_rest_in_place(season: str) -> None:
    animal = difference(scene(season=season), scene(season=season, animal="cow"))
    assert animal[: SIDE // 2].max() == 0 and animal.max() > 50
    flyer = difference(scene(season=season), scene(season=season, sky="balloon"))
    assert flyer[SIDE // 2 :].max() == 0 and flyer.max() > 50
    color = difference(scene(season=season), scene(season=season, color="blue"))
    assert 0 < (color > 0).mean() < 0.15


def test_winter_is_white_and_night_is_dark() -> None:
    def brightness(drawn: Scene) -> float:
        return float(np.asarray(render(drawn), np.float32)[3 * SIDE // 4 :].mean())

    assert brightness(scene(season="winter")) > 220 > 160 > brightness(scene(season="summer"))
    assert brightness(scene(time="night")) < 0.6 * brightness(scene())


def test_mirrored_is_mirrored() -> None:
    mirrored = ImageOps.mirror(render(scene(mirrored=True)))
    assert mirrored.tobytes() == render(scene(mirrored=False)).tobytes()


def test_the_layout_is_where_things_are() -> None:
    low, high = (dataclasses.replace(scene().layout, horizon=horizon) for horizon in (0.6, 0.48))
    sky = np.asarray(render(dataclasses.replace(scene(), layout=low)).crop((128, 132, 132, 136)), np.float32)
    land = np.asarray(render(dataclasses.replace(scene(), layout=high)).crop((128, 132, 132, 136)), np.float32)
    assert sky[..., 2].mean() > land[..., 2].mean()
    assert isinstance(render(scene()), Image.Image)
