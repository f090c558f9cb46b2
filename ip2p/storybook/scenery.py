"""What stands around the things of a scene: sky, land and water, trees, and the weather.

Functions draw on a square canvas of `side` pixels; positions are fractions of the side. `rng` places the small things,
and every call draws the same number from it whatever the attributes are, so that an edit leaves the rest in place.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ip2p.storybook.palette import INK, SAND, SEASONS, WATER, Color, Tint, light, mix, sky_gradient
from ip2p.storybook.scene import Scene
from ip2p.storybook.sprites import Brush

MOON: Color = (252, 246, 214)
RAINBOW: tuple[Color, ...] = (
    (226, 52, 62),
    (246, 146, 48),
    (252, 222, 70),
    (76, 180, 84),
    (64, 114, 214),
    (142, 76, 178),
)


def sky(scene: Scene, side: int) -> Image.Image:
    """A canvas filled with the sky's gradient, which ends at the horizon."""
    top, bottom = (np.array(color, np.float32) for color in sky_gradient(scene.time, scene.weather))
    share = np.clip(np.arange(side) / (scene.layout.horizon * side), 0, 1)[:, None]
    column = (top + (bottom - top) * share).round().astype(np.uint8)
    return Image.fromarray(np.repeat(column[:, None], side, axis=1))


def lights_of_the_sky(draw: ImageDraw.ImageDraw, scene: Scene, rng: random.Random, side: int) -> None:
    """Sun, or moon and stars, where the weather lets them through."""
    stars = [(rng.uniform(0.3, 0.97), rng.uniform(0.04, 0.32)) for _ in range(8)]
    if scene.weather in ("rain", "storm"):
        return
    if scene.time == "night":
        for x, y in stars:
            _star(draw, x * side, y * side, 0.014 * side)
        _disc(draw, 0.12, 0.14, 0.075, MOON, side)
        _disc(draw, 0.15, 0.12, 0.06, sky_gradient("night", scene.weather)[0], side)
    elif scene.time == "sunset":
        _disc(draw, 0.13, scene.layout.horizon - 0.06, 0.12, (255, 150, 74), side)
        _disc(draw, 0.13, scene.layout.horizon - 0.06, 0.088, (255, 222, 130), side)
    else:
        _disc(draw, 0.12, 0.14, 0.075, (255, 226, 92), side)


def clouds(draw: ImageDraw.ImageDraw, scene: Scene, rng: random.Random, side: int) -> None:
    """A white cloud on a clear day, a grey bank over rain, a dark one over a storm."""
    drift = rng.uniform(-0.04, 0.04)
    tint = light(scene.time, scene.weather)
    if scene.weather == "clear":
        if scene.time != "night":
            _cloud(draw, 0.4 + drift, 0.1, 0.07, tint((255, 255, 255)), side)
    elif scene.weather in ("rain", "storm"):
        color: Color = (150, 158, 170) if scene.weather == "rain" else (86, 76, 104)
        for k in range(6):
            _cloud(draw, 0.2 * k + drift, 0.05 + 0.02 * (k % 2), 0.1, light(scene.time, "clear")(color), side)


def land(draw: ImageDraw.ImageDraw, scene: Scene, side: int) -> None:
    """What the place is made of, from the horizon down."""
    tint = light(scene.time, scene.weather)
    near, far, _, _ = SEASONS[scene.season]
    horizon = scene.layout.horizon
    if scene.place == "mountains":
        _peaks(draw, scene, tint, side)
    _hills(draw, horizon, 0.03 if scene.place in ("meadow", "mountains") else 0.0, tint(far), tint(INK), side)
    if scene.place == "beach":
        _water(draw, scene, horizon, horizon + 0.13, tint, side)
        _wavy(draw, horizon + 0.13, 0.012, tint(SAND[scene.season]), side)
    elif scene.place == "lake":
        _wavy(draw, horizon + 0.1, 0.012, tint(near), side)
        _water(draw, scene, horizon + 0.13, 0.84, tint, side)
    else:
        _wavy(draw, horizon + 0.12, 0.02, tint(near), side)


def trees(draw: ImageDraw.ImageDraw, scene: Scene, rng: random.Random, side: int) -> None:
    """Two trees at the right and one at the left, dressed by the season; palms on a beach in summer and spring."""
    spots = [(0.9 + rng.uniform(-0.025, 0.025), 0.3), (0.78 + rng.uniform(-0.02, 0.02), 0.22), (0.05, 0.2)]
    foot = scene.layout.horizon + 0.11
    tint = light(scene.time, scene.weather)
    for x, height in spots:
        brush = Brush(draw, x * side, foot * side, height * side, tint)
        if scene.place == "mountains":
            _fir(brush, scene.season)
        else:
            _tree(brush, scene.season)


def small_things(draw: ImageDraw.ImageDraw, scene: Scene, rng: random.Random, side: int) -> None:
    """Flowers, tufts, fallen leaves or heaps of snow in front."""
    spots = [(rng.uniform(0.04, 0.96), rng.uniform(0.05, 0.95)) for _ in range(7)]
    tint = light(scene.time, scene.weather)
    top = 0.87 if scene.place == "lake" else scene.layout.horizon + 0.2
    for number, (x, depth) in enumerate(spots):
        y = top + depth * (0.97 - top)
        size = 0.02 + 0.008 * depth
        if scene.season == "spring":
            _disc(draw, x, y, size * 0.8, tint(((250, 120, 160), (255, 236, 110), (252, 252, 255))[number % 3]), side)
        elif scene.season == "summer":
            _tuft(draw, x, y, size, tint((52, 122, 44)), side)
        elif scene.season == "autumn":
            _disc(draw, x, y, size * 0.75, tint(((214, 84, 30), (240, 168, 48))[number % 2]), side)
        else:
            _disc(draw, x, y, size * 1.1, tint((252, 253, 255)), side)


