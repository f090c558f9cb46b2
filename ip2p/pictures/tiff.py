"""Decode TIFF pages: what Pillow would misread is refused, and so is damage that it passes over.

libtiff reports some damage on stderr only. A strip that ends too early leaves the rest of Pillow's buffer as it was:
memory that nobody has written, or rows of the strip before.
"""

import io
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from ip2p.errors import ImageError
from ip2p.pictures.jpeg import read_size

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, ROWS_PER_STRIP, PLANES, OPTIONS, SAMPLES = (
    256, 257, 258, 259, 262, 266, 278, 284, 293, 339,
)  # fmt: skip
STRIPS, STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 273, 279, 322, 323, 324, 325
SUBFILE, SUB_PAGES, DNG_VERSION = 254, 330, 50706
RAW, GROUP_4, JPEG = 1, 4, 7
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
UNSIGNED, FLOAT = 1, 3
FIRST_PAGE = 8  # after the header

COMPLAINT = re.compile(
    rb"(?m)^(?:\w*(?:Decode|JPEG)\w*|TIFFFill\w+|TIFFRead(?:Encoded|Raw|Scan|Tile)\w*|tempfile\.tif): .*$"
)
"""Warnings of libtiff about pixels that it cannot decode; it complains of metadata, too, under other names."""
STDERR_LOCK = threading.Lock()  # two threads that redirect stderr at once would leave it so


def load_tiff(image: TiffImageFile, data: bytes, path: str | Path) -> Image.Image:
    """Decode the current page of a TIFF.

    Args:
        image: opened file, at the page.
        data: bytes of the file.
        path: path of the file, for errors.

    Raises:
        ImageError: Pillow would misread the page.
        OSError: the page is damaged.
    """
    reason = _find_misreading(image)
    if reason:
        raise ImageError(f"{path} is a TIFF that {reason}, which is not read", "Save it as PNG, or without that")
    inverted = _tag(image, PHOTOMETRIC, WHITE_IS_ZERO) == WHITE_IS_ZERO and image.mode.startswith("I;16")
    unsigned = image.mode == "I" and _tag(image, SAMPLES, UNSIGNED) == UNSIGNED
    with _strict_libtiff():
        image.load()
        if _tag(image, COMPRESSION, RAW) == GROUP_4:
            _check_fax_strips(image, data)
    if _tag(image, COMPRESSION, RAW) == JPEG:
        _check_jpeg_strips(image, data)
    if unsigned and image.getextrema()[0] < 0:  # type: ignore[operator]
        raise ImageError(f"{path} has numbers above 2147483647, which are not read", "Save it with 16 bits")
    return _invert(image) if inverted else image


def _invert(image: Image.Image) -> Image.Image:
    """Invert 16-bit gray."""
    inverted = Image.fromarray(65535 - np.asarray(image))
    inverted.info = image.info
    return inverted


def _tag(image: TiffImageFile, tag: int, default: int) -> int:
    """Read a number of the page; the first where there is one for each channel."""
    value = image.tag_v2.get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _find_misreading(image: TiffImageFile) -> str:
    """Say what about the page Pillow 12 would get wrong without a word; empty if nothing."""
    tags = image.tag_v2
    bits, samples = tags.get(BITS, (1,)), _tag(image, SAMPLES, UNSIGNED)
    color = _tag(image, PHOTOMETRIC, WHITE_IS_ZERO)
    compressed = _tag(image, COMPRESSION, RAW) != RAW
    if DNG_VERSION in tags or (_tag(image, SUBFILE, 0) & 1 and SUB_PAGES in tags):
        return "is a raw file of a camera (DNG, NEF or alike) with a small preview"
    planes = _tag(image, PLANES, 1) == 2
    if not compressed and planes and ({*bits} != {8} or color not in (BLACK_IS_ZERO, RGB, PALETTE, CMYK)):
        return f"has uncompressed channels of {max(bits)} bits in separate planes"
    if compressed and tags.prefix == b"MM" and (max(bits) > 16 or samples != UNSIGNED):
        return f"has compressed, big-endian numbers of {max(bits)} bits"
    if color == WHITE_IS_ZERO and samples == FLOAT:
        return "has floating-point numbers with white as zero"
    return ""


