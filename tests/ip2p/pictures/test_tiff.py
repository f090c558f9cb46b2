"""A TIFF is the picture that was meant, or an error: neither misread, nor full of memory that nobody has written."""

import io
import os
import random
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ip2p.errors import ImageError
from ip2p.pictures.read import decode_image

WIDTH, HEIGHT = 48, 40
RAMP = np.arange(HEIGHT * WIDTH, dtype=np.int64).reshape(HEIGHT, WIDTH) * 255 // (HEIGHT * WIDTH - 1)
COLORS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
ROUND = Image.radial_gradient("L").resize((WIDTH, HEIGHT))


def tiff(
    values: np.ndarray, *, color: int = 1, kind: int = 1, order: str = "<", planes: bool = False, deflated: bool = False
) -> bytes:
    """A TIFF in one strip, or one for each plane.

    Args:
        values: shape (h, w, c), of the type to be stored.
        color: photometric interpretation.
        kind: sample format, 1 unsigned, 2 signed, 3 floating point.
    """
    height, width, channels = values.shape
    values = values.astype(values.dtype.newbyteorder(order))
    parts = [values[..., k].tobytes() for k in range(channels)] if planes else [values.tobytes()]
    parts = [zlib.compress(part) for part in parts] if deflated else parts
    bits = values.dtype.itemsize * 8
    tags: dict[int, list[int]] = {
        256: [width], 257: [height], 258: [bits] * channels, 259: [8 if deflated else 1], 262: [color],
        273: [0] * len(parts), 277: [channels], 278: [height], 279: [len(part) for part in parts],
        284: [2 if planes else 1], 339: [kind] * channels,
    }  # fmt: skip
    if color == 6:
        tags[530] = [1, 1]  # no channel is smaller than another
    after = 8 + 2 + 12 * len(tags) + 4
    start = after + sum(4 * len(numbers) for numbers in tags.values() if len(numbers) > 1)
    tags[273] = [start + sum(map(len, parts[:k])) for k in range(len(parts))]
    page, more = struct.pack(order + "H", len(tags)), b""
    for tag, numbers in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        place = packed if len(numbers) == 1 else struct.pack(order + "I", after + len(more))
        more += packed if len(numbers) > 1 else b""
        page += struct.pack(order + "HHI", tag, 4, len(numbers)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + page + bytes(4) + more + b"".join(parts)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_channels_are_read_together_and_apart_or_refused(order: str, deflated: bool, planes: bool, bits: int) -> None:
    values = COLORS.astype(np.uint8) if bits == 8 else (COLORS * 257).astype(np.uint16)
    data = tiff(values, color=2, order=order, planes=planes, deflated=deflated)
    if planes and bits == 16 and not deflated:  # Pillow reads noise
        with pytest.raises(ImageError, match="a TIFF that has uncompressed channels of 16 bits in separate planes"):
            decode_image(data, "planes.tif")
        return
    assert np.array_equal(np.asarray(decode_image(data, "colors.tif")), COLORS)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize(
    ("kind", "stored", "white"),
    [(1, np.uint8, 255), (1, np.uint16, 65535), (2, np.int16, 32767), (2, np.int32, 2**31 - 1),
     (1, np.uint32, 2**32 - 1), (3, np.float32, 1.0)],
)  # fmt: skip
def test_gray_of_every_depth_is_right_or_refused(
    order: str, deflated: bool, planes: bool, white_is_zero: bool, kind: int, stored: type, white: float
) -> None:
    levels = 255 - RAMP if white_is_zero else RAMP
    values = (levels[..., None] / 255 * white).astype(stored)
    data = tiff(values, color=0 if white_is_zero else 1, kind=kind, order=order, planes=planes, deflated=deflated)
    common = stored is np.uint8 or (stored is np.uint16 and (order == "<" or not white_is_zero))
    if common and not (planes and not deflated):
        assert np.abs(np.asarray(decode_image(data, "gray.tif"))[..., 0].astype(int) - RAMP).max() <= 1
        return
    try:
        seen = np.asarray(decode_image(data, "gray.tif"))[..., 0].astype(int)
    except ImageError as error:
        assert re.search("is a TIFF that has|rare kind of TIFF|numbers above", str(error))
    else:  # white of signed numbers is taken for that of unsigned ones
        assert np.abs(seen * (2 if stored is np.int16 else 1) - RAMP).max() <= 2


def test_lab_and_ycbcr_in_planes_are_refused() -> None:
    for color in (6, 8):
        with pytest.raises(ImageError, match="in separate planes"):
            decode_image(tiff(COLORS.astype(np.uint8), color=color, planes=True), "planes.tif")


def test_previews_of_raw_files_are_not_taken_for_the_picture() -> None:
    data = bytearray(tiff(COLORS.astype(np.uint8), color=2))
    place = data.index(struct.pack("<HHI", 339, 4, 3))  # the last tag
    data[place : place + 12] = struct.pack("<HHII", 50706, 1, 4, 0x401)
    with pytest.raises(ImageError, match="a raw file of a camera"):
        decode_image(bytes(data), "photo.dng")


# -- damage ----------------------------------------------------------------------------------------------------------

PROGRAM = """
import hashlib, sys
from pathlib import Path
from ip2p.errors import ImageError
from ip2p.pictures.read import open_image
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print(hashlib.sha256(open_image(path).tobytes()).hexdigest())
    except ImageError as error:
        print(error)
"""


def encoded(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "TIFF", **options)
    return stream.getvalue()


def decode_in_filled_memory(folder: Path, byte: int) -> list[str]:
    """A line of each file, read in a process whose C library fills the memory that it hands out."""
    environment = {**os.environ, "MALLOC_PERTURB_": str(byte)}
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], env=environment, capture_output=True, text=True)
    assert not done.stderr
    return done.stdout.splitlines()


