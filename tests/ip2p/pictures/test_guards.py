"""Limits of single formats; those of all are in test_bad_pictures.py."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ip2p.errors import ImageError
from ip2p.pictures.formats import FORMATS
from ip2p.pictures.read import decode_image

PICTURE = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * k).resize((24, 24)) for k in range(3)])
MEGABYTES = 600
PROGRAM = """
import sys
from pathlib import Path
from ip2p.pictures.read import open_image
print(open_image(sys.argv[1]).size)
status = Path("/proc/self/status")  # elsewhere it is not measured
lines = status.read_text().splitlines() if status.exists() else ["VmHWM 0"]
print(*[int(line.split()[1]) // 1024 for line in lines if "VmHWM" in line])
"""


def psd(*, composite: bool, layers: int = 0) -> bytes:
    """A Photoshop document of three channels, which says whether its composite is one."""
    resource = b"8BIM" + struct.pack(">HHI", 1057, 0, 6) + struct.pack(">IBB", 1, composite, 0)
    layer = struct.pack(">4iH", 0, 0, 0, 0, 0) + b"8BIMnorm" + bytes(8)
    info = struct.pack(">H", layers) + layer * layers
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, *PICTURE.size, 8, 3) + bytes(4)
    parts = [struct.pack(">I", len(resource)) + resource, struct.pack(">II", len(info) + 4, len(info)) + info]
    return header + b"".join(parts) + bytes(2) + b"".join(band.tobytes() for band in PICTURE.split())


@pytest.mark.parametrize("layers", [0, 3])
def test_of_a_photoshop_document_the_composite_is_read(layers: int) -> None:
    for frame in (None, 0):
        image = decode_image(psd(composite=True, layers=layers), "picture.psd", frame)
        assert (image.mode, image.tobytes()) == ("RGB", PICTURE.tobytes())
    with pytest.raises(ImageError, match="has no frame 1"):
        decode_image(psd(composite=True, layers=layers), "picture.psd", 1)


def test_a_photoshop_document_of_layers_only_is_refused() -> None:
    with pytest.raises(ImageError, match="picture.psd has layers only. Save it in Photoshop with Maximize"):
        decode_image(psd(composite=False), "picture.psd")


def icon(picture: bytes) -> bytes:
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 24, 24, 0, 0, 1, 32, len(picture), 22) + picture


def test_icons_are_as_large_as_the_pictures_inside() -> None:
    stream = io.BytesIO()
    PICTURE.resize((300, 200)).save(stream, "PNG")
    assert decode_image(icon(stream.getvalue()), "a.ico").size == (300, 200)
    bitmap = struct.pack("<IiiHHIIiiII", 40, 24, 48, 1, 32, 0, 0, 0, 0, 0, 0)
    image = decode_image(icon(bitmap + b"\1\2\3\xff" * 576 + bytes(96)), "a.ico")
    assert (image.mode, image.size, image.getpixel((5, 5))) == ("RGBA", (24, 24), (3, 2, 1, 255))


def test_digits_are_read_up_to_a_limit() -> None:
    assert decode_image(b"P3 20 20 9\n" + b"9 0 3 " * 400, "a.ppm").getpixel((3, 3)) == (255, 0, 85)
    assert decode_image(b"P5 20 20 255\n" + bytes(400), "a.pgm").getpixel((3, 3)) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize(
    "kind", [kind for kind in FORMATS if kind.plugin not in ("PSD", "ICO")], ids=lambda kind: kind.name
)
def test_the_largest_pictures_fit_into_memory(tmp_path: Path, kind: object, mode: str) -> None:
    plugin, pixels = kind.plugin, kind.max_pixels  # type: ignore[attr-defined]
    if plugin == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if mode == "RGBA" and plugin in ("JPEG", "BMP", "PPM"):
        pytest.skip("it has no alpha")
    side = int(pixels**0.5)
    image = Image.new(mode, (side, side), (9, 60, 200, 90)[: len(mode)])
    options = {
        "AVIF": {"speed": 10}, "HEIF": {"quality": 1}, "TIFF": {"compression": "tiff_deflate"}, "WEBP": {"method": 0},
        "TGA": {"compression": "tga_rle"}, "JPEG2000": {"irreversible": True},
    }.get(str(plugin), {})  # fmt: skip
    if plugin in ("BMP", "PPM"):  # 50 MB hold fewer pixels
        image = image.convert("L")
    file = tmp_path / "large"
    image.save(file, plugin, **options)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(file)], capture_output=True, text=True)
    size, peak = done.stdout.splitlines()
    assert size == str((side, side)) and int(peak) < MEGABYTES
