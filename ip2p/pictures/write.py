"""Write PNG, JPEG and WebP files atomically with the parameters of the picture, and read the parameters back.

Each file has its parameters twice, as JSON and as the text that viewers of generated pictures show, and an XMP mark
that a trained model was used (IPTC digital source type):

                PNG                   JPEG and WebP
    JSON        text "ip2p"           XMP ip2p:parameters
    text        text "parameters"     EXIF UserComment
    mark        XMP                   XMP
"""

import html
import io
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from ip2p.errors import DataError, ImageError
from ip2p.pictures.color import to_rgb
from ip2p.pictures.parameters import as_text, from_text
from ip2p.pictures.read import open_guarded, read_bytes
from ip2p.shards import atomic_write

WRITE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
QUALITY = 95

EDITED = "compositeWithTrainedAlgorithmicMedia"
GENERATED = "trainedAlgorithmicMedia"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
XMP_KEY = "XML:com.adobe.xmp"
PNG_HEADER = 33
"""Bytes of the signature and the first chunk of a PNG, after which texts may stand."""
XMP_JSON = re.compile(r'ip2p:parameters(?:="([^"]*)"|>([^<]*)<)')
EXIF_IFD = 0x8769
USER_COMMENT = 0x9286
UNICODE_PREFIX = b"UNICODE\0"


def format_of(path: Path) -> str:
    """The format of a file name by its ending: PNG, JPEG or WEBP.

    Raises:
        ImageError: the name has another ending.
    """
    if path.suffix.lower() not in WRITE_FORMATS:
        raise ImageError(
            f"cannot write {path}: pictures are written as PNG, JPEG or WebP",
            "Give a name that ends in .png, .jpg or .webp",
        )
    return WRITE_FORMATS[path.suffix.lower()]


def save_picture(
    image: Image.Image, path: str | Path, parameters: Mapping[str, Any], *, source_type: str = EDITED
) -> None:
    """Write a picture in the format of its name. Equal pictures give equal files.

    Args:
        image: RGB or RGBA picture. JPEG has no transparency: the picture is put on white, with a warning.
        path: path that ends in .png, .jpg, .jpeg or .webp; its folder is created if missing.
        parameters: JSON values by name, such as {"instruction": "make it winter", "seed": 3}.
        source_type: EDITED or GENERATED.

    Raises:
        ImageError: the name has another ending, or the file cannot be written.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == "JPEG" and image.mode == "RGBA":
        if image.getchannel("A").getextrema() != (255, 255):
            warnings.warn(f"{path} is a JPEG: its transparent parts are white", stacklevel=1)
        image = to_rgb(image)
    try:
        data = _encode(image, kind, parameters, source_type)
    except (OSError, ValueError) as error:  # WebP has at most 16383 pixels a side, JPEG at most 64 KB of metadata
        raise ImageError(f"cannot write {path} as {kind} ({error})", "Give a name that ends in .png") from error
    try:
        atomic_write(path, data)
    except DataError as error:
        raise ImageError(error.what, error.fix) from error
    except OSError as error:
        raise ImageError(f"{path} cannot be written ({error.strerror})", "Give another place with -o") from error


def mark_png(data: bytes, source_type: str) -> bytes:
    """Insert the mark into the bytes of a PNG that has none; its pixels stay as they are.

    Args:
        data: bytes of a PNG file.
        source_type: EDITED or GENERATED.
    """
    if SOURCE_TYPES.encode() in data:
        return data
    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt(XMP_KEY, _xmp(source_type))
    stream = io.BytesIO()
    PngImagePlugin.putchunk(stream, *chunk.chunks[0][:2])
    return data[:PNG_HEADER] + stream.getvalue() + data[PNG_HEADER:]


def read_parameters(path: str | Path) -> dict[str, Any]:
    """Read the parameters that `save_picture` wrote, or another program in the text format of the web UI.

    Raises:
        ImageError: the file is no picture, or has no parameters.
    """
    with open_guarded(read_bytes(path), path) as image:
        if image.format == "PNG" and not {"ip2p", "parameters"} & set(image.info):
            image.load()  # texts may follow the pixels
        found = _read_json(image) or from_text(_read_text(image))
    if not found:
        raise ImageError(f"{path} has no parameters", "Give an unmodified picture that ip2p wrote")
    return found


def _encode(image: Image.Image, kind: str, parameters: Mapping[str, Any], source_type: str) -> bytes:
    """Encode a picture with its metadata as the bytes of a file."""
    text, own = as_text(parameters, image.size), json.dumps(dict(parameters))
    stream = io.BytesIO()
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("ip2p", own)
        texts.add_itxt("parameters", _replace_surrogates(text))
        texts.add_itxt(XMP_KEY, _xmp(source_type))
        image.save(stream, "PNG", pnginfo=texts)
    else:
        image.save(stream, kind, quality=QUALITY, exif=_exif(text), xmp=_xmp(source_type, own).encode())
    return stream.getvalue()


def _replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which a command line that is not UTF-8 gives."""
    return text.encode("utf-8", "replace").decode()


def _exif(text: str) -> bytes:
    """Make EXIF with a comment in UTF-16 only."""
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = UNICODE_PREFIX + _replace_surrogates(text).encode("utf-16-be")
    # Pillow writes the comment as type 1, BYTE; the standard says 7, UNDEFINED, and other readers insist on it.
    tag = USER_COMMENT.to_bytes(2)
    return exif.tobytes().replace(tag + b"\0\1", tag + b"\0\7", 1)


def _xmp(source_type: str, own: str | None = None) -> str:
    """Make an XMP packet with the digital source type, and our parameters in JSON if given."""
    attribute = "" if own is None else f' xmlns:ip2p="urn:ip2p" ip2p:parameters="{html.escape(own)}"'
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPES}{source_type}"{attribute}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def _read_json(image: Image.Image) -> dict[str, Any] | None:
    """Read our JSON from a picture; None if there is none that is valid."""
    try:
        text = image.info.get("ip2p")
        if text is None:
            found = XMP_JSON.search(image.info["xmp"].decode())
            assert found
            text = html.unescape(found[1] or found[2])
        parameters = json.loads(text)
        return parameters if isinstance(parameters, dict) else None
    except Exception:  # other programs may have overwritten the metadata
        return None


def _read_text(image: Image.Image) -> str:
    """Read the web UI's text from a picture; empty if there is none."""
    try:
        text = image.info.get("parameters")
        if text is None:
            text = _decode_comment(image.getexif().get_ifd(EXIF_IFD)[USER_COMMENT])
        return str(text)
    except Exception:  # see above
        return ""


def _decode_comment(value: bytes | str) -> str:
    """Decode an EXIF comment: UTF-16 in either byte order, or ASCII."""
    if isinstance(value, str):
        return value
    if not value.startswith(UNICODE_PREFIX):
        return value.removeprefix(b"ASCII\0\0\0").decode().strip("\0 ")
    code = value.removeprefix(UNICODE_PREFIX)
    big = code[0::2].count(0) >= code[1::2].count(0)  # the high bytes of Latin letters are zero
    return code.decode("utf-16-be" if big else "utf-16-le")
