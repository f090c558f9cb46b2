"""Whatever a file holds, it is a picture or one clear line: no crash, no hang, no flood of memory.

Files are opened in processes of their own. One that takes 5 seconds of processor time over a file is killed by the
system, decoders in C included, and one that needs 600 MB at any time is told of at its end.
"""

import io
import json
import random
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

MEGABYTES = 600
MUTANTS = 3000
MODES = (
    "1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "La", "RGBX", "RGBa", "I;16",
)  # fmt: skip
KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "TGA", "PPM")
try:
    import pillow_heif
except ImportError:  # an extra
    WRITTEN = KINDS
else:
    pillow_heif.register_heif_opener()
    WRITTEN = (*KINDS, "HEIF")
PICTURE = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * k).resize((24, 16)) for k in range(3)])

PROGRAM = """
import json, signal, sys
from pathlib import Path
from ip2p.errors import ImageError
from ip2p.pictures.read import open_image
from ip2p.pictures.write import read_parameters

def tried(function, path):
    try:
        return "", function(path)
    except ImageError as error:
        return str(error), None

for path in sorted(Path(sys.argv[1]).iterdir()):
    signal.setitimer(signal.ITIMER_PROF, 5)  # of processor time; nobody handles the signal, so it ends the process
    print(json.dumps([path.name]), flush=True)
    error, image = tried(open_image, path)
    told, _ = tried(read_parameters, path)
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(json.dumps([error, image and image.mode, told]), flush=True)
status = Path("/proc/self/status")  # the highest use since this program began; elsewhere it is not measured
peak = [int(line.split()[1]) // 1024 for line in status.read_text().splitlines() if "VmHWM" in line]
print(json.dumps(peak if status.exists() else [0]))
"""


def opened(folder: Path, files: dict[str, bytes]) -> tuple[dict[str, tuple[str, str | None, str]], int]:
    """What is said of each file (error or nothing, mode, error about its parameters), and megabytes at the peak."""
    names = {f"{number:05d}": name for number, name in enumerate(files)}
    for number, name in names.items():
        (folder / number).write_bytes(files[name])
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, timeout=250)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    last = names.get(lines[-1][0]) if lines else None
    assert done.returncode != -signal.SIGPROF, f"5 seconds over {last}"
    assert done.returncode == 0, f"{done.returncode} over {last}: {done.stderr[-2000:]}"
    assert not done.stderr  # C libraries like to tell their own story there
    *lines, (peak,) = lines
    return {names[name]: tuple(said) for (name,), said in zip(lines[::2], lines[1::2], strict=True)}, peak


def is_clear(line: str) -> bool:
    """One line of a sane length that says what is wrong and what to do."""
    return len(line.splitlines()) == 1 and line.isprintable() and len(line) < 400 and line.count(". ") >= 1


