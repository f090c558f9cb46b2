"""Render scenes as pictures: `render(scene)` always draws the same pixels for the same scene."""

from __future__ import annotations

import random

from PIL import Image, ImageChops, ImageDraw, ImageOps

from ip2p.storybook import scenery
from ip2p.storybook.animals import ANIMALS, FLYERS
from ip2p.storybook.brush import Brush
from ip2p.storybook.buildings import BUILDINGS, Look
from ip2p.storybook.palette import DOORS, ROOFS, WALLS, Tint, brighter, light
from ip2p.storybook.scene import Scene
from ip2p.storybook.styles import apply_style

SIDE = 256
"""Side of a picture in pixels."""

OVERSAMPLING = 2
ANIMAL_HEIGHT = 0.2
ANIMAL_FOOT = 0.945
FLYER_HEIGHT = {"balloon": 0.28, "bird": 0.17}


def render(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB picture of 256 x 256 pixels, back to front, at twice the size for smooth edges."""
    side = SIDE * OVERSAMPLING
    rng = random.Random(scene.layout.seed)
    canvas = scenery.make_sky(scene, side)
    draw = ImageDraw.Draw(canvas)
    scenery.draw_sky_lights(draw, scene, rng, side)
    if scene.sky == "rainbow":
        scenery.draw_rainbow(canvas, scene, side)
    scenery.draw_clouds(draw, scene, rng, side)
    scenery.draw_land(draw, scene, side)
    scenery.draw_trees(draw, scene, rng, side)
    if scene.place == "lake":
        shown = canvas.copy()
        _draw_building(ImageDraw.Draw(shown), scene, side)
        scenery.draw_reflection(canvas, shown, scene, side)
    scenery.draw_small_things(draw, scene, rng, side)
    _draw_things(draw, scene, side)
    if scene.layout.mirrored:
        canvas = ImageOps.mirror(canvas)
    canvas = scenery.draw_weather(canvas, scene, side)
    return apply_style(canvas.resize((SIDE, SIDE), Image.Resampling.BOX), scene.style)


def exact_mask(before: Scene, after: Scene) -> Image.Image:
    """Draw the exact mask of an edit: 255 where the renders of both scenes differ at all, 0 elsewhere.

    It is about renders alone. Pictures that a model has drawn have no exact mask.
    """
    differences = ImageChops.difference(*(render(scene) for scene in (before, after))).split()
    most = ImageChops.lighter(ImageChops.lighter(*differences[:2]), differences[2])
    return most.point(lambda level: 255 * (level > 0))


def _draw_things(draw: ImageDraw.ImageDraw, scene: Scene, side: int) -> None:
    """Draw the flying thing, the building and the animal."""
    layout = scene.layout
    if scene.sky in FLYERS:
        height = FLYER_HEIGHT[scene.sky]
        foot = (layout.sky_y + height / 2) * side
        FLYERS[scene.sky](Brush(draw, layout.sky_x * side, foot, height * side, _thing_light(scene)))
    _draw_building(draw, scene, side)
    if scene.animal in ANIMALS:
        brush = Brush(draw, layout.animal_x * side, ANIMAL_FOOT * side, ANIMAL_HEIGHT * side, _thing_light(scene))
        ANIMALS[scene.animal](brush)


def _draw_building(draw: ImageDraw.ImageDraw, scene: Scene, side: int) -> None:
    layout, lit = scene.layout, scene.time != "day"
    look = Look(WALLS[scene.color], ROOFS[scene.roof], DOORS[scene.door], scene.season == "winter", lit)
    foot, height = (layout.horizon + 0.16) * side, layout.building_size * side
    BUILDINGS[scene.building](Brush(draw, layout.building_x * side, foot, height, _thing_light(scene)), look)


def _thing_light(scene: Scene) -> Tint:
    """The light of the scene for things, at night a little brighter than on the land, so that they are visible."""
    tint = light(scene.time, scene.weather)
    return brighter(tint, 0.3) if scene.time == "night" else tint
