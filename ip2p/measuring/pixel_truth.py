"""Pixel truth: how near edited pictures come to their exact targets, pixel by pixel, without any network.

Colours are compared by CIE76, the Euclidean distance dE in CIELAB (D65). At each dE t, with source s, target y and
edited picture e:

    C            = pixels with dE(s, y) > t, those that the exact edit changes
    accuracy     = share of C with dE(e, y) <= t
    preservation = share of the others with dE(e, s) <= t
    nearer       = share of C with dE(e, y) < dE(e, s)
    IoU          = |C and changed and right| / |C or changed|, changed: dE(e, s) > t, right: dE(e, y) <= t

Where every change is of more than 2 t, this is the IoU of PaintBench (Xu et al., 2026). `nearer` is the lenient one: it
asks whether the change has happened, not whether it is exact; see docs/decisions.md for how far the eye agrees.
C has the same t as the tolerance, and not a fixed small one: a pixel that differs by less than what is tolerated would
be right in a copy of the input, and one that does not would be kept in the exact target. So at every t a copy has an
accuracy of 0, a preservation of 1 and an IoU of 0, and the exact target has 1, 1 and 1. Where C is empty at some t, or
is the whole picture, there is nothing to measure at this t, and means leave it out.

An edit of the right thing two pixels beside its place changes pixels outside of C and leaves some inside as they were,
which the IoU counts twice. A picture of the right colours without edges is told by its sharpness, the energy of the
Laplacian of the lightness against the target's.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

THRESHOLDS = tuple(float(each) for each in range(1, 11))
"""dE from about the least that the eye sees side by side to what it takes for another colour."""

Fault = Literal["not finite", "sizes differ", "nothing changes"]
"""Why a row has no figures: values that are no numbers, pictures of different sizes, an edit that changes nothing."""
FAULTS: tuple[Fault, ...] = get_args(Fault)
Pictures = Float[Tensor, "*b 3 h w"] | Sequence[Tensor]
"""Pictures in [0, 1] sRGB: one, a batch of one size, or a list of pictures (3, h, w) of any sizes."""

WHITE = (0.95047, 1.0, 1.08883)
"""XYZ of D65, for the 2 degree observer."""
TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""Linear sRGB to XYZ (IEC 61966-2-1)."""
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


class PixelTruth(NamedTuple):
    """Figures of edited pictures against their exact targets, a row for each; NaN where there is nothing to measure.

    Attributes:
        thresholds: the dE of the columns.
        accuracy, nearer, preservation, iou: shares in [0, 1] at each dE.
        changed: share of the pixels in C at each dE.
        sharpness: energy of the Laplacian against the target's: 1 as sharp, below it blurred, above it noisy.
        faults: why a row has no figures, or None.
    """

    thresholds: tuple[float, ...]
    accuracy: Float[Tensor, "b d"]
    nearer: Float[Tensor, "b d"]
    preservation: Float[Tensor, "b d"]
    iou: Float[Tensor, "b d"]
    changed: Float[Tensor, "b d"]
    sharpness: Float[Tensor, " b"]
    faults: tuple[Fault | None, ...]

    @property
    def mean_accuracy(self) -> Float[Tensor, " b"]:
        """Accuracy of each row, the mean over dE."""
        return self.accuracy.nanmean(1)

    @property
    def mean_nearer(self) -> Float[Tensor, " b"]:
        """Share of C that is nearer to the target than to the input, of each row, the mean over dE."""
        return self.nearer.nanmean(1)

    @property
    def mean_preservation(self) -> Float[Tensor, " b"]:
        """Preservation of each row, the mean over dE; NaN where the edit changes every pixel."""
        return self.preservation.nanmean(1)

    @property
    def score(self) -> Float[Tensor, " b"]:
        """Pixel truth as one number for each row: the mean of IoU over dE."""
        return self.iou.nanmean(1)

    def count_faults(self) -> dict[Fault, int]:
        """Count the rows without figures by reason."""
        found = Counter(fault for fault in self.faults if fault)
        return {fault: found[fault] for fault in FAULTS if found[fault]}


