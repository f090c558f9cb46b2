"""Formats of picture files, told by the first bytes: those that are read, and others by name."""

import re
from pathlib import Path
from typing import NamedTuple

from PIL import Image, features

TGA_SUFFIXES = (".tga", ".icb", ".vda", ".vst")
TGA_FOOTER = b"TRUEVISION-XFILE.\0"
MAX_PIXELS = 40_000_000
HEAD_BYTES = 1024


class Format(NamedTuple):
    """A format of picture files.

    Attributes:
        name: name for people.
        plugin: name of the format in Pillow; None if it is not read.
        feature: part of Pillow that decodes it, which a build may lack; None for those that every build has.
        max_pixels: most pixels of a picture, so that decoding it takes less than 600 MB.
    """

    name: str
    plugin: str | None = None
    feature: str | None = None
    max_pixels: int = MAX_PIXELS


PNG = Format("PNG", "PNG")
JPEG = Format("JPEG", "JPEG")
WEBP = Format("WebP", "WEBP", "webp", 25_000_000)  # its decoder holds four copies at once
BMP = Format("BMP", "BMP")
GIF = Format("GIF", "GIF")
TIFF = Format("TIFF", "TIFF")
AVIF = Format("AVIF", "AVIF", "avif", 25_000_000)
JPEG_2000 = Format("JPEG 2000", "JPEG2000", "jpg_2000", 20_000_000)
TGA = Format("TGA", "TGA")
PPM = Format("PPM", "PPM")
ICO = Format("ICO", "ICO", max_pixels=4_000_000)  # held as picture, mask and both; icons are small
PSD = Format("PSD", "PSD")
HEIC = Format("HEIC", "HEIF", max_pixels=25_000_000)
FORMATS = (PNG, JPEG, WEBP, BMP, GIF, TIFF, AVIF, JPEG_2000, TGA, PPM, ICO, PSD, HEIC)
"""Formats that are read."""
BY_PLUGIN: dict[str | None, Format] = {kind.plugin: kind for kind in FORMATS}

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (rb"\x89PNG\r\n\x1a\n", PNG),
    (rb"\xff\xd8\xff", JPEG),
    (rb"RIFF.{4}WEBP", WEBP),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", BMP),
    (rb"GIF8[79]a", GIF),
    (rb"II\*\0.{4}CR", Format("a raw file of a Canon camera (CR2)")),
    (rb"II\*\0|MM\0\*|II\0\*|MM\*\0|II\+\0|MM\0\+", TIFF),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", JPEG_2000),
    (rb"P[1-6][\s#]|Pf\s", PPM),
    (rb"\0\0\x01\0(?!\0\0)", ICO),
    (rb"8BPS\0\x01", PSD),
    (rb"8BPS\0\x02", Format("a large Photoshop document (PSB)")),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", Format("JPEG XL")),
    (rb"II\xbc\x01", Format("JPEG XR")),
    (rb"\x76\x2f\x31\x01", Format("OpenEXR")),
    (rb"#\?(RADIANCE|RGBE)", Format("Radiance HDR")),
    (rb"PF\s", Format("a colour PFM file")),
    (rb"P7\s", Format("PAM")),
    (rb"qoif", Format("QOI")),
    (rb"DDS ", Format("DDS")),
    (rb"BPG\xfb", Format("BPG")),
    (rb"icns", Format("an icon of macOS (ICNS)")),
    (rb"\0\0\x02\0(?!\0\0)", Format("a Windows cursor (CUR)")),
    (rb"\n[\0-\x05]\x01[\x01\x02\x04\x08]", Format("PCX")),
    (rb"gimp xcf", Format("a GIMP document (XCF)")),
    (rb"SIMPLE  =", Format("FITS")),
    (rb".{128}DICM", Format("DICOM")),
    (rb"AT&TFORM", Format("DjVu")),
    (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", Format("a Windows metafile")),
    (rb"FUJIFILMCCD-RAW", Format("a raw file of a Fujifilm camera (RAF)")),
    (rb"II(RO|RS|U\0)", Format("a raw file of a camera (ORF or RW2)")),
    (rb"%PDF-", Format("PDF")),
    (rb"%!PS", Format("PostScript")),
    (rb"\s*<(\?xml|!--|svg).*<svg|\s*<svg", Format("SVG")),
    (rb"(?i)\s*<(!doctype html|html)", Format("a web page")),
    (rb"\x1a\x45\xdf\xa3", Format("a video (Matroska or WebM)")),
    (rb"PK\x03\x04", Format("a ZIP archive")),
    (rb"\x1f\x8b", Format("a gzip archive")),
)
_PATTERNS = [(re.compile(magic, re.DOTALL), found) for magic, found in _MAGIC]
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}


def detect_format(data: bytes, path: str | Path) -> Format | None:
    """Tell the format of a file by its bytes; None if it is none that is known.

    Args:
        data: bytes of the file.
        path: path of the file. Old TGA files have no mark, so these are told by the ending of their name.
    """
    head = data[:HEAD_BYTES]
    if head[4:8] == b"ftyp":
        return _read_brands(head)
    found = next((kind for pattern, kind in _PATTERNS if pattern.match(head)), None)
    if found is None and (data.endswith(TGA_FOOTER) or Path(path).suffix.lower() in TGA_SUFFIXES):
        return TGA
    return found


def missing_support(kind: Format) -> str | None:
    """Say what to do where a format cannot be decoded here; None if it can."""
    if kind is HEIC:
        return None if _register_heif() else "Install what reads it: pip install 'ip2p[heic]'"
    if kind.feature and not features.check(kind.feature):
        return (
            f"The installed Pillow was built without {kind.name}. Install another: pip install --force-reinstall pillow"
        )
    return None


def readable_names() -> list[str]:
    """Names of the formats that can be decoded here."""
    return [kind.name for kind in FORMATS if missing_support(kind) is None]


def _read_brands(head: bytes) -> Format:
    """Tell a file of boxes by its brands: the major one and those that it is compatible with."""
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), int.from_bytes(head[:4])), 4))}
    if brands & _AVIF_BRANDS:
        return AVIF
    if brands & _HEIC_BRANDS:
        return HEIC
    return Format("a raw file of a Canon camera (CR3)" if b"crx " in brands else "a video (MP4 or QuickTime)")


def _register_heif() -> bool:
    """Let Pillow know HEIC; whether pillow-heif is installed."""
    if "HEIF" not in Image.OPEN:
        try:
            import pillow_heif
        except ImportError:
            return False
        pillow_heif.register_heif_opener()
    return True
