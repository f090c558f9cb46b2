"""Self-contained HTML pages without links: templates, embedded pictures, charts in SVG."""

import base64
import functools
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import decode_image

FOLDER = Path(__file__).parent


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
    """A text beside a point, in units of the data."""

    x: float
    y: float
    text: str
    color: str


class Chart(NamedTuple):
    """Bars, areas, curves, labels and vertical lines in one frame; in a template, `{{ chart }}` draws it.

    Attributes:
        width, height: width and height of the frame in pixels.
        x, y: lowest and highest value of each axis.
        bounds: positions of the vertical lines on the x axis.
        top, left, right: labels at the upper end of the y axis and at both ends of the x axis.
        title: title below the chart.
        ticks: whether both axes have a few round values.
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

    def __html__(self) -> str:
        """The chart as SVG; templates call this."""
        return _environment(FOLDER).get_template("chart.html").render(chart=self)


def _round_values(low: float, high: float) -> list[float]:
    """Round values between two others: multiples of 1, 2 or 5 times a power of ten, five to ten of them."""
    rough = max(high - low, 1e-9) / 9
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(step * number, 9) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


@functools.cache
def _environment(folder: Path) -> Environment:
    """The templates of a folder and those that all pages share."""
    return Environment(
        loader=FileSystemLoader([folder, FOLDER]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
