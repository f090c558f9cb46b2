"""The surroundings of a scene: sky, land and water, trees, and the weather.

Functions draw on a square canvas of `side` pixels; positions are fractions of the side. `rng` places the small things,
and every call draws equally many numbers from it for all attributes, so that an edit leaves the rest in place.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from ip2p.storybook.brush import OUTLINE, Brush
from ip2p.storybook.palette import INK, SAND, SEASONS, WATER, Color, Tint, light, mix, sky_gradient
from ip2p.storybook.scene import Scene

REFLECTED = 0.38  # share of the reflection in the color of a lake's water
MOON: Color = (252, 246, 214)
STARS = ((0.3, 0.2), (0.45, 0.27), (0.5, 0.05), (0.62, 0.08), (0.76, 0.2), (0.95, 0.24))
CLOUDS = ((0.335, 0.1), (0.89, 0.1), (0.9, 0.33))
"""Centers of clouds, left to right and down; the first one is used for a single cloud."""
CLOUD_COLORS: dict[str, Color] = {
    "day": (255, 255, 255),
    "sunset": (255, 214, 190),
    "night": (134, 142, 188),
    "rain": (82, 90, 108),
    "fog": (138, 152, 180),
    "storm": (112, 100, 136),
}
RAINBOW: tuple[Color, ...] = (
    (226, 52, 62),
    (246, 146, 48),
    (252, 222, 70),
    (76, 180, 84),
    (64, 114, 214),
    (142, 76, 178),
)


def make_sky(scene: Scene, side: int) -> Image.Image:
    """Make a canvas filled with the sky's gradient, which ends at the horizon."""
    top, bottom = (np.array(color, np.float32) for color in sky_gradient(scene.time, scene.weather))
    share = np.clip(np.arange(side) / (scene.layout.horizon * side), 0, 1)[:, None]
    column = (top + (bottom - top) * share).round().astype(np.uint8)
    return Image.fromarray(np.repeat(column[:, None], side, axis=1))


def draw_sky_lights(draw: ImageDraw.ImageDraw, scene: Scene, rng: random.Random, side: int) -> None:
    """Draw the sun, or moon and stars, if the weather lets them through."""
    wobble = [(rng.uniform(-0.02, 0.02), rng.uniform(-0.02, 0.02)) for _ in STARS]
    if scene.weather in ("rain", "storm"):
        return
    if scene.time == "night":
        for (x, y), (dx, dy) in zip(STARS, wobble, strict=True):
            _star(draw, (x + dx) * side, (y + dy) * side, 0.026 * side)
        _disc(draw, 0.12, 0.14, 0.078, MOON, side)
        _disc(draw, 0.155, 0.12, 0.062, sky_gradient("night", scene.weather)[0], side)
    elif scene.time == "sunset":
        _disc(draw, 0.13, scene.layout.horizon - 0.06, 0.125, (255, 150, 74), side)
        _disc(draw, 0.13, scene.layout.horizon - 0.06, 0.09, (255, 222, 130), side)
    else:
        _disc(draw, 0.12, 0.14, 0.095, (255, 240, 170), side)
        _disc(draw, 0.12, 0.14, 0.072, (255, 214, 64), side)


def draw_clouds(draw: ImageDraw.ImageDraw, scene: Scene, rng: random.Random, side: int) -> None:
    """Draw one cloud or three, colored by time of day and weather, away from other things in the sky."""
    drift = [(rng.uniform(-0.025, 0.025), rng.uniform(-0.012, 0.012)) for _ in CLOUDS]
    count = {"none": 0, "one": 1, "three": 3}[scene.clouds]
    if scene.weather == "clear" or scene.time == "night":  # other clouds would be as dark as the night
        color = CLOUD_COLORS[scene.time]
    else:
        color = light(scene.time, "clear")(CLOUD_COLORS[scene.weather])
    for (x, y), (dx, dy) in list(zip(CLOUDS, drift, strict=True))[:count]:
        _cloud(draw, x + dx, y + dy, 0.07, color, side)


