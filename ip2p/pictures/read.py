"""Read picture files of six formats as 8-bit sRGB, upright, one frame, alpha kept.

Before a file is decoded, its bytes, format, pixels, shape, frames and decoding work are checked against limits. Errors
inside Pillow become ImageErrors of one line. No network addresses are opened, and nothing here needs torch.
"""

import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ip2p.errors import ImageError, one_line
from ip2p.pictures.color import to_srgb

READ_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_BYTES = 50_000_000
MAX_PIXELS = 40_000_000
MAX_PIXELS_WEBP = 25_000_000  # its decoder needs four copies at once
MAX_ASPECT = 20
MIN_SIDE = 16
MAX_FRAMES = 1000
MAX_FRAME_PIXELS = 1_000_000_000
MAX_SCANS = 200
MAX_READS = 500_000

FORMAT_HINT = f"Give a {', '.join(READ_FORMATS[:-1])} or {READ_FORMATS[-1]} file"
SMALLER_HINT = "Make it smaller first"
SAVE_AGAIN_HINT = "Save it again, or give another file"
JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed byte nor a restart marker
JPEG_END, JPEG_SCAN = b"\xff\xd9", b"\xff\xda"

STDERR_LOCK = threading.Lock()  # two threads that silence stderr at once would leave it silent
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its messages are printed beside our one line


def open_image(path: str | Path, frame: int | None = None) -> Image.Image:
    """Read a picture file: turned by its EXIF orientation, its color profile applied, deep pixels scaled to 8 bits.

    Args:
        path: path of a file of at most 50 MB and 40 million pixels (WebP 25), at least 16 pixels on each side, the long
            side at most 20 times the short one.
        frame: index of the frame of an animation or of the page, from 0; None if there is only one.

    Returns:
        The picture as RGB, or RGBA if the file has transparency.

    Raises:
        ImageError: the file is missing, a folder, empty, no picture, of another format, damaged or beyond these limits;
            or it has several frames and none is chosen.
    """
    data = read_bytes(path)
    with open_guarded(data, path) as image:
        check_shape(image.size, str(path))
        if image.format in ("JPEG", "MPO") and _count_scans(data) > MAX_SCANS:
            raise ImageError(f"{path} has more than {MAX_SCANS} scans", SAVE_AGAIN_HINT)
        _seek_frame(image, frame, path)
        if image.format == "TIFF":
            with STDERR_LOCK, _silence_stderr():
                image.load()
        image.load()
        return to_srgb(image)


def read_bytes(path: str | Path) -> bytes:
    """Read the bytes of a picture file.

    Raises:
        ImageError: the file is missing, a folder, empty, too large or not readable.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder", "Give a picture file in it")
        if not path.is_file():
            raise ImageError(f"there is no picture {path}", "Check the name")
        size = path.stat().st_size
        if size == 0:
            raise ImageError(f"{path} is empty", FORMAT_HINT)
        if size > MAX_BYTES:
            raise ImageError(f"{path} has {size / 1e6:.0f} MB, more than {MAX_BYTES // 10**6}", SMALLER_HINT)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"cannot read {str(path)!r} ({reason})", "Check its name and permissions") from error


@contextmanager
def open_guarded(data: bytes, path: str | Path) -> Iterator[Image.Image]:
    """Context manager that opens a picture without decoding its pixels; any decoder error becomes an ImageError.

    Args:
        data: bytes of the file.
        path: path of the file, for errors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # damaged metadata; only the pixels matter
            with Image.open(_LimitedReader(data), formats=READ_FORMATS) as image:
                _check_pixels(image, path)  # by the header, before any pixel is decoded
                yield image
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path} has more than {MAX_PIXELS // 10**6} million pixels", SMALLER_HINT) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not a readable picture", FORMAT_HINT) from error
    except _TooManyReads as error:
        raise ImageError(f"{path} needs more than {MAX_READS} reads", SAVE_AGAIN_HINT) from error
    except Exception as error:  # decoders raise exceptions of any kind for damaged bytes
        raise ImageError(f"{path} is damaged ({one_line(error, 120)})", SAVE_AGAIN_HINT) from error


def check_shape(size: tuple[int, int], name: str) -> None:
    """Check that a picture is neither too small nor too narrow for a model.

    Args:
        size: width and height in pixels.
        name: name of the picture, for errors.

    Raises:
        ImageError: a side is under 16 pixels, or the long one more than 20 times the short one.
    """
    short, long = sorted(size)
    if short == 0 or long > MAX_ASPECT * short:
        raise ImageError(f"{name} is {size[0]} x {size[1]} pixels, longer than {MAX_ASPECT} : 1", "Crop it first")
    if short < MIN_SIDE:
        raise ImageError(
            f"{name} is {size[0]} x {size[1]} pixels, smaller than {MIN_SIDE} x {MIN_SIDE}", "Enlarge it first"
        )


class _TooManyReads(Exception):
    """A file needs more than MAX_READS reads."""


class _LimitedReader(io.BytesIO):
    """Bytes that can be read MAX_READS times, so that decoders with a Python loop over chunks end in time."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise _TooManyReads
        return super().read(size)


@contextmanager
def _silence_stderr() -> Iterator[None]:
    """Context manager that hides what libtiff itself writes to stderr about files that it cannot decode."""
    try:
        screen = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)


def _check_pixels(image: Image.Image, path: str | Path) -> None:
    pixels = image.width * image.height
    limit = MAX_PIXELS_WEBP if image.format == "WEBP" else MAX_PIXELS
    if pixels > limit:
        raise ImageError(f"{path} has {pixels / 1e6:.0f} million pixels, more than {limit // 10**6}", SMALLER_HINT)


def _count_scans(data: bytes) -> int:
    """Number of scans of a JPEG. A progressive one has about ten; a thousand take minutes to decode."""
    place, scans = 2, 0
    while (found := JPEG_MARKER.search(data, place)) and found[0] != JPEG_END:
        scans += found[0] == JPEG_SCAN
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return scans


def _seek_frame(image: Image.Image, frame: int | None, path: str | Path) -> None:
    """Seek a frame; without one, check that there is only one."""
    count = _count_frames(image)
    found = f"{count} frames" if count <= MAX_FRAMES else f"more than {MAX_FRAMES} frames"
    last = min(count, MAX_FRAMES) - 1
    if frame is None:
        # Further pictures in a camera's JPEG are previews and depth maps, not an animation.
        if count > 1 and image.format != "MPO":
            raise ImageError(f"{path} has {found}", f"Choose one with frame, 0 to {last}", arguments=["frame"])
        return
    if not 0 <= frame <= last:
        raise ImageError(f"{path} has no frame {frame}, it has {found}", f"Choose one from 0 to {last}")
    if image.format not in ("TIFF", "MPO") and image.width * image.height * frame > MAX_FRAME_PIXELS:
        raise ImageError(f"frame {frame} of {path} comes after too many pixels", "Choose an earlier one")
    image.seek(frame)
    _check_pixels(image, path)
    check_shape(image.size, f"{path}, frame {frame},")


def _count_frames(image: Image.Image) -> int:
    """Number of frames or pages; MAX_FRAMES + 1 if there are more."""
    if not getattr(image, "is_animated", False):
        return 1
    if image.format != "TIFF":
        return min(int(image.n_frames), MAX_FRAMES + 1)  # type: ignore[attr-defined]
    count = 1  # Pillow's own count of pages takes quadratic time
    try:
        while count <= MAX_FRAMES:
            image.seek(count)
            count += 1
    except EOFError:
        pass
    image.seek(0)
    return count
