"""Pictures are read safely, keep their values, and carry how they were made."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from ip2p import images
from ip2p.errors import ImageError

PICTURE = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * k).resize((24, 16)) for k in range(3)])
sizes = st.integers(1, 12)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def saved(folder: Path, data: bytes, name: str = "picture.png") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG whose header claims a size, followed by chunks."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


# -- what is refused, in one line with a remedy ----------------------------------------------------------------------

WHOLE = encoded(PICTURE, "PNG")
REFUSED = {
    "nothing in it": (b"", "is empty"),
    "text": (b"make it winter\n" * 20, "not a picture that we can read"),
    "a web page": (b"<!doctype html><html></html>", "not a picture that we can read"),
    "the beginning of a PNG": (WHOLE[:20], "not a picture that we can read|damaged"),
    "half of a PNG": (WHOLE[: len(WHOLE) // 2], "damaged"),
    "half of a JPEG": (encoded(PICTURE.resize((256, 256)), "JPEG")[:1500], "damaged"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture that we can read"),
    "a format we do not take": (encoded(PICTURE, "PPM"), "not a picture that we can read"),
    "a bomb": (png(20_000, 20_000), "million pixels"),
    "half a bomb": (png(10_000, 10_000), "million pixels"),
    "too many pixels": (png(8_000, 6_000), "48 million pixels"),
    "no pixels": (png(0, 0), "not a picture|longer than|damaged"),
    "a ribbon": (encoded(Image.new("RGB", (1, 30_000)), "PNG"), "longer than 20 : 1"),
    "a bomb of text": (png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(90_000_000)))), "damaged"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    data, said = REFUSED[kind]
    with pytest.raises(ImageError, match=said) as caught:
        images.open_image(saved(tmp_path, data))
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.fix


@pytest.mark.parametrize(
    ("name", "said"),
    [("missing.png", "no picture"), (".", "folder"), ("a\0b.png", "picture"), ("n" * 400, "picture|read")],
)
def test_bad_names_are_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        images.open_image(tmp_path / name)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as stream:
        stream.truncate(images.MAX_BYTES + 1)
    with pytest.raises(ImageError, match="MB"):
        images.open_image(path)


def test_network_addresses_are_not_opened() -> None:
    with pytest.raises(ImageError, match="no picture"):
        images.open_image("https://example.org/a.png")


@pytest.mark.parametrize("kind", images.FORMATS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_broken_bytes_give_a_picture_or_an_error_of_ours(tmp_path: Path, kind: str, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(encoded(PICTURE, kind))
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        image = images.open_image(saved(tmp_path, bytes(data[: rng.randint(1, len(data))])))
    except ImageError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert image.mode == "RGB"


# -- what is read, and how -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", images.FORMATS)
def test_every_format_is_read_as_rgb(tmp_path: Path, kind: str) -> None:
    image = images.open_image(saved(tmp_path, encoded(PICTURE, kind), "any.name"))
    assert (image.mode, image.size) == ("RGB", PICTURE.size)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_white(tmp_path: Path, mode: str) -> None:
    picture = PICTURE.convert(mode)
    picture.putalpha(0)
    assert images.open_image(saved(tmp_path, encoded(picture, "PNG"))).getpixel((3, 3)) == (255, 255, 255)


def test_transparency_of_a_palette_is_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    image = images.open_image(saved(tmp_path, encoded(picture, "PNG", transparency=0)))
    assert (image.getpixel((0, 0)), image.getpixel((1, 0))) == ((255, 255, 255), (40, 50, 60))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, kind: str) -> None:
    deep = Image.fromarray(np.array([[0, 257, 40_000, 65_535]], dtype=np.uint16))
    image = images.open_image(saved(tmp_path, encoded(deep, kind)))
    assert [image.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 156, 255)]


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_floating_point_is_scaled(tmp_path: Path, white: float) -> None:
    deep = Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32) * np.float32(white))
    image = images.open_image(saved(tmp_path, encoded(deep, "TIFF")))
    assert [image.getpixel((x, 0)) for x in range(3)] == [(v, v, v) for v in (0, 128, 255)]


def test_exif_turns_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = images.open_image(saved(tmp_path, encoded(PICTURE, "PNG", exif=exif)))
    assert ImageChops.difference(turned, PICTURE.rotate(-90, expand=True)).getbbox() is None


def test_cmyk_is_read(tmp_path: Path) -> None:
    assert images.open_image(saved(tmp_path, encoded(PICTURE.convert("CMYK"), "JPEG"))).mode == "RGB"


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.open_image(saved(tmp_path, data)).getpixel((0, 0)) == (255, 0, 0)


# -- tensors ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 3), sizes, sizes, st.integers(0, 2**32))
def test_pictures_survive_tensors(count: int, width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    pictures = [Image.fromarray(row) for row in pixels]
    x = images.to_tensor(pictures)
    assert x.shape == (count, 3, height, width)
    assert x.min() >= -1 and x.max() <= 1
    assert [image.tobytes() for image in images.to_images(x)] == [row.tobytes() for row in pixels]


def test_values_are_rounded_and_clamped() -> None:
    x = torch.tensor([-7.0, -1, 0, 0.999, 1, 7]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert [images.to_images(x)[0].getpixel((k, 0))[0] for k in range(6)] == [0, 0, 128, 255, 255, 255]


def test_pictures_of_two_sizes_are_no_batch() -> None:
    with pytest.raises(ImageError, match="2 sizes"):
        images.to_tensor([PICTURE, PICTURE.rotate(90, expand=True)])


# -- writing ---------------------------------------------------------------------------------------------------------


def test_parameters_survive_and_the_mark_is_there(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "edit.png"
    parameters = {"instruction": 'make it "winter" <&> 冬', "seed": 2**60, "text_scale": 7.5, "model": None}
    images.save_png(PICTURE, path, parameters)
    assert images.read_parameters(path) == parameters
    assert images.open_image(path).tobytes() == PICTURE.tobytes()
    with Image.open(path) as stored:
        assert stored.text["parameters"].startswith(
            'make it "winter" <&> 冬\nSeed: 1152921504606846976, CFG scale: 7.5'
        )
        assert "digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in stored.text["XML:com.adobe.xmp"]


def test_equal_pictures_are_equal_files(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        images.save_png(PICTURE, tmp_path / name, {"seed": 1})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_pictures_of_others_carry_no_parameters(tmp_path: Path) -> None:
    for name, data in (("a.png", WHOLE), ("b.jpg", encoded(PICTURE, "JPEG")), ("c.png", b"text")):
        with pytest.raises(ImageError, match="carries no parameters"):
            images.read_parameters(saved(tmp_path, data, name))


def test_only_png_is_written(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="ends in .png"):
        images.save_png(PICTURE, tmp_path / "edit.jpg", {})
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "edit.png", tmp_path / "folder.png"):
        with pytest.raises(ImageError, match="cannot write"):
            images.save_png(PICTURE, path, {})
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "folder.png"}


# -- sheets ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.text(max_size=60))
@settings(max_examples=20, deadline=None)
def test_a_sheet_holds_every_picture(widths: list[int], label: str) -> None:
    red = Image.new("RGB", (20, 10), (255, 0, 1))
    sheet = images.contact_sheet([[red] * width for width in widths], [label] * len(widths), ["one", "two words"])
    colors = {color: count for count, color in sheet.getcolors(1 << 20)}
    assert colors[(255, 0, 1)] == 200 * sum(widths)


def test_a_sheet_needs_neither_labels_nor_titles() -> None:
    assert images.contact_sheet([[PICTURE, PICTURE]]).size == (24 * 2 + 8 * 3, 16 + 8 * 2)


def test_long_labels_are_wrapped_beside_their_row() -> None:
    short, long = (images.contact_sheet([[PICTURE]], [text]) for text in ("winter", "make it winter " * 20))
    assert short.width == long.width and short.height < long.height
