"""Pages: texts are escaped, pictures lie inside, charts stay in their frames."""

import base64
import io
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from PIL import Image

from ip2p.pictures.pages import Bar, Chart, Curve, data_uri, render_page, thumbnail


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
