"""A sheet shows every picture."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from ip2p.pictures import contact_sheet as module
from ip2p.pictures.contact_sheet import contact_sheet

PICTURE = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * k).resize((24, 16)) for k in range(3)])


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.text(max_size=60))
@settings(max_examples=20, deadline=None)
def test_a_sheet_holds_every_picture(widths: list[int], label: str) -> None:
    red = Image.new("RGB", (20, 10), (255, 0, 1))
    sheet = contact_sheet([[red] * width for width in widths], [label] * len(widths), ["one", "two words"])
    colors = {color: count for count, color in sheet.getcolors(1 << 20)}
    assert colors[(255, 0, 1)] == 200 * sum(widths)


def test_a_sheet_needs_neither_labels_nor_titles() -> None:
    assert contact_sheet([[PICTURE, PICTURE]]).size == (24 * 2 + 8 * 3, 16 + 8 * 2)


def test_long_labels_are_wrapped_beside_their_row() -> None:
    short, long = (contact_sheet([[PICTURE]], [text]) for text in ("winter", "make it winter " * 20))
    assert short.width == long.width and short.height < long.height


def test_captions_stand_below_their_pictures() -> None:
    rows, texts = [[PICTURE, PICTURE], [PICTURE]], [["a barn", "a barn in the snow " * 9], [""]]
    plain, captioned = contact_sheet(rows), contact_sheet(rows, captions=texts)
    assert captioned.width == plain.width and captioned.height > plain.height
    left, top = 8, 8
    assert captioned.crop((left, top, left + 24, top + 16)) == PICTURE
    below = captioned.crop((left, top + 16, left + 24, top + 60)).convert("L")
    assert below.getextrema()[0] < 128, "no text"


def test_a_long_word_covers_no_picture() -> None:
    red = Image.new("RGB", (40, 200), (255, 0, 1))
    sheet = contact_sheet([[red, red]], ["x" * 90 + " winter"], ["y" * 60, ""])
    assert {color: count for count, color in sheet.getcolors(1 << 20)}[(255, 0, 1)] == 2 * 40 * 200
    between = sheet.crop((sheet.width - 2 * 8 - 40, 0, sheet.width - 8 - 40, sheet.height)).convert("L")
    assert between.getextrema()[0] == 255, "the first title does not reach the second column"


def test_text_in_a_taller_font_covers_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "choose_font", lambda texts, size: ImageFont.load_default(2 * size))
    red = Image.new("RGB", (40, 20), (255, 0, 1))
    texts = ["a barn by the sea"] * 2
    sheet = contact_sheet([[red], [red]], texts, ["two words"], [[each] for each in texts])
    assert {color: count for count, color in sheet.getcolors(1 << 20)}[(255, 0, 1)] == 2 * 40 * 20
