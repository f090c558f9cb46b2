"""Declarations in files of single formats, checked against limits before the files are decoded."""

import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from PIL.PsdImagePlugin import PsdImageFile

from ip2p.errors import ImageError
from ip2p.pictures.formats import ICO, JPEG, PPM, Format
from ip2p.pictures.jpeg import count_scans

MAX_SCANS = 200
MAX_PLAIN_BYTES = 10_000_000
PSD_VERSION_INFO = 1057

SMALLER_HINT = "Make it smaller first"
SAVE_AGAIN_HINT = "Save it again, or give another file"


def check_bytes(data: bytes, kind: Format, path: str | Path) -> None:
    """Check a file before Pillow sees it.

    Raises:
        ImageError: it is beyond a limit of its format.
    """
    if kind is JPEG and count_scans(data) > MAX_SCANS:
        raise ImageError(f"{path} has more than {MAX_SCANS} scans", SAVE_AGAIN_HINT)
    if kind is PPM and data[1:2] in b"123" and len(data) > MAX_PLAIN_BYTES:
        raise ImageError(f"{path} is a PPM of more than {MAX_PLAIN_BYTES // 10**6} MB in digits", "Save it as PNG")
    if kind is ICO:
        for size in _icon_sizes(data):
            check_pixels(size, kind, path)


def check_pixels(size: tuple[int, int], kind: Format, path: str | Path) -> None:
    """Check the number of pixels that a picture declares.

    Raises:
        ImageError: there are more than its format may have.
    """
    pixels = size[0] * size[1]
    if pixels > kind.max_pixels:
        limit = kind.max_pixels // 10**6
        raise ImageError(f"{path} has {pixels / 1e6:.0f} million pixels, more than {limit}", SMALLER_HINT)


def check_opened(image: Image.Image, path: str | Path) -> None:
    """Check a picture that is opened and not decoded.

    Raises:
        ImageError: it is a Photoshop document without the picture that its layers make.
    """
    if isinstance(image, PsdImageFile):
        version = next((data for number, _, data in image.resources if number == PSD_VERSION_INFO), b"")
        if len(version) > 4 and not version[4]:
            raise ImageError(f"{path} has layers only", "Save it in Photoshop with Maximize Compatibility, or as PNG")


def _icon_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size of each picture of an icon, by its own header: the list of pictures in front may lie.

    A bitmap declares twice its height, since its mask comes after it.
    """
    (count,) = struct.unpack_from("<H", data.ljust(6, b"\0"), 4)
    for place in range(6, min(6 + 16 * count, len(data) - 15), 16):
        (start,) = struct.unpack_from("<I", data, place + 12)
        header = data[start : start + 24].ljust(24, b"\0")
        if header.startswith(b"\x89PNG"):
            yield struct.unpack_from(">II", header, 16)
        else:
            width, height = struct.unpack_from("<ii", header, 4)
            yield abs(width), abs(height)
