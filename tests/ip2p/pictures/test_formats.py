"""Formats are told by their first bytes, and a refusal names what was found."""

import io
import re
import sys
from pathlib import Path

import pytest
from PIL import Image, features

from ip2p.errors import ImageError
from ip2p.pictures.formats import FORMATS, detect_format, missing_support, readable_names
from ip2p.pictures.read import decode_image

PICTURE = Image.linear_gradient("L").resize((24, 16)).convert("RGB")
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
FOREIGN = {
    b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n": "PDF",
    b"%!PS-Adobe-3.0 EPSF-3.0\n": "PostScript",
    b'<svg xmlns="http://www.w3.org/2000/svg"/>': "SVG",
    b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg/>': "SVG",
    b"<!doctype html><html></html>": "a web page",
    b"\xff\x0a" + bytes(30): "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"II\xbc\1" + bytes(30): "JPEG XR",
    b"\x76\x2f\x31\1" + bytes(30): "OpenEXR",
    b"#?RADIANCE\n": "Radiance HDR",
    b"8BPS\0\2" + bytes(30): "PSB",
    b"gimp xcf v011": "XCF",
    b"qoif" + bytes(30): "QOI",
    b"DDS " + bytes(30): "DDS",
    b"\n\5\1\x08" + bytes(30): "PCX",
    b"\0\0\2\0\1\0" + bytes(30): "CUR",
    b"SIMPLE  =": "FITS",
    bytes(128) + b"DICM": "DICOM",
    b"II*\0\x10\0\0\0CR\2\0": "CR2",
    b"\0\0\0\x18ftypcrx \0\0\0\1crx isom": "CR3",
    b"FUJIFILMCCD-RAW 0201": "RAF",
    b"IIU\0" + bytes(30): "RW2",
    b"\0\0\0\x18ftypmp42\0\0\0\0isommp42": "a video",
    b"\x1a\x45\xdf\xa3" + bytes(30): "a video",
    b"PK\3\4" + bytes(60): "a ZIP archive",
}


@pytest.mark.parametrize("data", FOREIGN, ids=FOREIGN.values())
def test_a_refusal_names_the_format(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data, "picture.png")
    assert re.match(rf"picture.png is not a readable picture: it is .*{FOREIGN[data]}", str(caught.value))
    assert "Give a PNG, JPEG, " in str(caught.value)


def test_what_is_no_picture_at_all_is_not_named() -> None:
    for data in (b"make it winter\n" * 9, bytes(99), b"BM is short for benchmark, and P is not", b"P1 of 3"[:2]):
        with pytest.raises(ImageError, match=r"x.png is not a readable picture\. Give a PNG"):
            decode_image(data, "x.png")


@pytest.mark.parametrize("kind", [kind.plugin for kind in FORMATS if kind.plugin not in ("PSD", "HEIF")])
def test_formats_are_told_by_their_bytes(kind: str) -> None:
    stream = io.BytesIO()
    PICTURE.save(stream, kind)
    found = detect_format(stream.getvalue(), "any.name")
    assert found is not None and found.plugin == kind and missing_support(found) is None


def test_old_targa_files_are_told_by_their_name_alone() -> None:
    stream = io.BytesIO()
    PICTURE.save(stream, "TGA")
    old = stream.getvalue()[:-26]
    assert decode_image(old, "old.TGA").tobytes() == PICTURE.tobytes()
    assert detect_format(old, "old.png") is None
    assert decode_image(old[:-26] + stream.getvalue()[-52:], Path("new")).size == PICTURE.size


def test_boxes_are_told_by_their_brands() -> None:
    for major, others, name in [
        (b"avif", b"mif1", "AVIF"), (b"mif1", b"avif", "AVIF"), (b"heic", b"mif1", "HEIC"), (b"mif1", b"heic", "HEIC"),
        (b"msf1", b"hevc", "HEIC"), (b"mif1", b"mif1", "HEIC"),
    ]:  # fmt: skip
        found = detect_format(b"\0\0\0\x14ftyp" + major + bytes(4) + others, "x")
        assert found is not None and found.name == name


def test_without_its_package_heic_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    with pytest.raises(ImageError, match=r"photo.heic is HEIC, .* pip install 'ip2p\[heic\]'"):
        decode_image(HEIC, "photo.heic")
    assert "HEIC" not in readable_names()


def test_with_its_package_heic_is_read() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    assert "HEIC" in readable_names()
    with pytest.raises(ImageError, match="photo.heic is damaged.*HEIC"):
        decode_image(HEIC, "photo.heic")
    stream = io.BytesIO()
    PICTURE.save(stream, "HEIF", save_all=True, append_images=[PICTURE.rotate(180)])
    assert decode_image(stream.getvalue(), "burst.heic").size == PICTURE.size  # the one that the file calls its own


def test_a_pillow_without_a_decoder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    PICTURE.save(stream, "AVIF")
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    with pytest.raises(ImageError, match="x.avif is AVIF, which cannot be read here. The installed Pillow"):
        decode_image(stream.getvalue(), "x.avif")
    assert "AVIF" not in readable_names() and "JPEG 2000" in readable_names()
