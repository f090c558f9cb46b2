"""Masks show what an edit has changed, and no noise."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ip2p.data_gen.pairs.edit_mask import edit_mask
from ip2p.editing.changes import visible_pixels, visible_share
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.render import exact_mask, render


def test_a_changed_square_is_the_mask() -> None:
    noise = np.random.default_rng(0)
    before = Image.fromarray(noise.integers(0, 255, (128, 128, 3), np.uint8))
    grainy = np.clip(np.asarray(before).astype(int) + noise.integers(-3, 4, (128, 128, 3)), 0, 255).astype(np.uint8)
    after = Image.fromarray(grainy)
    ImageDraw.Draw(after).rectangle((30, 40, 70, 90), "white")
    ImageDraw.Draw(before).rectangle((30, 40, 70, 90), "black")
    mask = np.asarray(edit_mask(before, after)) > 0
    square = np.zeros((128, 128), bool)
    square[40:91, 30:71] = True
    assert (mask & square).sum() / (mask | square).sum() > 0.9
    assert not edit_mask(after, after).getbbox()


@pytest.mark.parametrize("number", range(12))
def test_masks_of_exact_edits_cover_what_differs(number: int) -> None:
    case = evaluation_cases(12, seed=8)[number]
    before, after = (render(scene).convert("RGB") for scene in (case.scene, case.target))
    differs = np.abs(np.asarray(before, int) - np.asarray(after, int)).max(-1) > 40
    mask = np.asarray(edit_mask(before, after)) > 0
    assert (mask & differs).sum() >= 0.97 * differs.sum()
    seen = visible_pixels(before, after)
    assert not (mask & ~seen).any() and visible_share(before, after) == pytest.approx(seen.mean(), abs=1e-6)
    exact = np.asarray(exact_mask(case.scene, case.target)) > 0
    assert (exact == (np.asarray(before) != np.asarray(after)).any(-1)).all()
    assert (mask & exact).sum() >= 0.8 * mask.sum()


def test_the_mask_is_narrower_than_what_the_score_counts() -> None:
    before = Image.new("RGB", (128, 128), "gray")
    after = before.copy()
    ImageDraw.Draw(after).rectangle((40, 40, 79, 79), "white")
    share = visible_share(before, after)
    assert (40 / 128) ** 2 < (np.asarray(edit_mask(before, after)) > 0).mean() < (43 / 128) ** 2 < share
    assert share < (50 / 128) ** 2
