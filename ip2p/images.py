"""Pictures in and out: the only place where files become pictures, and pictures tensors.

A picture is a PIL image in mode RGB; a tensor of pictures is Float "b 3 h w" in [-1, 1]. Files are guarded before they
are decoded: by bytes, pixels, format and aspect. No network addresses are opened.
"""

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from ip2p.errors import ImageError
from ip2p.shards import atomic_write

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_BYTES = 50_000_000
MAX_PIXELS = 40_000_000
MAX_ASPECT = 20
READABLE = f"Give a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"
SMALLER = "Make it smaller first"

EDITED = "compositeWithTrainedAlgorithmicMedia"
GENERATED = "trainedAlgorithmicMedia"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
XMP_KEY = "XML:com.adobe.xmp"

GAP = 8
LABEL_WIDTH = 150
TEXT_SIZE = 14


def open_image(path: str | Path) -> Image.Image:
    """Read a picture file as RGB: turned as its EXIF says, alpha on white, 16 bit scaled, the first frame of several.

    Args:
        path: at most 50 MB and 40 million pixels, the long side at most 20 times the short one.

    Raises:
        ImageError: missing, a folder, empty, no picture, of another format, torn, or beyond these bounds.
    """
    data = _read(Path(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # damaged metadata; the pixels are what counts
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image.size, path)  # by the header, before any pixel is decoded
                image.load()
                return to_rgb(_upright(image))
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path} has more than {MAX_PIXELS // 10**6} million pixels", SMALLER) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not a picture that we can read", READABLE) from error
    except Exception as error:  # decoders answer broken bytes with any exception at all
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ImageError(f"{path} is damaged ({reason})", "Save it again, or give another file") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: deep pixels scaled, not clipped, and white behind what is transparent."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        white = 65535.0 if image.mode != "F" else 1.0 if values.max() <= 1 else 255.0
        grey = np.nan_to_num(values / white * 255).round().clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image.convert("RGB")


def to_tensor(images: Sequence[Image.Image]) -> Float[Tensor, "b 3 h w"]:
    """Pictures of one size as a float32 tensor in [-1, 1]: 0 becomes -1 and 255 becomes 1.

    Raises:
        ImageError: sizes differ.
    """
    sizes = {image.size for image in images}
    if len(sizes) != 1:
        raise ImageError(
            f"pictures of {len(sizes)} sizes in one batch ({sorted(sizes)})", "Bring them to one size first"
        )
    pixels = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def to_images(x: Float[Tensor, "b 3 h w"]) -> list[Image.Image]:
    """A tensor in [-1, 1], clamped, as pictures with values rounded to 0..255: the inverse of `to_tensor`."""
    pixels = x.detach().float().add(1).mul(127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    return [Image.fromarray(row) for row in pixels.permute(0, 2, 3, 1).contiguous().numpy()]


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]],
    labels: Sequence[str] | None = None,
    header: Sequence[str] | None = None,
) -> Image.Image:
    """Pictures in rows on white, with a wrapped label on the left of each row and a title above each column."""
    assert rows and any(rows), "a sheet of nothing"
    assert labels is None or len(labels) == len(rows), f"{len(labels or ())} labels for {len(rows)} rows"
    font = ImageFont.load_default(TEXT_SIZE)
    width = max(image.width for row in rows for image in row)
    left = LABEL_WIDTH + 2 * GAP if labels else GAP
    titles = [_wrap(title, font, width) for title in header or ()]
    top = GAP + max((_text_height(title) + GAP for title in titles), default=0)
    texts = [_wrap(label, font, LABEL_WIDTH) for label in labels or [""] * len(rows)]
    heights = [
        max([_text_height(text), *(image.height for image in row)]) for row, text in zip(rows, texts, strict=True)
    ]
    columns = max(len(titles), *(len(row) for row in rows))
    sheet = Image.new("RGB", (left + columns * (width + GAP), top + sum(heights) + GAP * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        pen.multiline_text((left + column * (width + GAP), GAP), title, "black", font)
    for row, text, height in zip(rows, texts, heights, strict=True):
        pen.multiline_text((GAP, top), text, "black", font)
        for column, image in enumerate(row):
            sheet.paste(image, (left + column * (width + GAP), top))
        top += height + GAP
    return sheet


def save_png(image: Image.Image, path: str | Path, parameters: Mapping[str, Any], *, source_type: str = EDITED) -> None:
    """Write a PNG, whole or not at all, that tells how it was made.

    It carries its parameters twice, as JSON under the key "ip2p" and as the text "parameters" that many viewers show,
    and an XMP mark that a trained model took part (IPTC digital source type).

    Args:
        image: RGB.
        path: ends in .png; its folder is made if missing.
        parameters: JSON values, such as {"instruction": "make it winter", "seed": 3}.
        source_type: EDITED or GENERATED.

    Raises:
        ImageError: another ending, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ImageError(f"cannot write {path}: pictures are written as PNG", "Give a name that ends in .png")
    text = PngImagePlugin.PngInfo()
    text.add_itxt("ip2p", json.dumps(dict(parameters), ensure_ascii=False))
    text.add_itxt("parameters", _readable(parameters))
    text.add_itxt(XMP_KEY, _xmp(source_type))
    stream = io.BytesIO()
    image.save(stream, "PNG", pnginfo=text)
    try:
        atomic_write(path, stream.getvalue())
    except OSError as error:
        raise ImageError(f"cannot write {path} ({error.strerror})", "Give another place with -o") from error


def read_parameters(path: str | Path) -> dict[str, Any]:
    """What `save_png` wrote into a picture.

    Raises:
        ImageError: not a PNG of ours.
    """
    data = _read(Path(path))
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            assert isinstance(image, PngImagePlugin.PngImageFile)
            parameters = json.loads(image.text["ip2p"])
    except Exception as error:  # see open_image
        raise ImageError(f"{path} carries no parameters", "Give a PNG that ip2p wrote") from error
    return dict(parameters)


def _read(path: Path) -> bytes:
    """The bytes of a file that may be a picture."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder", "Give a picture file in it")
        if not path.is_file():
            raise ImageError(f"there is no picture {path}", "Check the name")
        size = path.stat().st_size
        if size == 0:
            raise ImageError(f"{path} is empty", READABLE)
        if size > MAX_BYTES:
            raise ImageError(f"{path} has {size / 1e6:.0f} MB, more than {MAX_BYTES // 10**6}", SMALLER)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"cannot read {str(path)!r} ({reason})", "Check its name and permissions") from error


