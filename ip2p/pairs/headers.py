"""Tell by header and end of a picture file whether it can be used, without decoding what needs time to decode."""

from PIL import Image

from ip2p.errors import ImageError
from ip2p.pictures.color import ORIENTATION
from ip2p.pictures.guards import SAVE_AGAIN_HINT
from ip2p.pictures.read import check_shape, decode_image, open_guarded

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
START_OF_SCAN, END_OF_JPEG = b"\xff\xda", b"\xff\xd9"


def measure(data: bytes, name: str) -> tuple[int, int]:
    """Return width and height of a picture, turned upright, after checking what can be seen without decoding it.

    PNG is compared with its checksums, JPEG and WebP are searched for their end; other formats are decoded.

    Args:
        data: bytes of the file.
        name: name of the picture, for errors.

    Raises:
        ImageError: it is no picture, cut off, damaged, or beyond the limits of `ip2p.pictures.read`.
    """
    with open_guarded(data, name) as image:
        kind, size = image.format, image.size
        check_shape(size, name)
        if _orientation(image) in SIDEWAYS:
            size = (size[1], size[0])
        if kind == "PNG":
            image.verify()
    if kind == "JPEG" and not data.rfind(END_OF_JPEG) > data.rfind(START_OF_SCAN) >= 0:
        raise ImageError(f"{name} is cut off", SAVE_AGAIN_HINT)
    if kind == "WEBP" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ImageError(f"{name} is cut off", SAVE_AGAIN_HINT)
    return size if kind in ("PNG", "JPEG", "WEBP") else decode_image(data, name, frame=0).size


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, which is upright, if it is unreadable."""
    exif = Image.Exif()
    try:
        if image.format == "PNG":  # whose getexif() decodes the pixels
            exif.load(image.info.get("exif", b""))
        else:
            exif = image.getexif()
        return int(exif.get(ORIENTATION, 1))
    except Exception:  # unreadable metadata must not lose the picture
        return 1
