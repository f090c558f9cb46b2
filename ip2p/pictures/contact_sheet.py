"""Contact sheets: pictures in rows on white, with labels and titles."""

import functools
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from ip2p.pictures.fonts import choose_font

GAP = 8
LABEL_WIDTH = 150
TEXT_SIZE = 14
LINE_GAP = 4
"""Pixels between lines, as Pillow draws them."""


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]],
    labels: Sequence[str] | None = None,
    header: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
) -> Image.Image:
    """Draw pictures in rows on white, with wrapped text around them.

    Args:
        rows: pictures of each row.
        labels: texts on the left, one for each row.
        header: titles above, one for each column.
        captions: texts below the pictures, one for each.
    """
    assert rows and any(rows), "no pictures for a sheet"
    assert labels is None or len(labels) == len(rows), f"{len(labels or ())} labels for {len(rows)} rows"
    font = choose_font([*(labels or ()), *(header or ()), *(each for row in captions or () for each in row)], TEXT_SIZE)
    height_of = functools.partial(_text_height, font=font)
    width = max(image.width for row in rows for image in row)
    left = LABEL_WIDTH + 2 * GAP if labels else GAP
    titles = [_wrap(title, font, width) for title in header or ()]
    top = GAP + max((height_of(title) + GAP for title in titles), default=0)
    texts = [_wrap(label, font, LABEL_WIDTH) for label in labels or [""] * len(rows)]
    below = [[_wrap(each, font, width) for each in row] for row in captions or [[""] * len(row) for row in rows]]
    heights = [
        max([height_of(text), *(image.height + height_of(each) for image, each in zip(row, under, strict=True))])
        for row, text, under in zip(rows, texts, below, strict=True)
    ]
    columns = max(len(titles), *(len(row) for row in rows))
    sheet = Image.new("RGB", (left + columns * (width + GAP), top + sum(heights) + GAP * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        pen.multiline_text((left + column * (width + GAP), GAP), title, "black", font)
    for row, text, under, height in zip(rows, texts, below, heights, strict=True):
        pen.multiline_text((GAP, top), text, "black", font)
        for column, (image, caption) in enumerate(zip(row, under, strict=True)):
            place = left + column * (width + GAP)
            sheet.paste(image, (place, top))
            pen.multiline_text((place, top + image.height), caption, "black", font)
        top += height + GAP
    return sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Break text between words, and words that are too long, so that no line is wider than `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for sign in word:
            if lines[-1] and font.getlength(lines[-1] + sign) > width:
                lines.append("")
            lines[-1] += sign
    return "\n".join(lines)


def _text_height(text: str, font: ImageFont.FreeTypeFont) -> int:
    """Height of wrapped text in pixels, line gaps included."""
    ascent, descent = font.getmetrics()
    return (text.count("\n") + 1) * (ascent + max(descent, LINE_GAP)) if text else 0