# -- how bad files are made ------------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def replaced(data: bytes, place: int, form: str, *values: int) -> bytes:
    """With numbers written over what is at a place, in the form of struct."""
    new = bytearray(data)
    struct.pack_into(form, new, place, *values)
    return bytes(new)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 2, interlaced: int = 0) -> bytes:
    """A PNG whose header claims a size, followed by chunks."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def pixels(data: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(data))


def jpeg(width: int, height: int, **options: Any) -> bytes:
    """A small JPEG whose header claims a size."""
    data = encoded(PICTURE, "JPEG", **options)
    found = re.search(rb"\xff[\xc0\xc2]\0\x11\x08", data)
    assert found
    return replaced(data, found.end(), ">HH", height, width)


def scans(count: int) -> bytes:
    """A progressive JPEG of 16 million pixels whose last scan comes again and again, empty."""
    data = jpeg(4000, 4000, progressive=True)
    last = data.rindex(b"\xff\xda")
    (length,) = struct.unpack_from(">H", data, last + 2)
    return data[:last] + data[last : last + 2 + length] * count + b"\xff\xd9"


def gif(width: int, height: int, *blocks: bytes) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0)
    return b"GIF89a" + screen + bytes(6) + b"".join(blocks) + b";"


FRAME = b"," + struct.pack("<HHHHB", 0, 0, 20, 20, 0) + b"\x02\x02\x4c\x01\0"


def bmp(width: int, height: int, body: bytes, bits: int = 24, compression: int = 0) -> bytes:
    palette = bytes(1024) if bits == 8 else b""
    start = 54 + len(palette)
    header = b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start)
    sizes = (40, width, height, 1, bits, compression, len(body), 0, 0, 256 if palette else 0, 0)
    return header + struct.pack("<IiiHHIIiiII", *sizes) + palette + body


def tiff(tags: dict[int, int], body: bytes = bytes(2000), after: int = 0) -> bytes:
    """A TIFF of one page of grey, with its tags (LONG) replaced, and where the next page is said to be."""
    usual = {256: 20, 257: 20, 258: 8, 259: 1, 262: 1, 273: 300, 277: 1, 278: 20, 279: 400}
    entries = sorted({**usual, **tags}.items())
    page = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return (b"II*\0" + struct.pack("<I", 8) + page + struct.pack("<I", after)).ljust(300, b"\0") + body


def pages(count: int) -> bytes:
    """A TIFF of many pages, each but a list of tags that point to the same pixels."""
    first = tiff({})
    page = first[8 : 8 + 2 + 12 * 9]
    starts = [len(first) + number * (len(page) + 4) for number in range(count)] + [0]
    more = b"".join(page + struct.pack("<I", start) for start in starts[1:])
    return replaced(first, 8 + len(page), "<I", starts[0]) + more


def webp_header(width: int, height: int) -> bytes:
    """An extended WebP of which nothing but the canvas is there."""
    canvas = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def psd(width: int, height: int, body: bytes, compression: int = 0, resources: bytes = b"") -> bytes:
    """A Photoshop document of three channels; the body is that of its composite."""
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, height, width, 8, 3) + bytes(4)
    return header + struct.pack(">I", len(resources)) + resources + bytes(4) + struct.pack(">H", compression) + body


def ico(*pictures: bytes, side: int = 24, bits: int = 32) -> bytes:
    """An icon of pictures, each PNG or a bitmap without file header, which the list says are of `side` pixels."""
    place, entries = 6 + 16 * len(pictures), b""
    for picture in pictures:
        entries += struct.pack("<BBBBHHII", side, side, 0, 0, 1, bits, len(picture), place)
        place += len(picture)
    return struct.pack("<HHH", 0, 1, len(pictures)) + entries + b"".join(pictures)


def boxes(kind: str, width: int, height: int) -> bytes:
    """A small AVIF, HEIC or JPEG 2000 whose header claims a size; the code stream of the last does, too."""
    data = encoded(PICTURE, kind)
    if kind != "JPEG2000":
        return replaced(data, data.index(b"ispe") + 8, ">II", width, height)
    data = replaced(data, data.index(b"\xff\x4f\xff\x51") + 8, ">II", width, height)
    return replaced(data, data.index(b"ihdr") + 4, ">II", height, width)


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ICON = encoded(PICTURE.convert("RGBA").resize((24, 24)), "PNG")
WHOLE = {kind: encoded(PICTURE, kind) for kind in WRITTEN}
WHOLE |= {"PSD": psd(24, 16, b"".join(band.tobytes() for band in PICTURE.split())), "ICO": ico(ICON)}
NO_PICTURE, DAMAGED, PIXELS = "not a readable picture", "is damaged", "million pixels, more than"
EITHER = f"{NO_PICTURE}|{DAMAGED}"
TGA_END = b"TRUEVISION-XFILE.\0"
REFUSED: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "nothing": (b"", "is empty"),
    "one byte": (b"\x89", NO_PICTURE),
    "zeros": (bytes(5000), NO_PICTURE),
    "text": (b"make it winter\n" * 20, NO_PICTURE),
    "PCX": (encoded(PICTURE, "PCX"), f"{NO_PICTURE}: it is PCX"),
    "AVIF of nothing": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(99), "is damaged.*AVIF"),
    "a JPEG 2000 of nothing": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "is damaged.*JPEG 2000"),
    "a PPM of nothing": (b"P6\n", "is damaged.*PPM"),
    **{f"1 x 30000 {kind}": (lambda kind=kind: encoded(Image.new("RGB", (1, 30_000)), kind), "1 x 30000 pixels, longer")
       for kind in KINDS if kind not in ("WEBP", "AVIF")},
    "1 x 16000 WEBP": (encoded(Image.new("RGB", (1, 16_000)), "WEBP"), "longer than 20 : 1"),
    **{f"15 x 16 {kind}": (encoded(Image.new("RGB", (15, 16)), kind), "15 x 16 pixels, smaller than 16 x 16")
       for kind in KINDS},
    "15 x 16 PSD": (psd(15, 16, bytes(720)), "15 x 16 pixels, smaller than 16 x 16"),
    "1 x 1": (encoded(Image.new("RGB", (1, 1)), "PNG"), "1 x 1 pixels, smaller than 16 x 16"),
    **{f"0 x 0, {number}": (data, f"{EITHER}|0 x 0|smaller") for number, data in enumerate([
        png(0, 0, pixels(b"")), jpeg(0, 0), gif(0, 0, FRAME), bmp(0, 0, b""), tiff({256: 0, 257: 0}), psd(0, 0, b""),
        b"P6 0 0 255\n", boxes("JPEG2000", 0, 0), boxes("AVIF", 0, 0),
    ])},
    "a PNG bomb": (png(20_000, 20_000), "million pixels"),
    "the widest PNG": (png(2**31 - 1, 2**31 - 1), f"{EITHER}|million pixels"),
    "48 million pixels": (png(8_000, 6_000), f"48 {PIXELS} 40"),
    "a JPEG bomb": (jpeg(65_000, 65_000), "million pixels"),
    "a GIF bomb": (gif(65_535, 65_535, FRAME), "million pixels"),
    "a BMP bomb": (bmp(2**31 - 1, 2**31 - 1, b""), "million pixels"),
    "a TIFF bomb": (tiff({256: 2**20, 257: 2**20}), "million pixels"),
    "a WebP bomb": (webp_header(16_000, 16_000), f"{EITHER}|million pixels"),
    "the widest WebP": (webp_header(2**24, 255), f"{EITHER}|million pixels"),
    "a PPM bomb": (b"P6 60000 60000 255\n", "million pixels"),
    "a TGA bomb": (replaced(WHOLE["TGA"], 12, "<HH", 60_000, 60_000), "million pixels"),
    "a PSD bomb": (psd(300_000, 300_000, b""), "million pixels"),
    "a JPEG 2000 bomb": (boxes("JPEG2000", 60_000, 60_000), "million pixels"),
    "a JPEG 2000 that lies": (boxes("JPEG2000", 9**5, 9**5).replace((9**5).to_bytes(4), b"\0\0\0\x40", 2), DAMAGED),
    "a JPEG 2000 of 25 million pixels": (boxes("JPEG2000", 5_000, 5_000), f"25 {PIXELS} 20"),
    "an AVIF bomb": (boxes("AVIF", 60_000, 60_000), f"{DAMAGED}|million pixels"),
    "an icon bomb": (ico(png(9_000, 9_000)), "million pixels"),
    "an icon whose bitmap is a bomb": (ico(struct.pack("<Iii", 40, 9_000, 18_000) + bytes(99)), "million pixels"),
    "30 million pixels of AVIF": (lambda: encoded(Image.new("L", (6000, 5000)), "AVIF", speed=10), f"30 {PIXELS} 25"),
    "30 million pixels in some bytes": (lambda: encoded(Image.new("RGB", (6000, 5000)), "WEBP", quality=1, method=0),
                                        f"30 {PIXELS} 25"),
    "40 million pixels and no data": (png(6300, 6300, pixels(b"")), DAMAGED),
    "40 million pixels of a JPEG that stops": (jpeg(6300, 6300, progressive=True)[:-9], DAMAGED),
    "40 million pixels of floating point": (tiff({256: 6300, 257: 6300, 258: 32, 339: 3, 278: 6300}), DAMAGED),
    "a bomb of text": (png(20, 20, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(90_000_000), 1))), DAMAGED),
    "a bomb of profiles": (png(20, 20, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(9_000_000), 1))), DAMAGED),
    "a thousand texts": (png(20, 20, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000), 1))] * 100), DAMAGED),
    "300,000 chunks": (lambda: png(20, 20, chunk(b"prVt", b"") * 300_000), "needs more than 500000 reads"),
    "600,000 segments": (lambda: b"\xff\xd8" + b"\xff\xe5\0\2" * 600_000, "needs more than 500000 reads"),
    "300,000 comments": (lambda: gif(20, 20, b"!\xfe\1a\0" * 300_000), "needs more than 500000 reads"),
    "300,000 frames": (lambda: gif(20, 20, FRAME * 300_000), "needs more than 500000 reads"),
    "30,000 pages": (pages(30_000), "has more than 1000 frames. Choose one with frame, 0 to 999"),
    "a thousand scans": (scans(1000), "has more than 200 scans"),
    "a million comments": (b"P6\n" + b"#\n" * 1_000_000 + b"20 20 255\n" + bytes(1200), "500000 reads|is damaged"),
    "11 MB of digits": (lambda: b"P3 1900 1900 255\n" + b"7 " * 5_500_000, "PPM of more than 10 MB in digits"),
    "pixels of 10 bits, one by one": (lambda: b"P6 800 800 1000\n" + bytes(3_840_000), "needs more than 500000 reads"),
    "runs of one pixel": (lambda: bmp(900, 900, b"\1\5" * 810_000, bits=8, compression=1), "500000 reads"),
    "no pixels": (png(20, 20), DAMAGED),
    **{f"a header of an unknown {name}": (png(20, 20, pixels(bytes(9999)), **{name: 5}), EITHER)
       for name in ("depth", "color")},
    "two wrong bytes in the pixels": (png(20, 20, chunk(b"IDAT", b"\xff\xff" + zlib.compress(bytes(1220)))), DAMAGED),
    "a wrong checksum of the header": (replaced(WHOLE["PNG"], 29, ">I", 7), EITHER),
    "a chunk of 4 GB": (replaced(png(20, 20, chunk(b"tEXt", b"a\0b"), pixels(b"")), 33, ">I", 2**32 - 1), EITHER),
    "a header of 2 GB": (replaced(WHOLE["PNG"], 8, ">I", 2**31 - 1), EITHER),
    "too few pixels": (png(200, 200, pixels(bytes(50))), DAMAGED),
    "a filter that does not exist": (png(20, 20, pixels(b"\x09" * 1220)), DAMAGED),
    "a JPEG of 12 bits": (jpeg(24, 16).replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), EITHER),
    "a JPEG of nothing": (b"\xff\xd8\xff\xd9", EITHER),
    "a JPEG without tables": (WHOLE["JPEG"].replace(b"\xff\xdb", b"\xff\xe5"), DAMAGED),
    "a GIF of nothing": (gif(20, 20), EITHER),
    "a GIF of codes that are too long": (gif(20, 20, FRAME.replace(b"\x02\x02\x4c", b"\x0e\x02\x4c")), DAMAGED),
    "a BMP of 3 bits": (bmp(20, 20, bytes(1200), bits=3), EITHER),
    "a BMP without pixels": (bmp(20, 20, b""), DAMAGED),
    "a TIFF of 9 bits": (tiff({258: 9}), EITHER),
    "a TIFF of an unknown compression": (tiff({259: 777}), EITHER),
    "a TIFF whose pixels are elsewhere": (tiff({273: 2**31}), DAMAGED),
    "a TIFF of huge tiles": (tiff({259: 5, 322: 2**20, 323: 2**20, 324: 300, 325: 400}), EITHER),
    "a TIFF of a million bands": (tiff({277: 10**6}), EITHER),
    "a TIFF of LZW that is none": (tiff({259: 5}, b"\xff" * 2000), DAMAGED),
    "a TIFF of deflate that is none": (tiff({259: 8}, b"\xff" * 2000), DAMAGED),
    "a TGA of runs that stop": (encoded(PICTURE, "TGA", compression="tga_rle")[:60] + TGA_END, DAMAGED),
    "a PSD of runs that stop": (psd(24, 16, struct.pack(">48H", *[2] * 48) + bytes(20), 1), DAMAGED),
    "a PSD of 16 bits": (replaced(WHOLE["PSD"], 22, ">H", 16), "is damaged.*PSD"),
    "an icon of no picture": (ico(bytes(99)), EITHER),
    "an icon of 60,000 pictures": (struct.pack("<HHH", 0, 1, 60_000) + bytes(999), EITHER),
    **{f"half of a {kind}": (data[: len(data) // 2], EITHER) for kind, data in WHOLE.items()},
    "half of a TGA with its end": (WHOLE["TGA"][:600] + TGA_END, DAMAGED),
    **{f"the first 13 bytes of a {kind}": (data[:13], EITHER) for kind, data in WHOLE.items()},
}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str | None, str]]:
    files = {name: made if isinstance(made, bytes) else made() for name, (made, _) in REFUSED.items()}
    said, peak = opened(tmp_path_factory.mktemp("bad"), files)
    assert peak < MEGABYTES
    return said


def test_there_are_many_kinds() -> None:
    assert len(REFUSED) >= 60


@pytest.mark.parametrize("name", REFUSED)
def test_bad_pictures_are_refused_in_one_line(verdicts: dict[str, tuple[str, str | None, str]], name: str) -> None:
    error, mode, output = verdicts[name]
    assert mode is None and is_clear(error), error
    assert re.search(REFUSED[name][1], error), error
    assert is_clear(output), output


# -- files that may be pictures or not -------------------------------------------------------------------------------


def seeds() -> list[bytes]:
    """Small valid files of every format, in all modes that it can hold, and in its rarer forms."""
    files = []
    for kind in WRITTEN:
        for mode in MODES:
            if (kind, mode) == ("TIFF", "YCbCr"):  # Pillow 12.3 cannot read what it writes there
                continue
            try:
                files.append(encoded(Image.new("I;16", (24, 16), 9) if mode == "I;16" else PICTURE.convert(mode), kind))
            except (DeprecationWarning, KeyError, OSError, ValueError):  # not every mode can be written, or made of RGB
                continue
    (exif := Image.Exif())[0x0112] = 6
    frames = {"save_all": True, "append_images": [PICTURE.rotate(180)]}
    return [
        *files,
        *(encoded(PICTURE, kind, **frames) for kind in ("PNG", "WEBP", "GIF", "TIFF", "MPO", "AVIF")),
        *(encoded(PICTURE, kind, exif=exif) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")),
        *(encoded(PICTURE, kind, icc_profile=PROFILE) for kind in ("PNG", "JPEG", "TIFF", "AVIF")),
        *(encoded(PICTURE, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        *(encoded(PICTURE.convert("1"), "TIFF", compression=name) for name in ("group3", "group4", "tiff_ccitt")),
        encoded(PICTURE, "TGA", compression="tga_rle"),
        encoded(PICTURE, "JPEG2000", irreversible=True, tile_size=(16, 16), progression="RPCL"),
        b"P3 20 20 9\n" + b"1 2 3 " * 400,
        b"P6 20 20 1000\n" + bytes(2400),
        WHOLE["PSD"],
        psd(24, 16, struct.pack(">48H", *[2] * 48) + b"\xe9\7" * 48, 1),
        WHOLE["ICO"],
        ico(struct.pack("<IiiHHIIiiII", 40, 24, 48, 1, 32, 0, 0, 0, 0, 0, 0) + bytes(24 * 24 * 4 + 24 * 4)),
        ico(ICON, ICON),
        encoded(PICTURE, "JPEG", progressive=True),
        encoded(PICTURE, "WEBP", lossless=True),
        bmp(20, 20, (b"\5\1" * 4 + b"\0\0") * 20, bits=8, compression=1),
        tiff({}, after=8),  # pages in a circle
        png(20, 20, pixels(bytes(1300)), interlaced=1),
    ]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A file with some places changed, cut, left out or doubled; the checksums of a PNG mostly made good again."""
    new = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(min(len(new), rng.choice((40, 10**6, 10**6))))  # headers more often than pixels
        match rng.randrange(6):
            case 0:
                new[place] = rng.randrange(256)
            case 1:
                new[place] ^= 1 << rng.randrange(8)
            case 2:
                new[place : place + 4] = rng.choice((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\x40\0"))
            case 3:
                del new[place + 12 : place + 12 + rng.randint(1, 20)]
            case 4:
                new[place:place] = new[place : place + rng.randint(1, 40)]
            case 5:
                del new[max(20, rng.randrange(len(new))) :]
    return resealed(bytes(new)) if data.startswith(b"\x89PNG") and rng.random() < 0.8 else bytes(new)


def resealed(data: bytes) -> bytes:
    """A PNG with right checksums, so that what is wrong comes to be decoded."""
    parts, place = [data[:8]], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if place + 12 + length > len(data):
            break
        parts.append(chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return b"".join(parts) + data[place:]


def test_valid_files_of_every_mode_are_pictures(tmp_path: Path) -> None:
    said, _ = opened(tmp_path, {str(number): data for number, data in enumerate(seeds())})
    output = [error for error, _, _ in said.values() if error]
    assert len(said) > 80
    assert len(output) == 5 and all("has 2 frames. Choose one" in line for line in output)


def test_mutated_files_are_pictures_or_one_line(tmp_path: Path) -> None:
    rng, whole = random.Random(1), seeds()
    said, peak = opened(tmp_path, {str(number): mutated(rng, rng.choice(whole)) for number in range(MUTANTS)})
    assert len(said) == MUTANTS and peak < MEGABYTES
    for error, mode, output in said.values():
        assert (error and is_clear(error)) or mode in ("RGB", "RGBA"), error
        assert not output or is_clear(output), output
    refused = sum(bool(error) for error, _, _ in said.values())
    assert MUTANTS * 0.3 < refused < MUTANTS * 0.9  # neither all well nor all broken: the files reach the decoders
