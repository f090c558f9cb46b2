"""Measures of edited pictures that others have published, by their definitions, row by row.

MagicBrush (Zhang et al., 2023) compares with the exact picture: L1, L2, CLIP-I, DINO, CLIP-T. Emu Edit (Sheynin et al.,
2023) has no exact picture: CLIP_dir, CLIP_im, CLIP_out, L1, DINO. PIE-Bench (Ju et al., 2023) compares what is outside
of a mask: PSNR, MSE, SSIM, LPIPS, and the structure distance of the whole pictures. What should stay is also compared
over its own pixels alone, as CoCoEdit (Wu et al., 2026) proposes: PIE-Bench blackens the masked part and divides by all
pixels, so that a large mask looks like a good picture.

NaN is a figure that a row does not have: a picture, a text or a mask is missing, or both captions are equal, so that
the direction from one to the other is undefined. Edited pictures are brought to the size of what they are compared
with, bicubically, as MagicBrush does.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.dino import Dino
from ip2p.measuring.ranking import MIN_CHANGE
from ip2p.measuring.ssim import ssim
from ip2p.pictures.color import to_rgb

Pictures = Sequence[Image.Image | None]
Figures = dict[str, list[float]]
"""Figures of each row by the name of the measure."""
Lpips = Callable[[Float[Tensor, "1 3 h w"], Float[Tensor, "1 3 h w"]], float]
"""LPIPS of two pictures in [0, 1]."""

MAGIC_BRUSH = ("L1", "L2", "CLIP-I", "DINO", "CLIP-T")
EMU_EDIT = ("CLIP_dir", "CLIP_im", "CLIP_out", "L1", "DINO")
PIE_BENCH = ("structure distance", "PSNR", "LPIPS", "MSE", "SSIM")
KEPT = ("PSNR kept", "SSIM kept")
LPIPS_NEEDS = ("torchmetrics", "torchvision")
MAX_PSNR = 100.0
"""PSNR of equal pictures in dB, so that means stay finite; one level of one channel of a megapixel has 112."""


def magic_brush(
    edited: Sequence[Image.Image],
    targets: Pictures,
    captions: Sequence[str],
    *,
    clip: ClipScorer | None = None,
    dino: Dino | None = None,
) -> Figures:
    """Compare edits with exact pictures.

    Args:
        edited: edited pictures.
        targets: exact pictures.
        captions: texts that CLIP-T compares the edits with; its authors take descriptions of the edited part alone.
        clip: CLIP; its authors take ViT-B/32.
        dino: DINO; its authors take ViT-S/16.
    """
    figures = {
        "L1": [_distance(*pair, power=1) for pair in zip(edited, targets, strict=True)],
        "L2": [_distance(*pair, power=2) for pair in zip(edited, targets, strict=True)],
    }
    if clip:
        figures |= {
            "CLIP-I": _cosines(clip.embed_images, edited, targets),
            "CLIP-T": _match_captions(clip, edited, captions),
        }
    if dino:
        figures["DINO"] = _cosines(dino.embed, edited, targets)
    return {name: figures[name] for name in MAGIC_BRUSH if name in figures}


def emu_edit(
    sources: Pictures,
    edited: Sequence[Image.Image],
    captions: Sequence[str],
    edited_captions: Sequence[str],
    *,
    clip: ClipScorer | None = None,
    dino: Dino | None = None,
) -> Figures:
    """Compare edits with their inputs and with captions.

    Args:
        sources: pictures before the edits.
        edited: edited pictures.
        captions, edited_captions: captions before and after the edits.
        clip: CLIP; others take ViT-B/32.
        dino: DINO; others take ViT-S/16.
    """
    figures = {"L1": [_distance(after, before, power=1) for before, after in zip(sources, edited, strict=True)]}
    if clip:
        rows = zip(sources, captions, edited_captions, strict=True)
        have_direction = [bool(s and a.strip() and b.strip() and a.strip() != b.strip()) for s, a, b in rows]
        figures |= {
            "CLIP_dir": _rows(
                have_direction, lambda k: _direction(clip, sources[k], edited[k], captions[k], edited_captions[k])
            ),
            "CLIP_im": _cosines(clip.embed_images, edited, sources),
            "CLIP_out": _match_captions(clip, edited, edited_captions),
        }
    if dino:
        figures["DINO"] = _cosines(dino.embed, edited, sources)
    return {name: figures[name] for name in EMU_EDIT if name in figures}


def pie_bench(
    sources: Pictures,
    edited: Sequence[Image.Image],
    masks: Pictures,
    *,
    dino: Dino | None = None,
    lpips: Lpips | None = None,
) -> Figures:
    """Compare what should stay with the input: masked parts are black in both, and count as pixels.

    Args:
        sources: pictures before the edits.
        edited: edited pictures.
        masks: gray pictures, white where the edit may change pixels.
        dino: DINO for the structure distance; its authors take ViT-B/8.
        lpips: LPIPS, see `find_lpips`.
    """
    triples = [_keep(*row) for row in zip(sources, edited, masks, strict=True)]
    blackened = [row and (row[0] * row[2][None, None], row[1] * row[2][None, None]) for row in triples]
    errors = [float((row[0] - row[1]).square().mean()) if row else math.nan for row in blackened]
    figures = {
        "PSNR": [psnr_of(error) for error in errors], "MSE": errors,
        "SSIM": [float(ssim(*row)) if row else math.nan for row in blackened],
    }  # fmt: skip
    if lpips:
        figures["LPIPS"] = [lpips(*row) if row else math.nan for row in blackened]
    if dino:
        figures["structure distance"] = _rows(
            [source is not None for source in sources],
            lambda k: dino.structure_distances([_picture(sources[k])], [edited[k]])[0],
        )
    return {name: figures[name] for name in PIE_BENCH if name in figures}


def kept_parts(sources: Pictures, edited: Sequence[Image.Image], masks: Pictures) -> Figures:
    """PSNR and SSIM of what should stay, over its own pixels alone.

    Args:
        sources: pictures before the edits.
        edited: edited pictures.
        masks: gray pictures, white where the edit may change pixels.
    """
    ratios, similarities = [], []
    for row in zip(sources, edited, masks, strict=True):
        found = _keep(*row)
        if found is None or not found[2].any():
            ratios.append(math.nan)
            similarities.append(math.nan)
            continue
        before, after, stays = found
        ratios.append(psnr_of(float((before - after).square()[:, :, stays].mean())))
        similarities.append(float(ssim(before, after, stays[None])))
    return dict(zip(KEPT, (ratios, similarities), strict=True))


def psnr_of(error: float) -> float:
    """PSNR in dB of a mean square error of pictures in [0, 1], at most MAX_PSNR; NaN of NaN."""
    return math.nan if math.isnan(error) else min(MAX_PSNR, -10 * math.log10(max(error, 1e-30)))


def missing_for_lpips() -> list[str]:
    """Name the packages that LPIPS needs and that are not here."""
    return [name for name in LPIPS_NEEDS if find_spec(name) is None]


def find_lpips() -> Lpips | None:
    """Load LPIPS with SqueezeNet, as PIE-Bench takes it; None without the packages that it needs."""
    if missing_for_lpips():
        return None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network: Any = LearnedPerceptualImagePatchSimilarity(net_type="squeeze", normalize=True).eval()
    return lambda x, y: float(network(x.float(), y.float()))


def count_undefined(figures: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """Count the rows without a figure by the name of the measure, of those that some row lacks."""
    counts = {name: sum(math.isnan(value) for value in values) for name, values in figures.items()}
    return {name: count for name, count in counts.items() if count}


def _rows(defined: Sequence[bool], measure: Callable[[int], float]) -> list[float]:
    """Measure each row for which it is defined."""
    return [measure(row) if each else math.nan for row, each in enumerate(defined)]


def _picture(image: Image.Image | None) -> Image.Image:
    assert image is not None
    return image


def _unit(image: Image.Image) -> Float[Tensor, "1 3 h w"]:
    """Convert a picture to [0, 1]; float64, so that sums of squares are exact to 1e-12."""
    return torch.from_numpy(np.asarray(to_rgb(image)).copy()).permute(2, 0, 1)[None].double() / 255


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else to_rgb(image).resize(size, Image.Resampling.BICUBIC)


def _distance(image: Image.Image, other: Image.Image | None, *, power: int) -> float:
    """Mean of the absolute or squared difference of two pictures in [0, 1]."""
    if other is None:
        return math.nan
    return float((_unit(_fit(image, other.size)) - _unit(other)).abs().pow(power).mean())


def _dot(x: Float[Tensor, "1 d"], y: Float[Tensor, "1 d"]) -> float:
    return float((x * y).sum().clamp(-1, 1))


def _cosines(
    embed: Callable[[Sequence[Image.Image]], Float[Tensor, "b d"]], images: Sequence[Image.Image], others: Pictures
) -> list[float]:
    """Cosines of the embeddings of pictures and of others, row by row."""
    pairs = zip(images, others, strict=True)
    return [math.nan if other is None else _dot(embed([image]), embed([other])) for image, other in pairs]


def _match_captions(clip: ClipScorer, images: Sequence[Image.Image], captions: Sequence[str]) -> list[float]:
    """CLIP similarities of pictures and their captions; NaN without a caption."""
    have_text = [bool(text.strip()) for text in captions]
    return _rows(have_text, lambda k: _dot(clip.embed_images([images[k]]), clip.embed_texts([captions[k]])))


def _direction(
    clip: ClipScorer, source: Image.Image | None, edited: Image.Image, caption: str, edited_caption: str
) -> float:
    """Cosine of the change of the picture and the change of the text; 0 for a picture that did not change."""
    images = clip.embed_images([_picture(source), edited])
    texts = clip.embed_texts([caption, edited_caption])
    if float((texts[1] - texts[0]).norm()) < MIN_CHANGE:
        return math.nan
    if float((images[1] - images[0]).norm()) < MIN_CHANGE:
        return 0.0
    return float(F.cosine_similarity(images[1] - images[0], texts[1] - texts[0], dim=0).clamp(-1, 1))


def _keep(
    source: Image.Image | None, edited: Image.Image, mask: Image.Image | None
) -> tuple[Float[Tensor, "1 3 h w"], Float[Tensor, "1 3 h w"], Bool[Tensor, "h w"]] | None:
    """Both pictures, and which pixels should stay; None without a mask of the picture's size."""
    if source is None or mask is None or mask.size != source.size:
        return None
    stays = torch.from_numpy(np.asarray(mask.convert("L")) < 128)
    return _unit(source), _unit(_fit(edited, source.size)), stays
