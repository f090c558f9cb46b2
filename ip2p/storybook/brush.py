"""A brush that draws one thing in its own coordinates: origin at its foot, its height as the unit, y upwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL.ImageDraw import ImageDraw

from ip2p.storybook.palette import INK, Color, Tint, mix

Real = int | float
Point = tuple[Real, Real]
Box = tuple[Real, Real, Real, Real]

SNOW: Color = (250, 252, 255)
GLASS: Color = (104, 136, 164)
LAMP: Color = (255, 224, 112)
OUTLINE = 1 / 100
"""Width of an outline in fractions of the canvas."""


class Brush:
    """Draws polygons, discs and lines with strong outlines, in the light of the scene.

    Args:
        draw: canvas of any size.
        x: middle of the thing on the canvas, in pixels.
        foot: lower edge of the thing on the canvas, in pixels.
        height: height of the thing, in pixels.
        tint: light of the scene.
    """

    def __init__(self, draw: ImageDraw, x: Real, foot: Real, height: Real, tint: Tint) -> None:
        self._draw, self._x, self._foot, self._height, self._tint = draw, x, foot, height, tint
        self._line = max(2, round(draw.im.size[0] * OUTLINE))

    def polygon(self, points: Sequence[Point], color: Color, outline: Color | None = INK) -> None:
        """Draw a filled polygon with an inked outline."""
        corners = [self._at(point) for point in points]
        self._draw.polygon(corners, fill=self._tint(color))
        if outline is not None:
            self._draw_outline(corners, self._tint(outline))

    def box(self, box: Box, color: Color, outline: Color | None = INK) -> None:
        """Draw a rectangle given as (left, bottom, right, top)."""
        left, bottom, right, top = box
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], color, outline)

    def arch(self, box: Box, color: Color, outline: Color | None = INK) -> None:
        """Draw a rectangle (left, bottom, right, top) with a pointed arch at its top, like a church window."""
        left, bottom, right, top = box
        middle, shoulder = (left + right) / 2, top - 0.5 * (right - left)
        curve = [(left, shoulder), (left + 0.18 * (right - left), shoulder + 0.68 * (top - shoulder)), (middle, top)]
        mirrored = [(left + right - x, y) for x, y in reversed(curve[:-1])]
        self.polygon([(left, bottom), *curve, *mirrored, (right, bottom)], color, outline)

    def disc(self, center: Point, radius: Point, color: Color, outline: Color | None = INK) -> None:
        """Draw an ellipse with half axes `radius`."""
        x, y = self._at(center)
        rx, ry = radius[0] * self._height, radius[1] * self._height
        ink = None if outline is None else self._tint(outline)
        self._draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=self._tint(color), outline=ink, width=self._line)

    def line(self, points: Sequence[Point], color: Color, width: Real = 1.0) -> None:
        """Draw an open line, `width` in units of the outline."""
        corners = [self._at(p) for p in points]
        self._draw.line(corners, fill=self._tint(color), width=max(1, round(self._line * width)), joint="curve")

    def limb(self, points: Sequence[Point], color: Color, width: Real) -> None:
        """Draw a thick line with round ends and an outline, `width` in units of the height."""
        outline = 2 * self._line / self._height
        for color_now, thickness in ((INK, width + outline), (color, width)):
            corners = [self._at(p) for p in points]
            pixels = thickness * self._height
            self._draw.line(corners, fill=self._tint(color_now), width=max(1, round(pixels)), joint="curve")
            for x, y in (corners[0], corners[-1]):
                box = (x - pixels / 2, y - pixels / 2, x + pixels / 2, y + pixels / 2)
                self._draw.ellipse(box, fill=self._tint(color_now))

    def roof(self, points: Sequence[Point], color: Color, snow: bool) -> None:
        """Draw a tiled roof; with snow its upper part is white and droops over the lower one."""
        self.polygon(points, color, None)
        if snow:
            low, high = min(y for _, y in points), max(y for _, y in points)
            cut = low + 0.56 * (high - low)
            cap = _above(points, cut)
            self.polygon(cap, SNOW, None)
            self._droop(cap, cut)
        self._draw_outline([self._at(point) for point in points], self._tint(INK))

    def window(self, box: Box, lit: bool) -> None:
        """Draw a window: dark glass or, if `lit`, a warm glow that is not tinted."""
        left, bottom, right, top = box
        if not lit:
            self.box(box, GLASS)
            return
        (x0, y0), (x1, y1) = self._at((left, top)), self._at((right, bottom))
        self._draw.rectangle((x0, y0, x1, y1), fill=LAMP, outline=mix(self._tint(INK), LAMP, 0.35), width=self._line)

    def _at(self, point: Point) -> Point:
        return self._x + point[0] * self._height, self._foot - point[1] * self._height

    def _draw_outline(self, corners: Sequence[Point], color: Color) -> None:
        self._draw.line([*corners, corners[0], corners[1]], fill=color, width=self._line, joint="curve")

    def _droop(self, cap: Sequence[Point], cut: Real) -> None:
        """Draw half discs of snow along the lower edge of a cap."""
        edge = [x for x, y in cap if abs(y - cut) < 1e-6]
        if not edge:
            return
        left, right = min(edge), max(edge)
        count = max(1, round((right - left) / 0.2))
        step = (right - left) / count
        for k in range(count):
            self.disc((left + (k + 0.5) * step, cut), (step / 2, min(0.05, step / 3)), SNOW, None)


def _above(points: Sequence[Point], cut: Real) -> list[Point]:
    """The part of a polygon above a height (Sutherland and Hodgman's clipping with one edge)."""
    kept: list[Point] = []
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if y0 >= cut:
            kept.append((x0, y0))
        if (y0 >= cut) != (y1 >= cut):
            kept.append((x0 + (x1 - x0) * (cut - y0) / (y1 - y0), cut))
    return kept


Drawing = Callable[[Brush], None]
