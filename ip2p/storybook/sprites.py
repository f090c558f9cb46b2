"""Buildings, animals and things in the sky, drawn with strong outlines.

Every function draws on a canvas of any size: positions and sizes are in pixels of that canvas, `tint` is the light of
the scene. Nothing that bears meaning is under 14 px of a 128 px picture, so that an 8x autoencoder can carry it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL.ImageDraw import ImageDraw

from ip2p.storybook.palette import INK, ROOFS, WALLS, Color, Tint, mix

Real = int | float
Point = tuple[Real, Real]
Box = tuple[Real, Real, Real, Real]


class Brush:
    """Draws in a frame whose origin is the foot of a thing and whose unit is its height; y points up."""

    def __init__(self, draw: ImageDraw, x: Real, foot: Real, height: Real, tint: Tint) -> None:
        self._draw, self._x, self._foot, self._height, self._tint = draw, x, foot, height, tint
        self._line = max(2, round(draw.im.size[0] / 85))

    def _at(self, point: Point) -> Point:
        return self._x + point[0] * self._height, self._foot - point[1] * self._height

    def polygon(self, points: Sequence[Point], color: Color, outline: Color | None = INK) -> None:
        """A filled polygon with an inked outline."""
        corners = [self._at(point) for point in points]
        self._draw.polygon(corners, fill=self._tint(color))
        if outline is not None:
            self._draw.line([*corners, corners[0]], fill=self._tint(outline), width=self._line, joint="curve")

    def box(self, box: Box, color: Color, outline: Color | None = INK) -> None:
        """A rectangle given as (left, bottom, right, top)."""
        left, bottom, right, top = box
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], color, outline)

    def disc(self, center: Point, radius: Point, color: Color, outline: Color | None = INK) -> None:
        """An ellipse with half axes `radius`."""
        x, y = self._at(center)
        rx, ry = radius[0] * self._height, radius[1] * self._height
        ink = None if outline is None else self._tint(outline)
        self._draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=self._tint(color), outline=ink, width=self._line)

    def line(self, points: Sequence[Point], color: Color, width: Real = 1.0) -> None:
        """An open line, `width` in units of the outline."""
        self._draw.line(
            [self._at(p) for p in points],
            fill=self._tint(color),
            width=max(1, round(self._line * width)),
            joint="curve",
        )

    def lamp(self, box: Box, lit: bool) -> None:
        """A window: dark glass by day, a warm light that the hour does not tint when `lit`."""
        if not lit:
            self.box(box, (96, 122, 148))
            return
        left, bottom, right, top = box
        (x0, y0), (x1, y1) = self._at((left, top)), self._at((right, bottom))
        self._draw.rectangle((x0, y0, x1, y1), fill=(255, 222, 110), outline=self._tint(INK), width=self._line)


SNOW: Color = (250, 252, 255)
STONE: Color = (128, 116, 118)
WOOD: Color = (120, 82, 56)


def _roof(color: str, season: str) -> Color:
    return SNOW if season == "winter" else ROOFS[color]


def barn(brush: Brush, color: str, season: str, lit: bool) -> None:
    """A wide barn with a gambrel roof and a white-framed door."""
    wall = WALLS[color]
    brush.polygon([(-0.62, 0), (0.62, 0), (0.62, 0.52), (0.36, 0.86), (0, 1), (-0.36, 0.86), (-0.62, 0.52)], wall)
    roof = _roof(color, season)
    brush.polygon([(-0.72, 0.48), (-0.42, 0.9), (0, 1.08), (0, 0.92), (-0.34, 0.78), (-0.6, 0.44)], roof)
    brush.polygon([(0.72, 0.48), (0.42, 0.9), (0, 1.08), (0, 0.92), (0.34, 0.78), (0.6, 0.44)], roof)
    brush.box((-0.26, 0, 0.26, 0.44), mix(wall, (255, 255, 255), 0.65))
    brush.line([(-0.26, 0), (0.26, 0.44)], INK)
    brush.line([(-0.26, 0.44), (0.26, 0)], INK)
    brush.lamp((-0.13, 0.56, 0.13, 0.76), lit)


def castle(brush: Brush, color: str, season: str, lit: bool) -> None:
    """Two round towers with pointed roofs, a battlement and a gate."""
    wall, roof = WALLS[color], _roof(color, season)
    brush.box((-0.34, 0, 0.34, 0.5), wall)
    for left in (-0.34, -0.1, 0.14):
        brush.box((left, 0.5, left + 0.14, 0.6), wall)
    for x in (-0.42, 0.42):
        brush.box((x - 0.15, 0, x + 0.15, 0.68), mix(wall, (255, 255, 255), 0.12))
        brush.polygon([(x - 0.21, 0.66), (x + 0.21, 0.66), (x, 1.04)], roof)
        brush.lamp((x - 0.06, 0.4, x + 0.06, 0.56), lit)
    brush.disc((0, 0.22), (0.14, 0.13), WOOD)
    brush.box((-0.14, 0, 0.14, 0.22), WOOD)


def cottage(brush: Brush, color: str, season: str, lit: bool) -> None:
    """A low cottage under a large steep roof with a chimney."""
    brush.box((0.3, 0.6, 0.48, 1.06), STONE)
    brush.box((-0.6, 0, 0.6, 0.46), WALLS[color])
    brush.polygon([(-0.78, 0.42), (0.78, 0.42), (0.4, 0.94), (-0.4, 0.94)], _roof(color, season))
    brush.box((-0.14, 0, 0.12, 0.34), WOOD)
    brush.lamp((-0.48, 0.14, -0.24, 0.34), lit)
    brush.lamp((0.24, 0.14, 0.48, 0.34), lit)


def windmill(brush: Brush, color: str, season: str, lit: bool) -> None:
    """A tapering mill with four wide sails."""
    brush.polygon([(-0.28, 0), (0.28, 0), (0.18, 0.66), (-0.18, 0.66)], WALLS[color])
    brush.polygon([(-0.23, 0.64), (0.23, 0.64), (0.1, 0.84), (-0.1, 0.84)], _roof(color, season))
    brush.box((-0.09, 0, 0.09, 0.2), WOOD)
    brush.lamp((-0.08, 0.32, 0.08, 0.46), lit)
    cx, cy = 0.0, 0.68
    for dx, dy in ((0.6, 0.6), (-0.6, 0.6), (0.6, -0.6), (-0.6, -0.6)):
        tip = (cx + 0.72 * dx, cy + 0.72 * dy)
        side = (-0.13 * dy / 0.6, 0.13 * dx / 0.6)
        root = (cx + 0.15 * dx, cy + 0.15 * dy)
        sail = [root, tip, (tip[0] + side[0], tip[1] + side[1]), (root[0] + side[0], root[1] + side[1])]
        brush.polygon(sail, (252, 246, 226))
        brush.line([(cx, cy), tip], WOOD, 1.3)
    brush.disc((cx, cy), (0.06, 0.06), WOOD)


def lighthouse(brush: Brush, color: str, season: str, lit: bool) -> None:
    """A slender tower with white bands and a lamp room."""
    wall = WALLS[color]
    band = (252, 250, 246) if color != "white" else (178, 184, 196)

    def half(y: float) -> float:
        return 0.2 - 0.1 * y

    for k in range(4):
        low, high = k * 0.19, (k + 1) * 0.19
        corners = [(-half(low), low), (half(low), low), (half(high), high), (-half(high), high)]
        brush.polygon(corners, wall if k % 2 == 0 else band)
    brush.box((-0.19, 0.76, 0.19, 0.81), STONE)
    brush.lamp((-0.1, 0.81, 0.1, 0.94), lit)
    brush.polygon([(-0.16, 0.93), (0.16, 0.93), (0, 1.06)], _roof(color, season))
    brush.box((-0.06, 0, 0.06, 0.13), WOOD)


def pagoda(brush: Brush, color: str, season: str, lit: bool) -> None:
    """Three storeys under three sweeping roofs."""
    roof = _roof(color, season)
    for k in range(3):
        low, half = 0.3 * k, 0.36 - 0.07 * k
        brush.box((-half, low, half, low + 0.2), WALLS[color])
        brush.lamp((-0.08, low + 0.03, 0.08, low + 0.16), lit)
        brush.polygon(
            [(-half - 0.24, low + 0.22), (half + 0.24, low + 0.22), (half - 0.1, low + 0.34), (0.1 - half, low + 0.34)],
            roof,
        )
    brush.line([(0, 0.94), (0, 1.12)], WOOD, 1.6)


def sheep(brush: Brush) -> None:
    """A fluffy white body, a dark face."""
    for x in (-0.34, -0.12, 0.16, 0.36):
        brush.box((x - 0.05, 0, x + 0.05, 0.3), (70, 60, 64))
    wool: Color = (250, 247, 240)
    puffs = [(-0.44, 0.52), (-0.2, 0.72), (0.12, 0.74), (0.36, 0.56), (0.1, 0.38), (-0.24, 0.38)]
    for puff in puffs:
        brush.disc(puff, (0.24, 0.22), wool)
    brush.disc((-0.04, 0.55), (0.42, 0.24), wool, None)
    brush.disc((0.6, 0.68), (0.19, 0.22), (66, 56, 60))


def cow(brush: Brush) -> None:
    """A white, boxy body with black patches and a pink muzzle."""
    for x in (-0.44, -0.22, 0.2, 0.4):
        brush.box((x - 0.06, 0, x + 0.06, 0.36), (246, 242, 236))
    brush.box((-0.56, 0.3, 0.52, 0.84), (250, 247, 242))
    brush.disc((-0.28, 0.64), (0.2, 0.18), (40, 36, 42), None)
    brush.disc((0.24, 0.54), (0.18, 0.2), (40, 36, 42), None)
    brush.box((0.46, 0.56, 0.82, 1.0), (40, 36, 42))
    brush.box((0.62, 0.52, 0.94, 0.74), (240, 150, 158))
    brush.polygon([(0.48, 0.98), (0.58, 0.98), (0.46, 1.14)], (244, 226, 178))
    brush.polygon([(0.7, 0.98), (0.8, 0.98), (0.84, 1.14)], (244, 226, 178))


def fox(brush: Brush) -> None:
    """Orange, with a brush of a tail and pointed ears."""
    orange: Color = (238, 116, 30)
    brush.polygon([(-0.44, 0.42), (-0.86, 0.5), (-1.02, 0.86), (-0.78, 0.9), (-0.42, 0.66)], orange)
    brush.polygon([(-1.02, 0.86), (-0.78, 0.9), (-0.92, 1.06)], (255, 250, 242))
    for x in (-0.38, 0.3):
        brush.box((x - 0.07, 0, x + 0.07, 0.36), (74, 46, 40))
    brush.disc((-0.04, 0.5), (0.5, 0.23), orange)
    brush.polygon([(0.28, 0.92), (0.42, 1.18), (0.54, 0.9)], orange)
    brush.polygon([(0.56, 0.9), (0.7, 1.16), (0.78, 0.86)], orange)
    brush.polygon([(0.26, 0.92), (0.8, 0.9), (0.98, 0.56), (0.4, 0.5)], orange)
    brush.polygon([(0.56, 0.52), (0.98, 0.56), (0.8, 0.7)], (255, 250, 242))


def rabbit(brush: Brush) -> None:
    """A round, sitting, grey-brown body with two tall ears."""
    fur: Color = (168, 146, 136)
    for x in (0.2, 0.44):
        brush.disc((x, 1.0), (0.1, 0.34), fur)
        brush.disc((x, 1.0), (0.04, 0.22), (244, 176, 184), None)
    brush.disc((-0.5, 0.22), (0.14, 0.14), (252, 250, 246))
    brush.disc((-0.1, 0.34), (0.46, 0.35), fur)
    brush.disc((0.34, 0.62), (0.28, 0.25), fur)
    brush.disc((0.44, 0.66), (0.05, 0.06), INK, None)
    brush.disc((0.14, 0.06), (0.22, 0.08), (236, 224, 214))


def balloon(brush: Brush) -> None:
    """A striped hot-air balloon with its basket."""
    brush.line([(-0.2, 0.4), (-0.09, 0.16)], INK)
    brush.line([(0.2, 0.4), (0.09, 0.16)], INK)
    brush.disc((0, 0.66), (0.36, 0.38), (232, 58, 88))
    brush.disc((0, 0.66), (0.2, 0.38), (255, 214, 74))
    brush.disc((0, 0.66), (0.07, 0.38), (232, 58, 88), None)
    brush.box((-0.12, 0, 0.12, 0.18), (146, 96, 56))


def bird(brush: Brush) -> None:
    """A large bird with spread wings."""
    feather: Color = (58, 64, 92)
    brush.polygon([(-0.1, 0.44), (-0.62, 0.98), (-0.94, 0.86), (-0.4, 0.28)], feather)
    brush.polygon([(0.02, 0.44), (0.4, 1.04), (0.74, 1.0), (0.36, 0.3)], feather)
    brush.disc((0, 0.36), (0.46, 0.17), (250, 248, 244))
    brush.disc((0.46, 0.46), (0.17, 0.16), (250, 248, 244))
    brush.polygon([(0.6, 0.5), (0.86, 0.42), (0.6, 0.36)], (250, 170, 40))
    brush.polygon([(-0.4, 0.4), (-0.82, 0.42), (-0.76, 0.2)], feather)


DrawBuilding = Callable[[Brush, str, str, bool], None]

BUILDINGS: dict[str, DrawBuilding] = {
    "barn": barn,
    "castle": castle,
    "cottage": cottage,
    "windmill": windmill,
    "lighthouse": lighthouse,
    "pagoda": pagoda,
}
ANIMALS: dict[str, Callable[[Brush], None]] = {"sheep": sheep, "cow": cow, "fox": fox, "rabbit": rabbit}
FLYERS: dict[str, Callable[[Brush], None]] = {"balloon": balloon, "bird": bird}
