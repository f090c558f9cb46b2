"""A profile counts as sRGB if its numbers are sRGB's, whatever it is called."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ip2p.pictures.color import to_rgb
from ip2p.pictures.profiles import srgb_transform
from ip2p.pictures.read import open_image

CASES = Path(__file__).parent / "cases"
PICTURE = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * k).resize((24, 16)) for k in range(3)])
GRAY = Image.linear_gradient("L").rotate(90)
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
SHIFTED = ((0.4461, 0.2225, 0.0139), *SRGB[1:])
Primaries = tuple[tuple[float, float, float], ...]


def number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def srgb_curve(points: int) -> bytes:
    x = np.linspace(0, 1, points)
    y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return b"curv\0\0\0\0" + struct.pack(">I", points) + (y * 65535).round().astype(">u2").tobytes()


def profile(space: bytes, tags: dict[bytes, bytes], name: str) -> bytes:
    """A display profile of version 2 with these tags, and a name."""
    told = name.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(told)) + told + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + number(0.9505) + number(1) + number(1.0891),
        **tags,
    }
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data.ljust(-(-len(data) // 4) * 4, b"\0")
    white = number(0.9642) + number(1) + number(0.8249)
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x12s48x", start + len(body), 0x2100000, b"mntr", space, b"XYZ ", b"acsp", white
    )
    return header + struct.pack(">I", len(tags)) + table + body


def rgb(primaries: Primaries, curve: bytes, name: str = "sRGB IEC61966-2.1") -> bytes:
    columns = {
        tag: b"XYZ \0\0\0\0" + b"".join(map(number, xyz))
        for tag, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    }
    return profile(b"RGB ", columns | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve), name)


def gray(curve: bytes, name: str = "sRGB gray") -> bytes:
    return profile(b"GRAY", {b"kTRC": curve}, name)


def tagged(image: Image.Image, data: bytes) -> Image.Image:
    image = image.copy()
    image.info["icc_profile"] = data
    return image


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """From light, 0 to 1, to levels, 0 to 255."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055) * 255


def test_a_linear_profile_is_converted_though_srgb_is_in_its_name() -> None:
    file = CASES / "gimp-linear-srgb.png"
    with Image.open(file) as stored:
        expected = encode_srgb(np.asarray(stored) / 255)
        assert "sRGB" in ImageCms.getProfileDescription(
            ImageCms.ImageCmsProfile(io.BytesIO(stored.info["icc_profile"]))
        )
    assert np.abs(np.asarray(open_image(file)) - expected).max() < 1.5


@pytest.mark.parametrize("name", ["sRGB IEC61966-2.1", "Display P3"])
@pytest.mark.parametrize("points", [26, 42, 1024])
def test_srgb_by_its_numbers_is_left_alone_to_the_bit(points: int, name: str) -> None:
    assert to_rgb(tagged(PICTURE, rgb(SRGB, srgb_curve(points), name))).tobytes() == PICTURE.tobytes()


def test_rounded_primaries_are_still_srgb() -> None:
    other = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
    assert to_rgb(tagged(PICTURE, rgb(other, srgb_curve(1024)))).tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize(
    ("primaries", "curve"),
    [
        (P3, srgb_curve(1024)),
        (SRGB, gamma(1.0)),
        (SRGB, gamma(1.8)),
        (SRGB, gamma(2.2)),
        (SHIFTED, srgb_curve(1024)),
    ],
    ids=["P3", "linear", "gamma 1.8", "gamma 2.2", "shifted red"],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_all_others_are_converted(primaries: Primaries, curve: bytes, mode: str) -> None:
    image = Image.new("RGB", (16, 16), (220, 40, 60))
    image = image.quantize() if mode == "P" else image.convert(mode)
    levels = np.array([220, 40, 60]) / 255
    light = levels if curve == gamma(1.0) else levels ** (1.8 if curve == gamma(1.8) else 2.2)
    if curve == srgb_curve(1024):
        light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    expected = encode_srgb((np.linalg.inv(np.array(SRGB).T) @ np.array(primaries).T @ light).clip(0, 1))
    seen = to_rgb(tagged(image, rgb(primaries, curve))).getpixel((3, 3))
    assert np.abs(np.subtract(seen, expected)).max() < 2
    assert np.abs(np.subtract(seen, (220, 40, 60))).max() > 2


def test_gray_profiles_are_judged_likewise() -> None:
    plain = GRAY.convert("RGB").tobytes()
    assert to_rgb(tagged(GRAY, gray(srgb_curve(1024)))).tobytes() == plain
    for exponent in (1.0, 1.8, 2.2):
        seen = np.asarray(to_rgb(tagged(GRAY, gray(gamma(exponent)))))[0, :, 0]
        assert np.abs(seen - encode_srgb((np.asarray(GRAY)[0] / 255) ** exponent)).max() < 2
    with_alpha = GRAY.convert("LA")
    assert to_rgb(tagged(with_alpha, gray(gamma(1.0)))).tobytes() == to_rgb(tagged(GRAY, gray(gamma(1.0)))).tobytes()


def test_gray_with_a_profile_of_rgb_is_converted_by_its_curve() -> None:
    assert to_rgb(tagged(GRAY, rgb(SRGB, srgb_curve(1024)))).tobytes() == GRAY.convert("RGB").tobytes()
    seen = np.asarray(to_rgb(tagged(GRAY, rgb(SRGB, gamma(1.0)))))[0, :, 0]
    assert np.abs(seen - encode_srgb(np.asarray(GRAY)[0] / 255)).max() < 2


def test_cmyk_is_converted_by_its_profile_whatever_its_name() -> None:
    """By a profile in which cyan ink is red."""
    steps = bytes(range(256))
    white, red, black = bytes([255, 128, 128]), bytes([136, 208, 195]), bytes([0, 128, 128])  # Lab, 8 bits
    matrix = b"".join(number(k in (0, 4, 8)) for k in range(9))
    table = b"mft1\0\0\0\0\4\3\2\0" + matrix + steps * 4 + (white + black) * 4 + (red + black) * 4 + steps * 3
    data = profile(b"CMYK", {b"A2B0": table}, "sRGB").replace(b"mntrCMYKXYZ ", b"prtrCMYKLab ")
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert to_rgb(image).getpixel((3, 3)) == (0, 255, 255)
    assert np.abs(np.subtract(to_rgb(tagged(image, data)).getpixel((3, 3)), (255, 0, 0))).max() < 10


def test_lab_is_converted_with_a_profile_and_without() -> None:
    lab = ImageCms.createProfile("LAB")
    there = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB").apply(PICTURE)
    for image in (there, tagged(there, ImageCms.ImageCmsProfile(lab).tobytes()), tagged(there, rgb(P3, gamma(1.0)))):
        assert np.abs(np.asarray(to_rgb(image), float) - np.asarray(PICTURE, float)).mean() < 4


def test_profiles_that_do_not_fit_or_are_damaged_change_nothing() -> None:
    p3 = rgb(P3, srgb_curve(1024))
    assert srgb_transform("RGB", p3) is not None
    assert srgb_transform("RGB", None) is None
    for mode, data in (("CMYK", p3), ("RGB", gray(gamma(1.0))), ("RGB", p3[:200]), ("RGB", b"no profile")):
        assert srgb_transform(mode, data) is None