def draw_land(draw: ImageDraw.ImageDraw, scene: Scene, side: int) -> None:
    """Draw the land of the place, from the horizon down."""
    tint = light(scene.time, scene.weather)
    near, far, _, _ = SEASONS[scene.season]
    horizon = scene.layout.horizon
    if scene.place == "mountains":
        _peaks(draw, scene, tint, side)
    _hills(draw, horizon, 0.03 if scene.place in ("meadow", "mountains") else 0.0, tint(far), tint(INK), side)
    if scene.place == "beach":
        _water(draw, scene, *water_line(scene), tint, side)
        _wavy(draw, horizon + 0.13, 0.012, tint(SAND[scene.season]), side)
    elif scene.place == "lake":
        _wavy(draw, horizon + 0.1, 0.012, tint(near), side)
        _water(draw, scene, *water_line(scene), tint, side)
    else:
        _wavy(draw, horizon + 0.12, 0.02, tint(near), side)


def water_line(scene: Scene) -> tuple[float, float]:
    """Top and bottom of the water of a lake or a beach."""
    horizon = scene.layout.horizon
    return (horizon, horizon + 0.13) if scene.place == "beach" else (horizon + 0.13, 0.86)


def draw_reflection(canvas: Image.Image, shown: Image.Image, scene: Scene, side: int) -> None:
    """Reflect things behind a lake dimly in its water.

    Args:
        canvas: picture to draw the reflection on.
        shown: same picture with everything that is reflected.
        scene: scene with a lake.
        side: side of the canvas in pixels.
    """
    top, bottom = (round(part * side) for part in water_line(scene))
    height = min(bottom - top, top)
    upside_down = ImageOps.flip(shown.crop((0, top - height, side, top)))
    water = canvas.crop((0, top, side, top + height))
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).ellipse(_lake(scene, side, 0.012), fill=round(255 * REFLECTED))
    canvas.paste(Image.composite(upside_down, water, mask.crop((0, top, side, top + height))), (0, top))


def draw_trees(draw: ImageDraw.ImageDraw, scene: Scene, rng: random.Random, side: int) -> None:
    """Draw two trees at the right and one at the left, dressed by the season; firs in the mountains."""
    spots = [(0.9 + rng.uniform(-0.025, 0.025), 0.3), (0.78 + rng.uniform(-0.02, 0.02), 0.22), (0.05, 0.2)]
    foot = scene.layout.horizon + (0.17 if scene.place == "beach" else 0.11)  # on the sand, not in the sea
    tint = light(scene.time, scene.weather)
    for x, height in spots:
        brush = Brush(draw, x * side, foot * side, height * side, tint)
        if scene.place == "mountains":
            _fir(brush, scene.season)
        else:
            _tree(brush, scene.season)


def draw_small_things(draw: ImageDraw.ImageDraw, scene: Scene, rng: random.Random, side: int) -> None:
    """Draw flowers, tufts, fallen leaves or heaps of snow in front."""
    spots = [((k + rng.uniform(0.15, 0.85)) / 6, rng.uniform(0.1, 0.95)) for k in range(6)]
    tint = light(scene.time, scene.weather)
    top = 0.87 if scene.place == "lake" else scene.layout.horizon + 0.2
    for number, (x, depth) in enumerate(spots):
        y = top + depth * (0.97 - top)
        size = 0.024 + 0.01 * depth
        if scene.season == "spring":
            color: Color = ((250, 120, 160), (255, 226, 90), (252, 252, 255))[number % 3]
            for dx, dy in ((-0.7, 0.0), (0.7, 0.0), (0.0, -0.7), (0.0, 0.7)):
                _disc(draw, x + dx * size, y + dy * size, size * 0.62, tint(color), side)
            _disc(draw, x, y, size * 0.5, tint((244, 170, 50)), side)
        elif scene.season == "summer":
            _tuft(draw, x, y, size, tint((46, 116, 42)), side)
        elif scene.season == "autumn":
            _leaf(draw, x, y, size * 1.2, tint(((206, 74, 28), (244, 176, 52))[number % 2]), side)
        else:
            _disc(draw, x, y, size * 1.3, tint((200, 214, 236)), side)
            _disc(draw, x, y - 0.3 * size, size * 1.2, tint((252, 253, 255)), side)


def draw_rainbow(canvas: Image.Image, scene: Scene, side: int) -> None:
    """Draw a broad rainbow behind the building."""
    draw = ImageDraw.Draw(canvas)
    x, y, width = 0.5 * side, (scene.layout.horizon + 0.06) * side, 0.024 * side
    tint = light("day" if scene.time == "day" else "sunset", "clear")
    for number, color in enumerate(RAINBOW):
        radius = 0.46 * side - number * width
        draw.arc((x - radius, y - radius, x + radius, y + radius), 180, 360, fill=tint(color), width=round(width) + 1)


