"""Buildings of the storybook world, each with an outline of its own, and colors of walls, roof and door."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ip2p.storybook.brush import Box, Brush
from ip2p.storybook.palette import INK, Color, mix

STONE: Color = (150, 142, 148)
WOOD: Color = (120, 82, 56)
WHITE: Color = (252, 250, 246)


class Look(NamedTuple):
    """Colors and state of a building.

    Args:
        wall: color of the walls.
        roof: color of the roof.
        door: color of the door.
        snow: whether snow lies on the roof.
        lit: whether its windows are lit.
    """

    wall: Color
    roof: Color
    door: Color
    snow: bool
    lit: bool


def barn(brush: Brush, look: Look) -> None:
    """A wide barn with a broad gambrel roof and a double door."""
    brush.polygon([(-0.6, 0), (0.6, 0), (0.6, 0.5), (0.36, 0.84), (0, 1), (-0.36, 0.84), (-0.6, 0.5)], look.wall)
    for side in (-1, 1):
        slope = [(0.76, 0.42), (0.46, 0.92), (0, 1.1), (0, 0.84), (0.32, 0.71), (0.56, 0.36)]
        brush.roof([(side * x, y) for x, y in slope], look.roof, look.snow)
    brush.box((-0.3, 0, 0.3, 0.44), WHITE)
    brush.box((-0.24, 0, 0.24, 0.38), look.door)
    brush.line([(-0.24, 0), (0.24, 0.38)], WHITE, 1.4)
    brush.line([(-0.24, 0.38), (0.24, 0)], WHITE, 1.4)
    brush.window((-0.12, 0.52, 0.12, 0.7), look.lit)


def castle(brush: Brush, look: Look) -> None:
    """Two towers with pointed roofs, battlements between them, and a gate."""
    brush.box((-0.36, 0, 0.36, 0.52), look.wall)
    for left in (-0.3, -0.08, 0.14):
        brush.box((left, 0.52, left + 0.16, 0.63), look.wall)
    for x in (-0.44, 0.44):
        brush.box((x - 0.16, 0, x + 0.16, 0.66), mix(look.wall, WHITE, 0.15))
        brush.roof([(x - 0.24, 0.64), (x + 0.24, 0.64), (x, 1.08)], look.roof, look.snow)
        brush.window((x - 0.07, 0.36, x + 0.07, 0.54), look.lit)
    brush.arch((-0.19, 0, 0.19, 0.42), STONE)
    brush.arch((-0.14, 0, 0.14, 0.36), look.door)


def cottage(brush: Brush, look: Look) -> None:
    """A low cottage under a large steep roof with a chimney."""
    brush.box((0.3, 0.6, 0.5, 1.08), STONE)
    brush.box((-0.62, 0, 0.62, 0.48), look.wall)
    brush.roof([(-0.8, 0.42), (0.8, 0.42), (0.44, 0.96), (-0.44, 0.96)], look.roof, look.snow)
    brush.box((-0.18, 0, 0.18, 0.4), WHITE)
    brush.box((-0.13, 0, 0.13, 0.36), look.door)
    brush.window((-0.52, 0.14, -0.27, 0.35), look.lit)
    brush.window((0.27, 0.14, 0.52, 0.35), look.lit)


def windmill(brush: Brush, look: Look) -> None:
    """A tapering mill with a domed cap and four wide sails."""
    brush.polygon([(-0.3, 0), (0.3, 0), (0.2, 0.7), (-0.2, 0.7)], look.wall)
    brush.roof([(-0.38, 0.66), (0.38, 0.66), (0.3, 0.94), (0, 1.14), (-0.3, 0.94)], look.roof, look.snow)
    brush.box((-0.13, 0, 0.13, 0.29), WHITE)
    brush.box((-0.09, 0, 0.09, 0.26), look.door)
    cx, cy = 0.0, 0.6
    for dx, dy in ((0.6, 0.6), (-0.6, 0.6), (0.6, -0.6), (-0.6, -0.6)):
        tip = (cx + 0.75 * dx, cy + 0.75 * dy)
        side = (-0.15 * dy / 0.6, 0.15 * dx / 0.6)
        root = (cx + 0.2 * dx, cy + 0.2 * dy)
        brush.polygon([root, tip, (tip[0] + side[0], tip[1] + side[1]), (root[0] + side[0], root[1] + side[1])], WHITE)
        brush.line([(cx, cy), tip], WOOD, 1.5)
    brush.disc((cx, cy), (0.07, 0.07), WOOD)


def lighthouse(brush: Brush, look: Look) -> None:
    """A slender tower with white bands, a lamp room and a domed cap."""
    band = WHITE if look.wall[2] < 200 or look.wall[0] < 200 else (172, 178, 192)

    def half(y: float) -> float:
        return 0.24 - 0.12 * y

    for k in range(3):
        low, high = 0.25 * k, 0.25 * (k + 1)
        corners = [(-half(low), low), (half(low), low), (half(high), high), (-half(high), high)]
        brush.polygon(corners, band if k == 1 else look.wall)
    brush.box((-0.24, 0.73, 0.24, 0.78), STONE)
    brush.window((-0.13, 0.78, 0.13, 0.9), look.lit)
    brush.roof([(-0.32, 0.87), (0.32, 0.87), (0.22, 1.04), (0, 1.2), (-0.22, 1.04)], look.roof, look.snow)
    brush.arch((-0.12, 0, 0.12, 0.25), WHITE)
    brush.arch((-0.09, 0, 0.09, 0.22), look.door)


def church(brush: Brush, look: Look) -> None:
    """A nave under a long roof and a steeple with a cross."""
    brush.box((-0.12, 0, 0.62, 0.34), look.wall)
    brush.roof([(-0.14, 0.31), (0.7, 0.31), (0.6, 0.6), (-0.14, 0.6)], look.roof, look.snow)
    for left in (0.02, 0.32):
        brush.window((left, 0.09, left + 0.18, 0.25), look.lit)
    brush.box((-0.5, 0, -0.12, 0.62), mix(look.wall, WHITE, 0.12))
    brush.roof([(-0.58, 0.6), (-0.04, 0.6), (-0.31, 0.98)], look.roof, look.snow)
    brush.line([(-0.31, 0.96), (-0.31, 1.16)], INK, 1.6)
    brush.line([(-0.39, 1.09), (-0.23, 1.09)], INK, 1.6)
    brush.arch((-0.43, 0, -0.19, 0.34), WHITE)
    brush.arch((-0.4, 0, -0.22, 0.3), look.door)
    brush.window((-0.38, 0.41, -0.24, 0.54), look.lit)


def temple(brush: Brush, look: Look) -> None:
    """Four columns on steps under a broad gable."""
    brush.box((-0.66, 0.1, 0.66, 0.66), mix(look.wall, INK, 0.45))
    brush.box((-0.19, 0.1, 0.19, 0.56), WHITE)
    brush.box((-0.14, 0.1, 0.14, 0.52), look.door)
    for side in (-1, 1):
        brush.window((min(side * 0.29, side * 0.42), 0.3, max(side * 0.29, side * 0.42), 0.52), look.lit)
        for x in (0.24, 0.6):
            _column(brush, side * x, look.wall)
    brush.box((-0.8, 0, 0.8, 0.11), STONE)
    brush.box((-0.76, 0.62, 0.76, 0.72), look.wall)
    brush.roof([(-0.86, 0.72), (0.86, 0.72), (0, 1.1)], look.roof, look.snow)


def _column(brush: Brush, x: float, color: Color) -> None:
    brush.box((x - 0.06, 0.1, x + 0.06, 0.62), color)
    brush.box((x - 0.085, 0.56, x + 0.085, 0.63), color)


def pagoda(brush: Brush, look: Look) -> None:
    """Three storeys under three sweeping roofs."""
    for k in range(3):
        low, half = 0.31 * k, 0.38 - 0.08 * k
        brush.box((-half, low, half, low + 0.22), look.wall)
        if k:
            brush.window((-0.09, low + 0.05, 0.09, low + 0.18), look.lit)
        out, inside = half + 0.26, half - 0.08
        eaves: Box = (-out, low + 0.24, out, low + 0.24)
        points = [(eaves[0], eaves[1]), (0, low + 0.19), (eaves[2], eaves[3]), (inside, low + 0.36)]
        brush.roof([*points, (-inside, low + 0.36)], look.roof, look.snow)
    brush.line([(0, 0.96), (0, 1.14)], WOOD, 1.8)
    brush.box((-0.12, 0, 0.12, 0.21), look.door)


BUILDINGS: dict[str, Callable[[Brush, Look], None]] = {
    "barn": barn,
    "castle": castle,
    "cottage": cottage,
    "windmill": windmill,
    "lighthouse": lighthouse,
    "church": church,
    "temple": temple,
    "pagoda": pagoda,
}
