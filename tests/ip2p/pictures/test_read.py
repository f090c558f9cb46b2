"""Files of every kind are read as they were meant, or refused in one line."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from ip2p.errors import ImageError
from ip2p.pictures import read
from ip2p.pictures.formats import FORMATS
from ip2p.pictures.read import decode_image, open_image

PICTURE = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * k).resize((24, 16)) for k in range(3)])
CASES = Path(__file__).parent / "cases"
FRAMES = [Image.new("RGB", (20, 16), color) for color in ("red", "blue", "white")]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def saved(folder: Path, data: bytes, name: str = "picture.png") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", [kind.plugin for kind in FORMATS if kind.plugin != "PSD"])  # Pillow writes no PSD
def test_every_format_is_read_whatever_its_name(tmp_path: Path, kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    options = {"ICO": {"sizes": [PICTURE.size]}, "AVIF": {"quality": 100}, "HEIF": {"quality": 100}}.get(kind, {})
    image = open_image(saved(tmp_path, encoded(PICTURE, kind, **options), "any.name"))
    assert (image.mode, image.size, image.info) == ("RGB", PICTURE.size, {})
    error = np.abs(np.asarray(image, float) - np.asarray(PICTURE)).mean()
    assert error < 12 if kind in ("JPEG", "WEBP", "GIF", "HEIF") else error < 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "AVIF", "JPEG2000", "TGA"])
def test_transparency_is_kept(tmp_path: Path, kind: str) -> None:
    picture = PICTURE.copy()
    picture.putalpha(Image.new("L", PICTURE.size, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 5, 16))
    image = open_image(saved(tmp_path, encoded(picture, kind, **({"quality": 100} if kind == "AVIF" else {}))))
    assert image.mode == "RGBA"
    assert image.getchannel("A").tobytes() == picture.getchannel("A").tobytes()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_sixteen_bits_are_scaled(tmp_path: Path, kind: str) -> None:
    deep = Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16))
    assert open_image(saved(tmp_path, encoded(deep, kind))).getpixel((0, 0)) == (156, 156, 156)


def test_a_photo_of_a_phone_is_turned_and_its_further_pictures_are_not_frames(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif, "save_all": True, "append_images": [PICTURE.resize((16, 16))], "quality": 100}
    path = saved(tmp_path, encoded(PICTURE.resize((96, 64)), "MPO", **options))
    turned = open_image(path)
    assert turned.size == (64, 96)
    expected = PICTURE.resize((96, 64)).rotate(-90, expand=True)
    assert np.asarray(ImageChops.difference(turned, expected)).mean() < 4
    assert open_image(path, frame=1).size in ((16, 16),)


def test_cmyk_is_read(tmp_path: Path) -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        seen = open_image(saved(tmp_path, encoded(red, kind))).getpixel((8, 8))
        assert np.abs(np.subtract(seen, (255, 0, 0))).max() <= 4


def test_bytes_are_decoded_as_files_are(tmp_path: Path) -> None:
    data = encoded(PICTURE, "PNG")
    assert decode_image(data, "a picture") == open_image(saved(tmp_path, data))
    with pytest.raises(ImageError, match=r"a picture is empty. Give a PNG, .* file"):
        decode_image(b"", "a picture")


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "HEIF"])
def test_photos_are_turned_once(kind: str) -> None:
    """AVIF and HEIC hold the orientation apart from EXIF, too."""
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    (exif := Image.Exif())[0x0112] = 6
    turned = decode_image(encoded(PICTURE.resize((96, 64)), kind, exif=exif.tobytes(), quality=100), "a photo")
    expected = PICTURE.resize((96, 64)).rotate(-90, expand=True)
    assert turned.size == expected.size
    assert np.asarray(ImageChops.difference(turned, expected)).mean() < 4


@pytest.mark.parametrize("name", ["orientation6-bias-minus1-over-0.jpg", "orientation6-stripoffsets.jpg"])
def test_a_value_that_cannot_be_written_does_not_stop_the_turning(name: str) -> None:
    image = open_image(CASES / name)
    assert image.size == (32, 64)
    with Image.open(CASES / name) as stored:
        assert image.tobytes() == stored.rotate(-90, expand=True).tobytes()


# -- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_several_frames_one_is_to_be_chosen(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    path = saved(tmp_path, encoded(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:], **options))
    with pytest.raises(ImageError, match=r"has 3 frames. Choose one with frame, 0 to 2"):
        open_image(path)
    colors = [open_image(path, frame=frame).convert("RGB").getpixel((3, 3)) for frame in range(3)]
    assert np.abs(np.subtract(colors, [(255, 0, 0), (0, 0, 255), (255, 255, 255)])).max() <= (
        2 if kind == "AVIF" else 0
    )
    for frame in (3, -1, 10**9):
        with pytest.raises(ImageError, match=rf"has no frame {frame}, it has 3 frames. Choose one from 0 to 2"):
            open_image(path, frame=frame)


def test_a_still_picture_has_a_frame_too(tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(PICTURE, "PNG"))
    assert open_image(path, frame=0).tobytes() == PICTURE.tobytes()
    with pytest.raises(ImageError, match="has no frame 1, it has 1 frames"):
        open_image(path, frame=1)


def test_pages_may_be_of_different_sizes_and_are_guarded_each(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (1, 800)), Image.new("RGB", (9, 9)), Image.new("RGB", (30, 40))]
    path = saved(tmp_path, encoded(PICTURE, "TIFF", save_all=True, append_images=pages))
    assert open_image(path, frame=3).size == (30, 40)
    for frame, said in ((1, "longer than 20 : 1"), (2, "smaller than 16 x 16")):
        with pytest.raises(ImageError, match=rf"frame {frame}, is .*{said}"):
            open_image(path, frame=frame)


def test_a_frame_far_behind_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]))
    monkeypatch.setattr(read, "MAX_FRAME_PIXELS", 500)
    assert open_image(path, frame=1).size == (20, 16)
    with pytest.raises(ImageError, match="frame 2 of .* comes after too many pixels"):
        open_image(path, frame=2)


# -- names and sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [("missing.png", "no picture"), (".", "folder"), ("a\0b.png", "picture"), ("n" * 400, "picture|read")],
)
def test_bad_names_are_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        open_image(tmp_path / name)


def test_network_addresses_are_not_opened() -> None:
    with pytest.raises(ImageError, match="no picture"):
        open_image("https://example.org/a.png")


@pytest.mark.parametrize(("size", "said"), [((15, 16), "smaller than 16 x 16. Enlarge"), ((16, 321), "longer than 20")])
def test_sizes_that_no_model_takes_are_refused(tmp_path: Path, size: tuple[int, int], said: str) -> None:
    with pytest.raises(ImageError, match=rf"is {size[0]} x {size[1]} pixels, {said}"):
        open_image(saved(tmp_path, encoded(Image.new("RGB", size), "PNG")))


@pytest.mark.parametrize("size", [(16, 16), (16, 320), (320, 16)])
def test_the_smallest_and_the_longest_are_taken(tmp_path: Path, size: tuple[int, int]) -> None:
    assert open_image(saved(tmp_path, encoded(Image.new("RGB", size), "PNG"))).size == size


def test_opening_needs_no_torch() -> None:
    program = "import sys, ip2p.pictures.read, ip2p.pictures.write; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["", "2>&-"])
def test_libtiff_does_not_write_to_the_screen_and_the_screen_comes_back(tmp_path: Path, closed: str) -> None:
    whole = encoded(PICTURE, "TIFF", compression="tiff_deflate")
    saved(tmp_path, whole.replace(b"x\x9c", b"\xff\xff"), "torn.tif")
    program = "import sys; from ip2p import cli; code = cli.run(['edit', 'torn.tif', 'make it winter']); sys.exit(code)"
    shell = ["sh", "-c", f'exec "{sys.executable}" -c "{program}" {closed}']
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == (0 if closed else 1)
    assert closed or done.stderr.startswith("ip2p: torn.tif is damaged")
