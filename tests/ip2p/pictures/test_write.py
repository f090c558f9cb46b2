"""Files are whole or absent, and tell how they were made."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ip2p.errors import ImageError
from ip2p.pictures.read import open_image
from ip2p.pictures.write import (
    EXIF_IFD,
    GENERATED,
    SOURCE_TYPES,
    USER_COMMENT,
    mark_png,
    read_parameters,
    save_picture,
)

PICTURE = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * k).resize((24, 16)) for k in range(3)])
GLASS = PICTURE.copy()
GLASS.putalpha(Image.linear_gradient("L").resize(PICTURE.size))
NAMES = ["a.png", "a.jpg", "a.JPEG", "a.webp"]
PARAMETERS: dict[str, Any] = {
    "instruction": "make it \"winter\" <&> 'now', 冬 \U0001f384\n\ud800", "seed": 2**60, "text_scale": 7.5,
    "model": None,
}  # fmt: skip
TEXT = "a barn\nSteps: 30, Sampler: Euler a, Seed: 5, Version: v1.9"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("picture", [PICTURE, PICTURE.convert("L")], ids=["RGB", "L"])
def test_parameters_survive_and_the_mark_is_there(tmp_path: Path, name: str, picture: Image.Image) -> None:
    path = tmp_path / "deeper" / name
    save_picture(picture, path, PARAMETERS)
    assert read_parameters(path) == PARAMETERS
    with Image.open(path) as stored:
        assert stored.format == {"a.png": "PNG", "a.webp": "WEBP"}.get(name, "JPEG")
        xmp = stored.info.get("xmp", b"").decode() + stored.info.get("XML:com.adobe.xmp", "")
    assert 'DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrained' in xmp
    assert [entry.name for entry in path.parent.iterdir()] == [name]
    save_picture(picture, path, {}, source_type=GENERATED)
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_text_that_viewers_show_is_there_too(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_picture(PICTURE, path, {"instruction": "make it winter, 冬", "seed": 3, "steps": 20})
    with Image.open(path) as stored:
        comment = stored.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
        text = stored.info.get("parameters") or comment.removeprefix(b"UNICODE\0").decode("utf-16-be")
    assert text.startswith("make it winter, 冬\nSteps: 20, Seed: 3, Size: 24x16, Version: ip2p ")


def test_the_comment_is_of_the_type_that_the_standard_says(tmp_path: Path) -> None:
    save_picture(PICTURE, tmp_path / "a.jpg", {})
    assert b"\x92\x86\0\7" in (tmp_path / "a.jpg").read_bytes()


def test_colours_and_transparency_survive(tmp_path: Path) -> None:
    for name in ("a.png", "a.webp"):
        save_picture(GLASS, tmp_path / name, {})
        assert open_image(tmp_path / name).getchannel("A").tobytes() == GLASS.getchannel("A").tobytes()
    assert open_image(tmp_path / "a.png").tobytes() == GLASS.tobytes()
    for name in ("b.jpg", "b.webp"):
        save_picture(PICTURE.resize((96, 64)), tmp_path / name, {})
        difference = np.asarray(open_image(tmp_path / name), float) - np.asarray(PICTURE.resize((96, 64)), float)
        assert np.abs(difference).mean() < 3


def test_a_jpeg_has_white_for_what_is_transparent_and_tells_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="transparent parts are white"):
        save_picture(Image.new("RGBA", (16, 16), (9, 9, 9, 0)), tmp_path / "a.jpg", {})
    assert open_image(tmp_path / "a.jpg").getpixel((8, 8)) == (255, 255, 255)
    save_picture(Image.new("RGBA", (16, 16), "red"), tmp_path / "a.jpg", {})  # all of it opaque: nothing to tell


@pytest.mark.parametrize("name", NAMES)
def test_equal_pictures_are_equal_files(tmp_path: Path, name: str) -> None:
    for folder in ("a", "b"):
        save_picture(PICTURE, tmp_path / folder / name, {"seed": 1})
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", ["a.gif", "a", "a.png.bmp", ".png"])
def test_other_formats_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match=r"ends in .png, .jpg or .webp"):
        save_picture(PICTURE, tmp_path / name, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "width", "words"), [("a.webp", 16_384, 1), ("a.jpg", 65_536, 1), ("a.jpg", 16, 40_000)]
)
def test_what_a_format_cannot_hold_is_told(tmp_path: Path, name: str, width: int, words: int) -> None:
    with pytest.raises(ImageError, match=r"cannot write .* as .* ends in .png"):
        save_picture(Image.new("RGB", (width, 16)), tmp_path / name, {"instruction": "word " * words})
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "edit.png", tmp_path / "folder.png"):
        with pytest.raises(ImageError, match="cannot be written"):
            save_picture(PICTURE, path, {})
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "folder.png"}


# -- what others wrote -----------------------------------------------------------------------------------------------


def foreign(kind: str, comment: bytes) -> bytes:
    """A picture with the web UI's text, in a PNG's chunk or in EXIF."""
    stream = io.BytesIO()
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add(b"tEXt", b"parameters\0" + comment, after_idat=True)
        PICTURE.save(stream, kind, pnginfo=texts)
        return stream.getvalue()
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = comment
    PICTURE.save(stream, kind, exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "comment"),
    [
        ("PNG", TEXT.encode()),
        ("JPEG", b"UNICODE\0" + TEXT.encode("utf-16-be")),
        ("JPEG", b"UNICODE\0" + TEXT.encode("utf-16-le")),
        ("WEBP", b"ASCII\0\0\0" + TEXT.encode()),
    ],
)
def test_the_text_of_another_program_is_read(tmp_path: Path, kind: str, comment: bytes) -> None:
    (tmp_path / "a").write_bytes(foreign(kind, comment))
    assert read_parameters(tmp_path / "a") == {
        "Prompt": "a barn", "Steps": "30", "Sampler": "Euler a", "Seed": "5", "Version": "v1.9",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_what_a_program_left_of_our_metadata_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_picture(PICTURE, path, {"instruction": "make it winter", "image_scale": 1.5, "seed": 3})
    with Image.open(path) as stored:
        stored.load()
        exif, xmp = stored.info["exif"], stored.info["xmp"]
    PICTURE.save(path, exif=exif)
    assert read_parameters(path)["instruction"] == "make it winter" and read_parameters(path)["seed"] == 3
    PICTURE.save(path, xmp=xmp.replace(b' ip2p:parameters="', b"><ip2p:parameters>").replace(b'"/></rdf:RDF', b"</"))
    assert read_parameters(path)["image_scale"] == 1.5


@pytest.mark.parametrize(
    ("kind", "comment"),
    [
        ("JPEG", b"UNICODE\0\xd8"),
        ("JPEG", b"ASCII\0\0\0Screenshot"),
        ("JPEG", b""),
        ("PNG", b"hello"),
        ("WEBP", b"\xff"),
    ],
)
def test_pictures_without_parameters_are_told(tmp_path: Path, kind: str, comment: bytes) -> None:
    (tmp_path / "a").write_bytes(foreign(kind, comment))
    with pytest.raises(ImageError, match="has no parameters"):
        read_parameters(tmp_path / "a")


def test_what_is_no_picture_has_no_parameters(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(ImageError, match="not a readable picture"):
        read_parameters(tmp_path / "a.png")


def test_a_png_is_marked_without_a_change_of_its_pixels() -> None:
    image = Image.radial_gradient("L").resize((40, 30)).convert("RGB")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    marked = mark_png(stream.getvalue(), GENERATED)
    assert mark_png(marked, GENERATED) == marked
    with Image.open(io.BytesIO(marked)) as read:
        assert read.tobytes() == image.tobytes()
        assert f"{SOURCE_TYPES}{GENERATED}" in read.info["XML:com.adobe.xmp"]
