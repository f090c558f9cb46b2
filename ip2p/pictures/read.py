"""Read picture files of many formats as 8-bit sRGB, upright, one frame, alpha kept.

Before a file is decoded, its bytes, format, pixels, shape, frames and decoding work are checked against limits. Errors
inside Pillow become ImageErrors of one line. No network addresses are opened, and nothing here needs torch.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from ip2p.errors import ImageError, reason
from ip2p.pictures.color import to_srgb
from ip2p.pictures.formats import BY_PLUGIN, JPEG, Format, detect_format, missing_support, readable_names
from ip2p.pictures.guards import SAVE_AGAIN_HINT, SMALLER_HINT, check_bytes, check_opened, check_pixels
from ip2p.pictures.tiff import load_tiff

MAX_BYTES = 50_000_000
MAX_ASPECT = 20
MIN_SIDE = 16
MAX_FRAMES = 1000
MAX_FRAME_PIXELS = 1_000_000_000
MAX_READS = 500_000

STILL = ("MPO", "HEIF", "PSD")
"""Formats whose further pictures are previews, depth maps, bursts or layers beside one that is meant."""

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
    image = decode_image(read_bytes(path), path, frame)
    check_shape(image.size, str(path) if frame is None else f"{path}, frame {frame},")
    return image


def decode_image(data: bytes, name: str | Path, frame: int | None = None) -> Image.Image:
    """Decode the bytes of a picture file: all that is said of `open_image` holds, except that any shape is taken.

    Args:
        data: bytes of the file.
        name: path of the file, or what else it is called in errors.
        frame: index of the frame of an animation or of the page, from 0; None if there is only one.

    Raises:
        ImageError: see `open_image`.
    """
    with open_guarded(data, name) as image:
        _seek_frame(image, frame, name)
        if isinstance(image, TiffImageFile):
            return to_srgb(load_tiff(image, data, name))
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
        _check_length(size, path)
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
    _check_length(len(data), path)
    kind = _require_format(data, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # damaged metadata; only the pixels matter
            check_bytes(data, kind, path)
            with Image.open(_LimitedReader(data), formats=[str(kind.plugin)]) as image:
                check_pixels(image.size, kind, path)  # by the header, before any pixel is decoded
                check_opened(image, path)
                yield image
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = kind.max_pixels // 10**6
        raise ImageError(f"{path} has more than {limit} million pixels", SMALLER_HINT) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is damaged, or a rare kind of {kind.name}", SAVE_AGAIN_HINT) from error
    except _TooManyReads as error:
        raise ImageError(f"{path} needs more than {MAX_READS} reads", SAVE_AGAIN_HINT) from error
    except Exception as error:  # decoders raise exceptions of any kind for damaged bytes
        raise ImageError(f"{path} is damaged ({kind.name}: {reason(error, 120)})", SAVE_AGAIN_HINT) from error


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


def _check_length(size: int, path: str | Path) -> None:
    """Check the number of bytes of a file."""
    if size == 0:
        raise ImageError(f"{path} is empty", _format_hint())
    if size > MAX_BYTES:
        raise ImageError(f"{path} has {size / 1e6:.0f} MB, more than {MAX_BYTES // 10**6}", SMALLER_HINT)


def _require_format(data: bytes, path: str | Path) -> Format:
    """Tell the format of a file, if it can be decoded here."""
    kind = detect_format(data, path)
    if kind is None:
        raise ImageError(f"{path} is not a readable picture", _format_hint())
    if kind.plugin is None:
        raise ImageError(f"{path} is not a readable picture: it is {kind.name}", _format_hint())
    missing = missing_support(kind)
    if missing:
        raise ImageError(f"{path} is {kind.name}, which cannot be read here", missing)
    return kind


def _format_hint() -> str:
    *names, last = readable_names()
    return f"Give a {', '.join(names)} or {last} file"


def _seek_frame(image: Image.Image, frame: int | None, path: str | Path) -> None:
    """Seek a frame; without one, check that there is only one."""
    count = _count_frames(image)
    found = f"{count} frames" if count <= MAX_FRAMES else f"more than {MAX_FRAMES} frames"
    last = min(count, MAX_FRAMES) - 1
    if frame is None:
        if count > 1 and image.format not in STILL:
            raise ImageError(f"{path} has {found}", f"Choose one with frame, 0 to {last}", arguments=["frame"])
        return
    if not 0 <= frame <= last:
        raise ImageError(f"{path} has no frame {frame}, it has {found}", f"Choose one from 0 to {last}")
    if image.format not in ("TIFF", "MPO") and image.width * image.height * frame > MAX_FRAME_PIXELS:
        raise ImageError(f"frame {frame} of {path} comes after too many pixels", "Choose an earlier one")
    if count > 1:
        image.seek(frame)
    check_pixels(image.size, BY_PLUGIN.get(image.format, JPEG), path)  # MPO is JPEG


def _count_frames(image: Image.Image) -> int:
    """Number of frames or pages; MAX_FRAMES + 1 if there are more."""
    if image.format == "PSD" or not getattr(image, "is_animated", False):  # layers are no frames
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
