"""Self-contained HTML pages without links: templates, embedded pictures, charts in SVG."""

import base64
import functools
import io
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import decode_image

FOLDER = Path(__file__).parent
GLYPH, LINE = 7, 13
"""Width of a character and height of a line of the labels in charts, in pixels, rather too large than too small."""


def render_page(template: Path, **values: Any) -> str:
    """Render a page as HTML. Every text among the values is escaped.

    Args:
        template: path of a file that extends `base.html`; its folder and this one are searched for other templates.
        values: values by their names in the template.
    """
    return _environment(template.parent).get_template(template.name).render(values)


def data_uri(picture: bytes, kind: str) -> str:
    """Encode a picture as a data URI; the kind is png or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def thumbnail(png: bytes, side: int) -> str:
    """Shrink a PNG picture to `side` pixels at most and encode it as the data URI of a JPEG."""
    image = to_rgb(decode_image(png, "a stored picture"))
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return data_uri(stream.getvalue(), "jpeg")


class Bar(NamedTuple):
    """A filled rectangle, in units of the data."""

    left: float
    right: float
    bottom: float
    top: float
    color: str


class Curve(NamedTuple):
    """Points joined by a line, in units of the data, each with a dot of some pixels."""

    points: Sequence[tuple[float, float]]
    color: str
    dot: int


class Area(NamedTuple):
    """A pale filled outline, in units of the data, such as the band of a curve."""

    outline: Sequence[tuple[float, float]]
    color: str


class Label(NamedTuple):
    """A short text beside a point, in units of the data."""

    x: float
    y: float
    text: str
    color: str


class PlacedLabel(NamedTuple):
    """A label, and where its text begins, in pixels from the upper left corner of the frame."""

    label: Label
    x: float
    y: float


class Chart(NamedTuple):
    """Bars, areas, curves, labels and vertical lines in one frame; in a template, `{{ chart }}` draws it.

    Attributes:
        width, height: width and height of the frame in pixels.
        x, y: lowest and highest value of each axis.
        bounds: positions of the vertical lines on the x axis.
        top, left, right: labels at the upper end of the y axis and at both ends of the x axis.
        title: title below the chart.
        areas: areas; where those of one colour overlap, they are no darker.
        labels: labels, which are moved off each other.
        ticks: whether both axes have a few round values.
        legend: texts with the colours that they explain, a line for each below the chart.
    """

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    bars: Sequence[Bar] = ()
    curves: Sequence[Curve] = ()
    bounds: Sequence[float] = ()
    top: str = ""
    left: str = ""
    right: str = ""
    title: str = ""
    areas: Sequence[Area] = ()
    labels: Sequence[Label] = ()
    ticks: bool = False
    legend: Sequence[tuple[str, str]] = ()

    @property
    def x_ticks(self) -> list[float]:
        """Round values of x."""
        return _round_values(*self.x) if self.ticks else []

    @property
    def y_ticks(self) -> list[float]:
        """Round values of y."""
        return _round_values(*self.y) if self.ticks else []

    def across(self, value: int | float) -> float:
        """Convert a value of x to pixels from the left edge of the frame."""
        low, high = self.x
        return (value - low) / max(high - low, 1e-9) * self.width

    def down(self, value: int | float) -> float:
        """Convert a value of y to pixels from the upper edge of the frame."""
        low, high = self.y
        return self.height - (value - low) / max(high - low, 1e-9) * self.height

    @property
    def placed_labels(self) -> list[PlacedLabel]:
        """Places of the labels: as near to their points as there is neither another label nor, if possible, a curve."""
        placed: list[PlacedLabel] = []
        lines = [each for curve in self.curves for each in self._along(curve)]
        for label in self.labels:
            right, length = self.across(label.x) + 7, len(label.text) * GLYPH
            spots = [
                PlacedLabel(label, x, self.down(label.y) + 4 + LINE * number)
                for number in (0, -1, 1, -2, 2, -3, 3)
                for x in (right, right - 14 - length, right - 7 - length / 2)[: 3 if number else 2]
            ]
            inside = [each for each in spots if 0 <= each.x <= self.width - length and LINE <= each.y <= self.height]
            free = [each for each in inside if not any(_hits(each, other) for other in placed)]
            clear = [each for each in free if not any(_covers(each, x, y) for x, y in lines)]
            placed.append(next(iter(clear or free or spots)))
        return placed

    def _along(self, curve: Curve) -> Iterator[tuple[float, float]]:
        """Places along the lines of a curve in pixels, near enough to each other for none to slip past a label."""
        spots = [(self.across(x), self.down(y)) for x, y in curve.points]
        for (x, y), (next_x, next_y) in itertools.pairwise(spots):
            parts = 1 + int(math.hypot(next_x - x, next_y - y) / GLYPH)
            yield from ((x + (next_x - x) * k / parts, y + (next_y - y) * k / parts) for k in range(parts))
        yield from spots[-1:]

    def __html__(self) -> str:
        """The chart as SVG; templates call this."""
        return _environment(FOLDER).get_template("chart.html").render(chart=self)


def _hits(one: PlacedLabel, other: PlacedLabel) -> bool:
    """Whether the texts of two labels overlap."""
    first, second = (one, other) if one.x <= other.x else (other, one)
    return abs(one.y - other.y) < LINE and second.x < first.x + len(first.label.text) * GLYPH


def _covers(label: PlacedLabel, x: float, y: float) -> bool:
    """Whether the text of a label covers a place."""
    return label.x <= x <= label.x + len(label.label.text) * GLYPH and label.y - LINE <= y <= label.y + 2


def _round_values(low: int | float, high: int | float) -> list[float]:
    """Round values between two others: multiples of 1, 2 or 5 times a power of ten, five to ten of them."""
    rough = max(high - low, 1e-9) / 9
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(float(step * number), 9) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


@functools.cache
def _environment(folder: Path) -> Environment:
    """The templates of a folder and those that all pages share."""
    return Environment(
        loader=FileSystemLoader([folder, FOLDER]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
