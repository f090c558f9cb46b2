"""The font of texts in pictures: Pillow's own, or one of the system's for letters that it lacks.

Pillow's own, the same on every machine, has the letters of English alone: no accents, no Cyrillic, no Chinese.
"""

import functools
from collections.abc import Collection, Iterable

from PIL import ImageFont

SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc", "arial.ttf")
"""Fonts with the letters of many languages, by the names of their files on Linux, macOS and Windows."""
NOT_A_LETTER = "\uffff"
"""A code point that no font has, and that is drawn as all that a font lacks."""


def choose_font(texts: Iterable[str], size: int) -> ImageFont.FreeTypeFont:
    """Choose the font that lacks the fewest letters of texts: Pillow's own unless one of the system's lacks fewer.

    Args:
        texts: what is to be drawn.
        size: size in pixels.
    """
    letters = {sign for text in texts for sign in text if sign.isprintable() and sign != " "}
    own = ImageFont.load_default(size)
    assert isinstance(own, ImageFont.FreeTypeFont), "one with a size is"
    if not _count_missing(own, letters):
        return own
    found = [font for name in SYSTEM_FONTS if (font := _load_system_font(name, size))]
    return min([own, *found], key=lambda font: _count_missing(font, letters))


@functools.cache
def _load_system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Load a font from the folders in which systems keep them; None if it is not there."""
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _count_missing(font: ImageFont.FreeTypeFont, letters: Collection[str]) -> int:
    box = bytes(font.getmask(NOT_A_LETTER))
    return sum(bytes(font.getmask(letter)) == box for letter in letters)