def pixel_truth(
    source: Pictures, target: Pictures, edited: Pictures, thresholds: Sequence[float] = THRESHOLDS
) -> PixelTruth:
    """Measure edited pictures against the inputs and the exact targets.

    It is computed on the CPU, in the precision of the pictures but at least float32, in which dE is true to 1e-4.

    Args:
        source: pictures before the edit, in [0, 1] sRGB.
        target: exact targets of the edits.
        edited: pictures that an editor made.
        thresholds: dE, each above 0.
    """
    assert thresholds and min(thresholds) > 0, f"thresholds {thresholds}"
    rows = list(zip(_rows(source), _rows(target), _rows(edited), strict=True))
    found = [_measure(*row, tuple(thresholds)) for row in rows]
    shares = torch.stack([each.shares for each in found]) if found else torch.empty(0, 5, len(thresholds))
    accuracy, nearer, preservation, iou, changed = shares.double().unbind(1)
    sharpness = torch.tensor([each.sharpness for each in found], dtype=torch.float64)
    faults = tuple(each.fault for each in found)
    return PixelTruth(tuple(thresholds), accuracy, nearer, preservation, iou, changed, sharpness, faults)


def to_lab(x: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """Convert sRGB in [0, 1] to CIELAB (D65): L from 0 to 100, a and b about -128 to 127."""
    linear = torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    white = x.new_tensor(WHITE).view(3, 1, 1)
    xyz = torch.einsum("ij,...jhw->...ihw", x.new_tensor(TO_XYZ), linear) / white
    curve = torch.where(xyz > (6 / 29) ** 3, xyz ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    first, second, third = curve.unbind(-3)
    return torch.stack([116 * second - 16, 500 * (first - second), 200 * (second - third)], dim=-3)


def color_difference(x: Float[Tensor, "*b 3 h w"], y: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b h w"]:
    """CIE76 dE of pictures in CIELAB, pixel by pixel."""
    return (x - y).square().sum(-3).sqrt()


def laplacian_energy(gray: Float[Tensor, "h w"]) -> float:
    """Mean square of the Laplacian of a picture in gray, of the pixels that have all four neighbours."""
    if min(gray.shape) < 3:
        return float("nan")
    return float(F.conv2d(gray[None, None], gray.new_tensor(LAPLACIAN)[None, None]).square().mean())


class _Row(NamedTuple):
    """Figures of one row: accuracy, nearer, preservation, IoU and share of C at each dE, and sharpness."""

    shares: Float[Tensor, "5 d"]
    sharpness: float
    fault: Fault | None


def _rows(pictures: Pictures) -> list[Tensor]:
    """Split a picture or a batch into pictures."""
    if isinstance(pictures, Tensor):
        return [pictures] if pictures.ndim == 3 else list(pictures)
    return list(pictures)


def _measure(source: Tensor, target: Tensor, edited: Tensor, thresholds: tuple[float, ...]) -> _Row:
    """Measure one picture."""
    nothing = torch.full((5, len(thresholds)), float("nan"), dtype=torch.float64)
    if not source.shape == target.shape == edited.shape:
        return _Row(nothing, float("nan"), "sizes differ")
    dtype = torch.float64 if edited.dtype == torch.float64 else torch.float32
    pictures = torch.stack([each.detach().to("cpu", dtype) for each in (source, target, edited)])
    if not pictures.isfinite().all():
        return _Row(nothing, float("nan"), "not finite")
    assert pictures.min() > -0.01 and pictures.max() < 1.01, "pictures are not in [0, 1]"
    before, exact, made = to_lab(pictures.clamp(0, 1))
    asked, off, moved = color_difference(before, exact), color_difference(made, exact), color_difference(made, before)
    shares = torch.stack([_shares(asked > each, off <= each, moved > each, off < moved) for each in thresholds], dim=1)
    if bool((shares[4] == 0).all()):
        return _Row(nothing, float("nan"), "nothing changes")
    energy = laplacian_energy(exact[0])
    return _Row(shares, laplacian_energy(made[0]) / energy if energy > 0 else float("nan"), None)


def _shares(
    asked: Bool[Tensor, "h w"], right: Bool[Tensor, "h w"], moved: Bool[Tensor, "h w"], near: Bool[Tensor, "h w"]
) -> Float[Tensor, "5"]:
    """Figures of one row at one dE, in the order of `_Row`: counts divided by counts, NaN where these are 0."""
    others, count = ~asked, float(asked.sum())
    accuracy, nearer = (float((asked & each).sum()) / count if count else float("nan") for each in (right, near))
    preservation = float((others & ~moved).sum()) / float(others.sum()) if others.any() else float("nan")
    iou = float((asked & moved & right).sum()) / float((asked | moved).sum()) if count else float("nan")
    return torch.tensor([accuracy, nearer, preservation, iou, count / asked.numel()], dtype=torch.float64)
