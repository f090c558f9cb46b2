"""Whatever the mode, the depth and the profile, the colours are those that were meant."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageCms

from ip2p.pictures.color import split_alpha, to_rgb, to_srgb, with_alpha

PICTURE = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * k).resize((24, 16)) for k in range(3)])
MODES = [
    "1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "La", "RGBX", "RGBa",
    "I;16", "I;16L", "I;16B", "I;16N",
]  # fmt: skip


def colors(image: Image.Image) -> list[tuple[int, ...]]:
    """Of the top row."""
    return [image.getpixel((x, 0)) for x in range(image.width)]  # type: ignore[misc]


def grey(*values: int) -> list[tuple[int, int, int]]:
    return [(value, value, value) for value in values]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow_is_taken(mode: str) -> None:
    image = Image.new(mode, (20, 16))
    clear = mode in ("RGBA", "LA", "PA", "La", "RGBa")
    assert (to_srgb(image).mode, to_srgb(image).size) == ("RGBA" if clear else "RGB", (20, 16))
    assert to_rgb(image).mode == "RGB"
    assert image.mode == mode


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_kept_and_white_is_behind(mode: str) -> None:
    picture = PICTURE.convert("L").convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(PICTURE.size))
    picture.paste((0, 0, 0, 0), (0, 0, 4, 16))
    picture = picture.quantize() if mode == "P" else picture.convert(mode)
    expected = picture.convert("RGBA").getchannel("A")
    rgb, alpha = split_alpha(picture)
    assert alpha is not None and alpha.tobytes() == expected.tobytes()
    assert rgb.getpixel((0, 0)) == (255, 255, 255)
    again = with_alpha(rgb, alpha)
    assert again.mode == "RGBA" and again.getchannel("A").tobytes() == expected.tobytes()
    assert rgb.mode == "RGB"


def test_half_transparent_is_half_white() -> None:
    assert to_rgb(Image.new("RGBA", (16, 16), (0, 100, 200, 51))).getpixel((0, 0)) == (204, 224, 244)


def test_without_alpha_nothing_is_put_back() -> None:
    rgb, alpha = split_alpha(PICTURE)
    assert alpha is None and with_alpha(rgb, alpha) is rgb


@pytest.mark.parametrize("kind", ["<u2", ">u2", "<i4"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str) -> None:
    deep = Image.fromarray(np.array([[0, 257, 40_000, 65_535]], dtype=kind))
    assert colors(to_rgb(deep)) == grey(0, 1, 156, 255)


def test_more_than_sixteen_bits_are_scaled_too() -> None:
    assert colors(to_rgb(Image.fromarray(np.array([[-5, 2**30, 2**31 - 1]], dtype=np.int32)))) == grey(0, 128, 255)


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0, 1e9])
def test_floating_point_is_scaled(white: float) -> None:
    deep = Image.fromarray(np.array([[0, 0.5, 1, np.nan]], dtype=np.float32) * np.float32(white))
    assert colors(to_rgb(deep)) == grey(0, 128, 255, 0)


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random((33, 20), dtype=np.float32)
    whole = to_rgb(Image.fromarray(values))
    monkeypatch.setattr("ip2p.pictures.color.STRIP_PIXELS", 100)
    assert to_rgb(Image.fromarray(values)).tobytes() == whole.tobytes()


def test_one_deep_value_may_be_transparent() -> None:
    deep = Image.fromarray(np.array([[0, 7, 65_535]], dtype=np.uint16))
    deep.info["transparency"] = 7
    assert colors(to_srgb(deep)) == [(0, 0, 0, 255), (0, 0, 0, 0), (255, 255, 255, 255)]


def test_exif_turns_the_picture() -> None:
    turned = PICTURE.copy()
    turned.getexif()[0x0112] = 6
    assert ImageChops.difference(to_rgb(turned), PICTURE.rotate(-90, expand=True)).getbbox() is None


# -- colour profiles -------------------------------------------------------------------------------------------------


def swapped_profile() -> bytes:
    """sRGB with red and blue changed about: a profile whose effect nobody can miss."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", data, 128)
    places = {bytes(data[132 + 12 * k : 136 + 12 * k]): 132 + 12 * k for k in range(count)}
    for red, blue in ((b"rXYZ", b"bXYZ"),):
        data[places[red] : places[red] + 4], data[places[blue] : places[blue] + 4] = blue, red
    return bytes(data).replace("sRGB".encode("utf-16-be"), "abcd".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_colour_profile_is_honoured(mode: str) -> None:
    image = Image.new("RGB", (16, 16), (250, 10, 20))
    image = image.quantize() if mode == "P" else image.convert(mode)
    image.info["icc_profile"] = swapped_profile()
    seen = to_rgb(image).getpixel((3, 3))
    assert np.abs(np.subtract(seen, (20, 10, 250))).max() <= 12
    assert "icc_profile" not in to_srgb(image).info


def test_srgb_is_left_alone() -> None:
    image = PICTURE.copy()
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert to_rgb(image).tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize("profile", [b"", b"not a profile", "text", 7])
def test_a_broken_profile_is_overlooked(profile: object) -> None:
    image = PICTURE.copy()
    image.info["icc_profile"] = profile
    assert to_rgb(image).tobytes() == PICTURE.tobytes()


def test_a_profile_of_another_space_is_overlooked() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image.info["icc_profile"] = swapped_profile()
    assert to_rgb(image).getpixel((0, 0)) == (255, 0, 0)


def test_lab_is_converted() -> None:
    lab = ImageCms.createProfile("LAB")
    there = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB").apply(PICTURE)
    assert there.mode == "LAB"
    assert np.abs(np.asarray(to_rgb(there), float) - np.asarray(PICTURE, float)).mean() < 4


def test_a_lossless_file_keeps_every_value() -> None:
    stream = io.BytesIO()
    PICTURE.save(stream, "PNG")
    assert to_srgb(Image.open(stream)).tobytes() == PICTURE.tobytes()