def draw_weather(canvas: Image.Image, scene: Scene, side: int) -> Image.Image:
    """Draw the weather over everything: streaks of rain, a veil of fog, a bolt of lightning.

    Streaks lie on a lattice of 32 px of the finished picture, so that an autoencoder sees them in few positions only.
    """
    if scene.weather == "fog":
        return _fog(canvas, scene, side)
    draw = ImageDraw.Draw(canvas)
    if scene.weather in ("rain", "storm"):
        color = mix((214, 230, 248), (150, 166, 200), 0.6 if scene.time == "night" else 0.0)
        for row in range(1, 8):
            for column in range(8):
                x, y = (column + 0.5 * (row % 2) + 0.4) * side / 8, (row + 0.1) * side / 8
                draw.line((x, y, x - 0.03 * side, y + 0.08 * side), fill=color, width=round(0.012 * side))
    if scene.weather == "storm":
        bolt = [(0.8, 0.06), (0.7, 0.27), (0.78, 0.27), (0.68, 0.48), (0.88, 0.21), (0.8, 0.21), (0.9, 0.06)]
        draw.polygon([(x * side, y * side) for x, y in bolt], fill=(255, 240, 120))
        draw.line([(x * side, y * side) for x, y in [*bolt, bolt[0]]], fill=(120, 90, 60), width=round(OUTLINE * side))
    return canvas


def _fog(canvas: Image.Image, scene: Scene, side: int) -> Image.Image:
    y = np.arange(side)[:, None] / side
    veil = 0.16 + 0.44 * np.exp(-(((y - scene.layout.horizon - 0.02) / 0.17) ** 2))
    color = np.array(light(scene.time, "clear")((232, 236, 240)), np.float32)
    pixels = np.asarray(canvas, np.float32)
    return Image.fromarray((pixels + (color - pixels) * veil[..., None]).round().astype(np.uint8))


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, color: Color, side: int) -> None:
    box = ((x - radius) * side, (y - radius) * side, (x + radius) * side, (y + radius) * side)
    draw.ellipse(box, fill=color)


def _star(draw: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
    corners = [(x, y - r), (x + r / 3, y - r / 3), (x + r, y), (x + r / 3, y + r / 3)]
    corners += [(x, y + r), (x - r / 3, y + r / 3), (x - r, y), (x - r / 3, y - r / 3)]
    draw.polygon(corners, fill=(255, 250, 220))


def _cloud(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, color: Color, side: int) -> None:
    """Draw four puffs with an outline and a shaded lower edge."""
    puffs = ((-1.0, 0.25, 0.6), (-0.35, -0.1, 0.78), (0.4, 0.0, 0.72), (1.0, 0.3, 0.52))
    for grown, lifted, shade in ((OUTLINE, 0.0, mix(color, INK, 0.4)), (0, 0, mix(color, INK, 0.16)), (0, 0.24, color)):
        for dx, dy, r in puffs:
            radius = (r - 0.12 * (lifted > 0)) * size + grown
            _disc(draw, x + dx * size, y + (dy - lifted * r) * size, radius, shade, side)


def _wavy(draw: ImageDraw.ImageDraw, top: float, swing: float, color: Color, side: int) -> None:
    """Draw ground below a gently waving line."""
    edge = [(x / 16, top + swing * math.sin(0.9 + x * 0.55)) for x in range(17)]
    draw.polygon([*((x * side, y * side) for x, y in edge), (side, side), (0, side)], fill=color)


def _hills(draw: ImageDraw.ImageDraw, top: float, swing: float, color: Color, ink: Color, side: int) -> None:
    edge = [(x / 24 * side, (top + swing * math.sin(x * 0.42 - 0.6)) * side) for x in range(25)]
    draw.polygon([*edge, (side, side), (0, side)], fill=color)
    draw.line(edge, fill=mix(color, ink, 0.45), width=round(OUTLINE * side))


def _peaks(draw: ImageDraw.ImageDraw, scene: Scene, tint: Tint, side: int) -> None:
    base = scene.layout.horizon + 0.04
    rock: Color = (118, 122, 150) if scene.season != "winter" else (152, 162, 190)
    for x, half, height in ((0.22, 0.26, 0.27), (0.92, 0.26, 0.3), (0.6, 0.32, 0.37)):
        top = base - height
        shape = [(x - half, base), (x, top), (x + half, base)]
        _inked(draw, shape, tint(rock), tint(INK), side)
        snow = 0.34 if scene.season != "winter" else 0.62
        dx, dy = half * snow, height * snow
        cap = [(x - dx, top + dy), (x, top), (x + dx, top + dy), (x + dx / 3, top + dy * 0.7), (x - dx / 4, top + dy)]
        _inked(draw, cap, tint((250, 252, 255)), None, side)


def _inked(
    draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], color: Color, ink: Color | None, side: int
) -> None:
    corners = [(x * side, y * side) for x, y in points]
    draw.polygon(corners, fill=color)
    if ink is not None:
        draw.line([*corners, corners[0]], fill=ink, width=round(OUTLINE * side), joint="curve")


