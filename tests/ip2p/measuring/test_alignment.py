"""Shifts between the pictures of a pair, planted in storybook scenes and their exact edits."""

import io
import math
import random

import numpy as np
import pytest
from PIL import Image

from ip2p.measuring.alignment import find_shift
from ip2p.storybook.edits import Case, evaluation_cases
from ip2p.storybook.render import render

MARGIN = 4


def pair(case: Case) -> tuple[Image.Image, Image.Image]:
    """Draw a scene and its exact edit."""
    return render(case.scene).convert("RGB"), render(case.target).convert("RGB")


def move(image: Image.Image, x: float, y: float, resampling: Image.Resampling) -> Image.Image:
    """Move the content of a picture; what comes in from outside is a mirror image."""
    pixels = np.pad(np.asarray(image), ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="reflect")
    wide = Image.fromarray(pixels)
    moved = wide.transform(wide.size, Image.Transform.AFFINE, (1, 0, -x, 0, 1, -y), resampling)
    return moved.crop((MARGIN, MARGIN, MARGIN + image.width, MARGIN + image.height))


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.5, 0.0), (-3.0, 1.0), (2.25, -0.75)])
def test_a_shift_is_measured(x: float, y: float) -> None:
    before, after = pair(evaluation_cases(1, seed=3)[0])
    found = find_shift(before, move(after, x, y, Image.Resampling.BICUBIC))
    assert abs(found.x - x) < 0.15 and abs(found.y - y) < 0.15 and found.agreement > 0.1


def test_a_copy_agrees_and_noise_does_not() -> None:
    before, _ = pair(evaluation_cases(1, seed=4)[0])
    assert find_shift(before, before).agreement > 0.99
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    assert find_shift(before, Image.fromarray(noise)).agreement < 0.05


def test_contrast_and_colors_do_not_matter() -> None:
    before, _ = pair(evaluation_cases(1, seed=5)[0])
    dark = before.point(lambda value: 200 - value // 2)
    assert find_shift(before, dark).length < 0.1


@pytest.mark.slow
def test_half_a_pixel_is_found_in_99_of_100_edits_and_nothing_where_nothing_moved() -> None:
    """Threshold of `ip2p dataset check`; half of the moved pictures are JPEG, too."""
    rng, found, clean = random.Random(1), 0, 0
    cases = evaluation_cases(200, seed=11)
    for case in cases:
        before, after = pair(case)
        angle = rng.uniform(0, math.tau)
        resampling = rng.choice([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
        moved = move(after, 0.5 * math.cos(angle), 0.5 * math.sin(angle), resampling)
        if rng.random() < 0.5:
            stream = io.BytesIO()
            moved.save(stream, "JPEG", quality=85)
            moved = Image.open(stream)
        planted, untouched = find_shift(before, moved), find_shift(before, after)
        found += planted.length >= 0.3 and planted.agreement >= 0.08
        clean += untouched.length < 0.3
    assert found >= 0.99 * len(cases) and clean >= 0.99 * len(cases)