@contextmanager
def _strict_libtiff() -> Iterator[None]:
    """Context manager that keeps libtiff from writing to stderr, and raises OSError where it complains of pixels."""
    with STDERR_LOCK, tempfile.TemporaryFile() as said:
        try:
            with _redirect_stderr(said):
                yield
        finally:
            said.seek(0)
            complaint = COMPLAINT.search(said.read())
        if complaint:
            raise OSError(complaint[0].decode(errors="replace"))


@contextmanager
def _redirect_stderr(target: BinaryIO) -> Iterator[None]:
    """Context manager in which what C libraries write to stderr goes to a file."""
    try:
        screen = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    try:
        os.dup2(target.fileno(), 2)
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)


def _parts(image: TiffImageFile, data: bytes) -> list[bytes]:
    """The encoded strips or tiles of the page, in order."""
    tiled = TILES in image.tag_v2
    starts = image.tag_v2[TILES if tiled else STRIPS]
    lengths = image.tag_v2.get(TILE_BYTES if tiled else STRIP_BYTES, (len(data),) * len(starts))
    return [data[start : start + length] for start, length in zip(starts, lengths, strict=False)]


def _check_jpeg_strips(image: TiffImageFile, data: bytes) -> None:
    """Check that every JPEG in a page is as large as its strip or tile."""
    tags = image.tag_v2
    if tags.get(PLANES, 1) == 2 and _tag(image, PHOTOMETRIC, RGB) == YCBCR:  # planes of several sizes
        return
    width, height = tags[WIDTH], tags[HEIGHT]
    rows = min(tags.get(ROWS_PER_STRIP, height), height)
    for number, part in enumerate(_parts(image, data)):
        left = height - rows * (number % -(-height // rows))
        expected = (tags[TILE_WIDTH], tags[TILE_HEIGHT]) if TILES in tags else (width, min(rows, left))
        size = read_size(part)
        if size is None or size[0] < expected[0] or size[1] < expected[1]:
            raise OSError(f"strip or tile {number} is not {expected[0]} x {expected[1]}")


def _check_fax_strips(image: TiffImageFile, data: bytes) -> None:
    """Check that every strip of CCITT group 4 has all of its rows.

    The page is decoded twice more, with a known strip before each of its own. Where a strip is short, the known one
    shows through, and so the two differ.
    """
    tags = image.tag_v2
    if TILES in tags:
        raise OSError("tiles of group 4 cannot be checked")
    height = tags[HEIGHT]
    rows = min(tags.get(ROWS_PER_STRIP, height), height)
    parts = _parts(image, data)
    seen = []
    for known in (_white_rows(rows), _black_edge(rows)):
        order = int(tags.get(FILL_ORDER, 1))
        known = known if order == 1 else bytes(int(f"{byte:08b}"[::-1], 2) for byte in known)
        page = {tag: tags[tag] for tag in (WIDTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, OPTIONS) if tag in tags}
        page |= {HEIGHT: rows * len(parts) + height, ROWS_PER_STRIP: rows}
        pixels = _decode([strip for part in parts for strip in (known, part)], page)
        blocks = [pixels[rows * (2 * number + 1) : rows * (2 * number + 2)] for number in range(len(parts))]
        seen.append(np.concatenate(blocks))
    if not np.array_equal(seen[0], seen[1]):
        raise OSError("a strip ends too early")


def _decode(strips: list[bytes], page: dict[int, object]) -> np.ndarray:
    """Decode strips as a page of its own with these tags; the pixels of its rows."""
    directory = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    for tag, value in page.items():
        directory[tag] = value
    starts = accumulate(map(len, strips), initial=0)  # after the directory, which Pillow adds
    directory.tagtype[STRIPS] = TiffTags.LONG
    directory[STRIPS], directory[STRIP_BYTES] = tuple(starts)[:-1], tuple(map(len, strips))
    file = b"II*\0" + FIRST_PAGE.to_bytes(4, "little") + directory.tobytes(FIRST_PAGE) + b"".join(strips)
    with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
        return np.asarray(image)


def _white_rows(rows: int) -> bytes:
    """Group 4 code of white rows: in each, V0 to the end."""
    return b"\xff" * (rows // 8 + 1)


def _black_edge(rows: int) -> bytes:
    """Group 4 code of rows that are white but for the first pixel: a run of 0 and 1, then V0; from there V0 thrice."""
    bits = "001" + "00110101" + "010" + "1" + "111" * (rows - 1)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)
