"""Pages: texts are escaped, pictures lie inside, charts stay in their frames."""

import base64
import io
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from PIL import Image

from ip2p.pictures.pages import GLYPH, LINE, Area, Bar, Chart, Curve, Label, data_uri, render_page, thumbnail


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A page of somebody else's folder."""
    path = tmp_path / "mine.html"
    path.write_text('{% extends "base.html" %}{% block body %}{{ text }}{{ chart }}{% endblock %}')
    return path


def test_texts_are_escaped_and_charts_are_not(template: Path) -> None:
    chart = Chart(100, 50, x=(0, 1), y=(0, 1), title="<b>")
    page = render_page(template, title="<i>", facts={"<u>": "<s>"}, text="<script>", chart=chart)
    assert not re.search(r"<(i|u|s|b|script)>", page)
    assert page.startswith("<!doctype html>") and page.count("<svg") == 1 and "&lt;script&gt;" in page


def test_what_a_template_lacks_is_an_error(template: Path) -> None:
    with pytest.raises(UndefinedError, match="text"):
        render_page(template, title="", facts={})


def test_a_thumbnail_is_a_small_picture_in_its_address() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (64, 32), "red").save(stream, "PNG")
    kind, _, encoded = thumbnail(stream.getvalue(), 16).partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as small:
        assert small.size == (16, 8)
    assert data_uri(b"abc", "png") == "data:image/png;base64,YWJj"


def test_a_chart_is_drawn_in_pixels() -> None:
    bars = [Bar(0, 1, 0, 2, "green"), Bar(1, 2, 0, 0, "gray")]
    chart = Chart(100, 50, x=(0, 4), y=(0, 2), bars=bars, curves=[Curve([(0, 0), (4, 1)], "blue", 2)], bounds=[2])
    drawn = chart.__html__()
    assert '<rect x="0.0" y="0.0" width="24.0" height="50.0" fill="green"/>' in drawn and drawn.count("<rect") == 1
    assert 'points="0.0,50.0 100.0,25.0 "' in drawn and 'd="M50.0 0V50"' in drawn


def test_no_curve_crosses_the_label_above_a_chart() -> None:
    drawn = Chart(100, 50, x=(0, 1), y=(0, 1), top="precision", curves=[Curve([(0, 1), (1, 1)], "blue", 0)]).__html__()
    box, height = re.search(r'viewBox="-4 (-\d+) \d+ (\d+)"', drawn), re.search(r'<text x="0" y="(-\d+)">pre', drawn)
    assert box and height and int(box[1]) + 12 <= int(height[1]) < -1, "a font of 12 pixels, in the picture"
    assert int(box[1]) + int(box[2]) == 50 + 44, "room for two lines below"


def test_a_chart_of_one_value_is_drawn_too() -> None:
    assert "nan" not in Chart(100, 50, x=(1, 1), y=(0, 0), curves=[Curve([(1, 0)], "blue", 2)]).__html__()


def test_labels_are_moved_off_each_other_and_stay_in_the_frame() -> None:
    labels = [Label(x, 0.5, "strength 0.3", "red") for x in (0.0, 0.01, 0.02, 0.98, 1.0)]
    placed = Chart(300, 100, x=(0, 1), y=(0, 1), labels=labels).placed_labels
    width = len("strength 0.3") * GLYPH
    assert [each.label for each in placed] == labels
    assert all(0 <= each.x <= 300 - width and LINE <= each.y <= 100 for each in placed)
    for number, one in enumerate(placed):
        assert all(abs(one.y - each.y) >= LINE or abs(one.x - each.x) >= width for each in placed[:number])


def test_a_label_stands_beside_its_curve() -> None:
    curve, label = Curve([(0.5, 0.5), (1, 0.5)], "red", 3), Label(0.5, 0.5, "0.3", "red")
    (placed,) = Chart(300, 100, x=(0, 1), y=(0, 1), curves=[curve], labels=[label]).placed_labels
    assert placed.y == 54 and placed.x + 3 * GLYPH < 150


def test_overlapping_areas_of_a_colour_make_one_pale_area() -> None:
    areas = [Area([(0, 0), (1, 0), (1, 1)], color) for color in ("red", "blue", "red")]
    drawn = Chart(100, 50, x=(0, 1), y=(0, 1), areas=areas).__html__()
    assert drawn.count("<polygon") == 3 and drawn.count("<g ") == 2


def test_values_and_legend_have_their_own_room() -> None:
    drawn = Chart(100, 50, x=(0, 10), y=(0, 1), ticks=True, right="step", legend=[("<a>", "red")] * 2).__html__()
    box = re.search(r'viewBox="-(\d+) -4 (\d+) (\d+)"', drawn)
    assert box and int(box[1]) > 30 and int(box[2]) > 100 + int(box[1]), "values beside the frame"
    assert int(box[3]) == 4 + 50 + 44 + 2 * 18 and drawn.count("&lt;a&gt;") == 2
    assert 'y="84" text-anchor="end">step<' in drawn and 'y="66" text-anchor="middle"' in drawn


def test_a_page_fits_the_screen_that_shows_it(template: Path) -> None:
    page = render_page(template, title="", facts={}, text="", chart="")
    assert '<meta name="viewport" content="width=device-width' in page and "<table>" not in page