def seeds() -> list[bytes]:
    bilevel = [
        encoded(ROUND.convert("1"), compression=name, strip_size=size, tiffinfo={266: order})
        for name in ("group3", "group4", "tiff_ccitt") for size in (64, 9999) for order in (1, 2)
    ]  # fmt: skip
    color = Image.fromarray(COLORS.astype(np.uint8))
    return [
        *bilevel * 2,
        *(encoded(ROUND, compression="jpeg", strip_size=size) for size in (768, 9999)),
        *(
            encoded(color, compression=name, strip_size=2400)
            for name in ("jpeg", "tiff_lzw", "packbits", "tiff_deflate")
        ),
    ]


@pytest.mark.slow
def test_damaged_files_never_show_memory_that_nobody_has_written(tmp_path: Path) -> None:
    rng, whole = random.Random(3), seeds()
    for number in range(3000):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 2)):
            data[rng.randrange(8, len(data))] = rng.randrange(256)
        (tmp_path / f"{number:04d}.tif").write_bytes(data)
    first, second = (decode_in_filled_memory(tmp_path, byte) for byte in (85, 170))
    assert len(first) == 3000 and first == second
    assert 500 < sum(len(line) == 64 for line in first) < 2500


def test_whole_files_of_every_compression_are_read() -> None:
    for data in seeds():
        with Image.open(io.BytesIO(data)) as stored:
            assert decode_image(data, "whole.tif").tobytes() == stored.convert("RGB").tobytes()


@pytest.mark.parametrize("order", [1, 2])
def test_a_fax_strip_that_ends_too_early_is_damage(order: int) -> None:
    """Its first row is whole, and the mark of the end comes after it."""
    data = bytearray(encoded(Image.new("1", (WIDTH, HEIGHT), 1), compression="group4", tiffinfo={266: order}))
    end = (int("1" + "000000000001" * 2, 2) << 7).to_bytes(4)
    data[8:12] = end if order == 1 else bytes(int(f"{byte:08b}"[::-1], 2) for byte in end)
    with pytest.raises(ImageError, match=r"is damaged .TIFF: a strip ends too early"):
        decode_image(bytes(data), "fax.tif")


def test_a_jpeg_strip_with_too_few_rows_is_damage() -> None:
    data = encoded(ROUND, compression="jpeg", strip_size=768)
    rows = struct.pack("<HHI", 278, 3, 1)
    data = data.replace(rows + struct.pack("<I", 16), rows + struct.pack("<I", HEIGHT))
    with pytest.raises(ImageError, match="is damaged .TIFF: strip or tile 0 is not 48 x 40"):
        decode_image(data, "short.tif")


def test_damage_that_libtiff_only_tells_of_is_damage() -> None:
    """Of YCbCr it decodes what it can."""
    data = bytearray(tiff(COLORS.astype(np.uint8), color=6, deflated=True))
    middle = len(data) * 2 // 3
    data[middle : middle + 40] = bytes(40)
    with pytest.raises(ImageError, match="is damaged .TIFF: ZIPDecode"):
        decode_image(bytes(data), "torn.tif")