def _water(draw: ImageDraw.ImageDraw, scene: Scene, top: float, bottom: float, tint: Tint, side: int) -> None:
    color = tint(WATER[scene.season])
    bright = mix(color, tint((255, 255, 255)), 0.5)
    if scene.place == "lake":
        draw.ellipse(_lake(scene, side), fill=color, outline=mix(color, tint(INK), 0.35), width=round(OUTLINE * side))
    else:
        draw.rectangle((0, top * side, side, (bottom + 0.02) * side), fill=color)
    for number, depth in enumerate((0.25, 0.5, 0.78)):
        y = (top + depth * (bottom - top)) * side
        for x in (0.52, 0.84) if scene.place == "lake" else (0.16, 0.52, 0.84):
            start = (x + 0.09 * (number % 2) - 0.06) * side
            draw.line((start, y, start + 0.11 * side, y), fill=bright, width=round(0.014 * side))


def _lake(scene: Scene, side: int, inward: float = 0.0) -> tuple[float, float, float, float]:
    """Box of the lake's ellipse, which leaves the picture on one side."""
    top, bottom = water_line(scene)
    return (0.26 + inward) * side, (top + inward) * side, (1.2 - inward) * side, (bottom - inward) * side


def _leaf(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, color: Color, side: int) -> None:
    corners = [(x - size, y), (x, y - 0.55 * size), (x + size, y), (x, y + 0.55 * size)]
    draw.polygon([(a * side, b * side) for a, b in corners], fill=color)


def _tuft(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, color: Color, side: int) -> None:
    for lean in (-0.7, 0.0, 0.7):
        draw.line(
            (x * side, y * side, (x + lean * size) * side, (y - 1.5 * size) * side),
            fill=color,
            width=round(0.014 * side),
        )


def _tree(brush: Brush, season: str) -> None:
    """Draw a round crown; in winter bare branches with snow on them."""
    bark: Color = (112, 78, 58)
    _, _, leaves, bright = SEASONS[season]
    brush.box((-0.07, 0, 0.07, 0.5), bark)
    if season == "winter":
        for tip in ((-0.32, 0.84), (0.32, 0.84), (-0.13, 1.0), (0.15, 1.0), (-0.38, 0.58), (0.38, 0.58)):
            brush.line([(0, 0.36), tip], bark, 2.2)
            brush.disc(tip, (0.13, 0.09), (252, 253, 255), None)
        return
    brush.disc((0, 0.66), (0.34, 0.36), leaves)
    brush.disc((-0.08, 0.76), (0.18, 0.17), bright, None)


def _fir(brush: Brush, season: str) -> None:
    """Draw three tiers of needles, with snow in winter and tinged by the season otherwise."""
    brush.box((-0.06, 0, 0.06, 0.2), (112, 78, 58))
    near, _, leaves, _ = SEASONS[season]
    tinge = {"spring": mix((38, 104, 66), near, 0.4), "winter": (38, 96, 78)}
    needles = tinge.get(season) or mix((38, 104, 66), leaves, 0.55)
    for low, half in ((0.14, 0.34), (0.4, 0.27), (0.66, 0.2)):
        brush.polygon([(-half, low), (half, low), (0, low + 0.42)], needles)
        if season == "winter":
            brush.polygon([(-half * 0.6, low + 0.17), (half * 0.6, low + 0.17), (0, low + 0.42)], (250, 252, 255), None)