def rainbow(canvas: Image.Image, scene: Scene, side: int) -> None:
    """A broad bow behind the building."""
    draw = ImageDraw.Draw(canvas)
    x, y, width = 0.5 * side, (scene.layout.horizon + 0.06) * side, 0.024 * side
    tint = light("day" if scene.time == "day" else "sunset", "clear")
    for number, color in enumerate(RAINBOW):
        radius = 0.46 * side - number * width
        draw.arc((x - radius, y - radius, x + radius, y + radius), 180, 360, fill=tint(color), width=round(width) + 1)


def weather(canvas: Image.Image, scene: Scene, rng: random.Random, side: int) -> Image.Image:
    """What hangs in the air, over everything: streaks of rain, a veil of fog, a bolt of lightning."""
    slip = rng.uniform(0, 0.1)
    if scene.weather == "fog":
        return _fog(canvas, scene, side)
    draw = ImageDraw.Draw(canvas)
    if scene.weather in ("rain", "storm"):
        color = mix((206, 224, 244), (150, 166, 200), 0.6 if scene.time == "night" else 0.0)
        for row in range(6):
            for column in range(7):
                x = (column * 0.155 + (row % 2) * 0.075 + slip) * side
                y = (0.16 + row * 0.14) * side
                draw.line((x, y, x - 0.03 * side, y + 0.085 * side), fill=color, width=max(2, side // 100))
    if scene.weather == "storm":
        bolt = [(0.8, 0.1), (0.72, 0.27), (0.79, 0.27), (0.7, 0.46), (0.86, 0.22), (0.79, 0.22), (0.87, 0.1)]
        draw.polygon([(x * side, y * side) for x, y in bolt], fill=(255, 244, 140), outline=(255, 252, 220))
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
    for dx, dy, r in ((-1.0, 0.25, 0.6), (-0.35, -0.1, 0.75), (0.4, 0.0, 0.7), (1.0, 0.3, 0.5)):
        _disc(draw, x + dx * size, y + dy * size, r * size, color, side)


def _wavy(draw: ImageDraw.ImageDraw, top: float, swing: float, color: Color, side: int) -> None:
    """Ground below a gently waving line."""
    edge = [(x / 16, top + swing * math.sin(0.9 + x * 0.55)) for x in range(17)]
    draw.polygon([*((x * side, y * side) for x, y in edge), (side, side), (0, side)], fill=color)


def _hills(draw: ImageDraw.ImageDraw, top: float, swing: float, color: Color, ink: Color, side: int) -> None:
    edge = [(x / 24 * side, (top + swing * math.sin(x * 0.42 - 0.6)) * side) for x in range(25)]
    draw.polygon([*edge, (side, side), (0, side)], fill=color)
    draw.line(edge, fill=mix(color, ink, 0.45), width=max(1, side // 128))


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
        draw.line([*corners, corners[0]], fill=ink, width=max(2, side // 110), joint="curve")


def _water(draw: ImageDraw.ImageDraw, scene: Scene, top: float, bottom: float, tint: Tint, side: int) -> None:
    color = tint(WATER[scene.season])
    bright = mix(color, tint((255, 255, 255)), 0.5)
    if scene.place == "lake":
        box = (0.26 * side, top * side, 1.2 * side, bottom * side)
        draw.ellipse(box, fill=color, outline=mix(color, tint(INK), 0.35), width=max(2, side // 100))
    else:
        draw.rectangle((0, top * side, side, (bottom + 0.02) * side), fill=color)
    for number, depth in enumerate((0.25, 0.5, 0.78)):
        y = (top + depth * (bottom - top)) * side
        for x in (0.52, 0.84) if scene.place == "lake" else (0.16, 0.52, 0.84):
            start = (x + 0.09 * (number % 2) - 0.06) * side
            draw.line((start, y, start + 0.11 * side, y), fill=bright, width=max(2, side // 90))


def _tuft(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, color: Color, side: int) -> None:
    for lean in (-0.7, 0.0, 0.7):
        draw.line((x * side, y * side, (x + lean * size) * side, (y - 1.5 * size) * side), fill=color, width=3)


def _tree(brush: Brush, season: str) -> None:
    """A round crown; in winter bare branches with snow on them."""
    bark: Color = (112, 78, 58)
    _, _, leaves, bright = SEASONS[season]
    brush.box((-0.06, 0, 0.06, 0.5), bark)
    if season == "winter":
        for tip in ((-0.3, 0.86), (0.3, 0.86), (-0.16, 1.0), (0.16, 1.0), (-0.36, 0.62), (0.36, 0.62)):
            brush.line([(0, 0.38), tip], bark, 1.6)
            brush.disc(tip, (0.11, 0.08), (252, 253, 255), None)
        return
    brush.disc((0, 0.66), (0.34, 0.36), leaves)
    brush.disc((-0.08, 0.76), (0.18, 0.17), bright, None)


def _fir(brush: Brush, season: str) -> None:
    """Three tiers of needles, each with snow in winter, tinged by the season otherwise."""
    brush.box((-0.06, 0, 0.06, 0.2), (112, 78, 58))
    _, _, leaves, _ = SEASONS[season]
    needles = (38, 96, 78) if season == "winter" else mix((38, 104, 66), leaves, 0.55)
    for low, half in ((0.14, 0.34), (0.4, 0.27), (0.66, 0.2)):
        brush.polygon([(-half, low), (half, low), (0, low + 0.42)], needles)
        if season == "winter":
            brush.polygon([(-half * 0.6, low + 0.17), (half * 0.6, low + 0.17), (0, low + 0.42)], (250, 252, 255), None)
