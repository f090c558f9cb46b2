"""Letters that Pillow's own font lacks are taken from the system's fonts, if these have them."""

from collections.abc import Collection

import pytest
from PIL import Image, ImageFont

from ip2p.pictures import fonts
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.fonts import choose_font


def test_english_has_the_same_font_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_load_system_font", lambda *_: pytest.fail("the system was asked"))
    assert choose_font(["make it winter, 50 %", "add \u201csnow\u201d\n"], 14).getname()[0] == "Aileron"


def test_the_font_that_lacks_fewest_letters_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = {"none.ttf": "", "some.ttf": "冬雪", "more.ttf": "冬雪山"}
    found = {name: ImageFont.load_default(20 + number) for number, name in enumerate(letters)}
    has = {font.size: letters[name] for name, font in found.items()}

    def count(font: ImageFont.FreeTypeFont, wanted: Collection[str]) -> int:
        return len(set(wanted) - set(has.get(font.size, "")))

    monkeypatch.setattr(fonts, "SYSTEM_FONTS", ("lost.ttf", *found))
    monkeypatch.setattr(fonts, "_load_system_font", lambda name, size: found.get(name))
    monkeypatch.setattr(fonts, "_count_missing", count)
    assert choose_font(["冬", "雪 山"], 14) is found["more.ttf"]
    assert choose_font(["冬雪"], 14) is found["some.ttf"], "the first of those that have all"
    assert choose_font(["花"], 14).size == 14, "Pillow's own if none is better"


@pytest.mark.skipif(fonts._load_system_font("DejaVuSans.ttf", 14) is None, reason="needs DejaVu Sans")
def test_letters_are_no_boxes() -> None:
    """Boxes would be equal, whatever they stand for."""
    picture = Image.new("RGB", (32, 32))
    first, second = (contact_sheet([[picture]], [letter]) for letter in "éü")
    assert first.tobytes() != second.tobytes()
