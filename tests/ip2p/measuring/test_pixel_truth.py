"""Pixel truth: against plain numpy, on edits of which the right figures are known, and on rows that have none."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from ip2p.measuring.pixel_truth import THRESHOLDS, PixelTruth, color_difference, pixel_truth, to_lab
from ip2p.pictures.tensors import to_tensor
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.render import render

Array = npt.NDArray[np.float64]


def world(count: int, seed: int = 3) -> tuple[Tensor, Tensor]:
    cases = evaluation_cases(count, seed)
    return tuple((to_tensor([render(each) for each in scenes]) + 1) / 2 for scenes in (
        [case.scene for case in cases], [case.target for case in cases],
    ))  # type: ignore[return-value]  # fmt: skip


@pytest.fixture(scope="module")
def scenes() -> tuple[Tensor, Tensor]:
    return world(12)


def plain_lab(x: Array) -> Array:
    """CIELAB of (h, w, 3), written from the standard."""
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = linear @ np.array(matrix).T / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def plain_truth(source: Array, target: Array, edited: Array, t: float) -> tuple[float, float, float, float]:
    """Accuracy, nearer, preservation and IoU, pixel by pixel."""
    s, y, e = (plain_lab(each).reshape(-1, 3) for each in (source, target, edited))
    hits = near = kept = both = either = asked = 0
    for a, b, c in zip(s, y, e, strict=True):
        change, right, moved = np.linalg.norm(a - b) > t, np.linalg.norm(c - b) <= t, np.linalg.norm(c - a) > t
        asked += change
        hits += change and right
        near += change and np.linalg.norm(c - b) < np.linalg.norm(c - a)
        kept += not change and not moved
        both += change and moved and right
        either += change or moved
    return hits / asked, near / asked, kept / (len(s) - asked), both / either


def test_equal_to_plain_numpy() -> None:
    rng = np.random.default_rng(0)
    source = rng.random((12, 9, 3))
    target, edited = source.copy(), source + rng.normal(0, 0.004, source.shape)
    target[3:8, 2:7] = rng.random((5, 5, 3))
    edited[3:8, 2:6] = target[3:8, 2:6] + rng.normal(0, 0.004, (5, 4, 3))
    edited = edited.clip(0, 1)
    found = pixel_truth(*(torch.from_numpy(each).permute(2, 0, 1) for each in (source, target, edited)))
    for column, t in enumerate(THRESHOLDS):
        accuracy, nearer, preservation, iou = plain_truth(source, target, edited, t)
        assert 0 < iou < 1
        assert found.accuracy[0, column].item() == pytest.approx(accuracy, abs=1e-12)
        assert found.nearer[0, column].item() == pytest.approx(nearer, abs=1e-12)
        assert found.preservation[0, column].item() == pytest.approx(preservation, abs=1e-12)
        assert found.iou[0, column].item() == pytest.approx(iou, abs=1e-12)
    light = plain_lab(edited)[..., 0], plain_lab(target)[..., 0]
    energies = [
        np.mean((g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]) ** 2) for g in light
    ]
    assert found.sharpness.item() == pytest.approx(energies[0] / energies[1], rel=1e-9)


@pytest.mark.parametrize(
    ("color", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
    ],
)
def test_colors_have_their_published_values(color: tuple[float, ...], lab: tuple[float, ...]) -> None:
    x = torch.tensor(color, dtype=torch.float64).view(3, 1, 1)
    assert to_lab(x).flatten().tolist() == pytest.approx(lab, abs=0.02)


def test_copies_and_exact_targets_have_the_bounds(scenes: tuple[Tensor, Tensor]) -> None:
    source, target = scenes
    copy, exact = pixel_truth(source, target, source), pixel_truth(source, target, target)
    assert copy.faults == exact.faults == (None,) * 12
    for found, share in ((copy, 0), (exact, 1)):
        measured = ~found.iou.isnan()
        assert measured.any(1).all()
        assert (found.accuracy[measured] == share).all() and (found.iou[measured] == share).all()
        assert (found.nearer[measured] == share).all()
        assert (found.preservation[~found.preservation.isnan()] == 1).all()
    assert (copy.score == 0).all() and (exact.score == 1).all() and (exact.sharpness == 1).all()


def test_a_shift_by_two_pixels_is_punished(scenes: tuple[Tensor, Tensor]) -> None:
    source, target = scenes
    found = pixel_truth(source, target, target.roll(2, dims=3))
    assert found.score.max() < 0.9 and found.score.mean() < 0.75
    assert found.mean_preservation.nanmean() < 0.9
    less = pixel_truth(source, target, target.roll(1, dims=3))
    assert (less.score > found.score).all()


def test_mush_is_punished_and_told_by_its_sharpness(scenes: tuple[Tensor, Tensor]) -> None:
    source, target = scenes
    mush = torch.nn.functional.avg_pool2d(target, 9, 1, 4, count_include_pad=False)
    found = pixel_truth(source, target, mush)
    assert found.sharpness.max() < 0.2 and found.score.mean() < 0.6


def test_another_change_lowers_preservation_and_the_score_but_not_accuracy() -> None:
    source = torch.full((3, 20, 20), 0.5)
    target, edited = source.clone(), source.clone()
    target[0, :10] = 1
    edited[0, :15] = 1
    found = pixel_truth(source, target, edited)
    assert found.mean_accuracy.item() == 1 and found.mean_preservation.item() == 0.5
    assert found.score.item() == pytest.approx(2 / 3) and found.changed[0].tolist() == [0.5] * 10


def test_half_of_the_way_is_right_only_where_it_is_tolerated() -> None:
    source, target = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    target[:, :4] = 0.2
    off = color_difference(to_lab(target), to_lab(target / 2))[0, 0].item()
    found = pixel_truth(source, target, target / 2, thresholds=(off * 0.9, off * 1.1))
    assert found.accuracy.tolist() == [[0, 1]]


def test_a_change_that_is_not_exact_is_nearer_to_the_target() -> None:
    source, target = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    target[0, :4] = 1
    found = pixel_truth(source, target, 0.8 * target)
    assert found.mean_accuracy.item() == 0 and found.mean_nearer.item() == 1
    assert pixel_truth(source, target, 0.2 * target).mean_nearer.item() == 0


def test_thresholds_at_which_nothing_changes_are_left_out() -> None:
    source = torch.full((3, 8, 8), 0.5)
    target = source.clone()
    target[:, 0] = 0.55  # about 5 dE
    found = pixel_truth(source, target, target)
    assert found.iou[0, :4].tolist() == [1] * 4 and found.iou[0, 6:].isnan().all()
    assert found.score.item() == 1 and found.preservation[0].tolist() == [1] * 10


def test_where_everything_changes_there_is_no_preservation() -> None:
    found = pixel_truth(torch.zeros(3, 8, 8), torch.ones(3, 8, 8), torch.ones(3, 8, 8))
    assert found.score.item() == 1 and found.mean_preservation.isnan().all() and found.sharpness.isnan().all()


def without_figures(found: PixelTruth, row: int) -> bool:
    return all(math.isnan(each[row]) for each in (found.score, found.mean_accuracy, found.mean_preservation,
                                                   found.sharpness))  # fmt: skip


def test_rows_that_cannot_be_measured_are_counted_and_have_no_figures() -> None:
    plain, other = torch.full((3, 8, 8), 0.5), torch.zeros(3, 8, 8)
    broken = other.clone()
    broken[1, 2, 3] = float("nan")
    sources = [plain, plain, plain, plain, plain]
    targets = [other, other, plain, other, plain]
    found = pixel_truth(sources, targets, [other, broken, other, torch.zeros(3, 8, 9), broken / 0])
    assert found.faults == (None, "not finite", "nothing changes", "sizes differ", "not finite")
    assert found.count_faults() == {"not finite": 2, "sizes differ": 1, "nothing changes": 1}
    assert found.score[0].item() == 1 and all(without_figures(found, row) for row in range(1, 5))


def test_rows_do_not_depend_on_the_batch(scenes: tuple[Tensor, Tensor]) -> None:
    source, target = (each[:3, :, ::4, ::4] for each in scenes)
    edited = (source + target) / 2
    whole = pixel_truth(source, target, edited)
    rows = [pixel_truth(*row) for row in zip(source, target, edited, strict=True)]
    assert torch.equal(
        whole.iou,
        torch.cat([row.iou for row in rows]),
    )
    assert pixel_truth([], [], []).score.shape == (0,)


def test_another_range_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"not in \[0, 1\]"):
        pixel_truth(torch.zeros(3, 4, 4), torch.ones(3, 4, 4), -torch.ones(3, 4, 4))
