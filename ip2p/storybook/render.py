"""Scenes into pictures: `render(scene)` draws the same pixels for the same scene, always."""

from __future__ import annotations

import random

from PIL import Image, ImageDraw, ImageOps

from ip2p.storybook import scenery
from ip2p.storybook.palette import brighter, light
from ip2p.storybook.scene import Scene
from ip2p.storybook.sprites import ANIMALS, BUILDINGS, FLYERS, Brush
from ip2p.storybook.styles import apply_style

SIDE = 128
"""Pixels of a picture's side."""

OVERSAMPLING = 2
ANIMAL_HEIGHT = 0.185
FLYER_HEIGHT = {"balloon": 0.27, "bird": 0.19}


def render(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB picture of 128 x 128 pixels, back to front, at twice the size for smooth edges."""
    side = SIDE * OVERSAMPLING
    rng = random.Random(scene.layout.seed)
    canvas = scenery.sky(scene, side)
    draw = ImageDraw.Draw(canvas)
    scenery.lights_of_the_sky(draw, scene, rng, side)
    scenery.clouds(draw, scene, rng, side)
    if scene.sky == "rainbow":
        scenery.rainbow(canvas, scene, side)
    scenery.land(draw, scene, side)
    scenery.trees(draw, scene, rng, side)
    scenery.small_things(draw, scene, rng, side)
    _things(draw, scene, side)
    canvas = scenery.weather(canvas, scene, rng, side)
    if scene.layout.mirrored:
        canvas = ImageOps.mirror(canvas)
    return apply_style(canvas.resize((SIDE, SIDE), Image.Resampling.BOX), scene.style)


def _things(draw: ImageDraw.ImageDraw, scene: Scene, side: int) -> None:
    """The building, the animal, and what flies."""
    layout, tint = scene.layout, light(scene.time, scene.weather)
    # By night things are a little brighter than the land, or nobody would find them.
    dim = brighter(tint, 0.25) if scene.time == "night" else tint
    if scene.sky in FLYERS:
        height = FLYER_HEIGHT[scene.sky]
        foot = (layout.sky_y + height / 2) * side
        FLYERS[scene.sky](Brush(draw, layout.sky_x * side, foot, height * side, dim))
    building = Brush(draw, layout.building_x * side, (layout.horizon + 0.16) * side, layout.building_size * side, dim)
    BUILDINGS[scene.building](building, scene.color, scene.season, scene.time != "day")
    if scene.animal in ANIMALS:
        ANIMALS[scene.animal](Brush(draw, layout.animal_x * side, 0.925 * side, ANIMAL_HEIGHT * side, dim))