def _check_size(size: tuple[int, int], path: str | Path) -> None:
    short, long = sorted(size)
    if short * long > MAX_PIXELS:
        raise ImageError(
            f"{path} has {short * long / 1e6:.0f} million pixels, more than {MAX_PIXELS // 10**6}", SMALLER
        )
    if short == 0 or long > MAX_ASPECT * short:
        raise ImageError(f"{path} is {size[0]} x {size[1]} pixels, longer than {MAX_ASPECT} : 1", "Crop it first")


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says; as it lies where the EXIF is unreadable."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a picture is worth more than its metadata
        return image


def _wrap(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """Text broken between words where a line would be wider than `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _text_height(text: str) -> int:
    """Pixels that wrapped text takes from top to bottom, line gaps included."""
    return (text.count("\n") + 1) * (TEXT_SIZE + 4) if text else 0


def _readable(parameters: Mapping[str, Any]) -> str:
    """Parameters as the text that viewers of generated pictures know: the prompt, then `Name: value` pairs."""
    prompt = str(parameters.get("instruction", parameters.get("caption", "")))
    known = {"steps": "Steps", "scheduler": "Sampler", "text_scale": "CFG scale", "image_scale": "Image CFG scale"}
    others = {key: value for key, value in parameters.items() if key not in ("instruction", "caption")}
    listed = (f"{known.get(key, key.replace('_', ' ').capitalize())}: {value}" for key, value in others.items())
    return "\n".join(filter(None, (prompt, ", ".join(listed))))


def _xmp(source_type: str) -> str:
    """An XMP packet with nothing but the digital source type."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f"Iptc4xmpExt:DigitalSourceType={quoteattr(SOURCE_TYPES + source_type)}/>"
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )
