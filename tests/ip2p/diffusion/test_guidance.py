"""Guidance against the formulas written out, the rows that it may leave out, and what a schedule holds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ip2p.conditioning import Conditioning
from ip2p.diffusion.guidance import Branches, DualGuidance, TextGuidance, UNetCall, combine
from ip2p.diffusion.guidance_cache import (
    CachedDifference,
    CachedDualGuidance,
    CachedTextGuidance,
    CacheSchedule,
)

SCALES = st.one_of(st.sampled_from([0.0, 1.0, 1.5, 7.5, -2.0]), st.floats(-20, 20))


def unet(rows: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
    """Any function in which picture, text and time do not simply add up."""
    x, condition = rows.chunk(2, dim=1) if rows.shape[1] == 8 else (rows, rows)
    words = text.tokens.mean((1, 2))[:, None, None, None]
    return torch.sin(x * words + timestep) + torch.cos(3 * condition - words) * x


def inputs(rows: int) -> tuple[Tensor, Tensor, Conditioning, Conditioning]:
    """Noisy latents, conditions, texts and the empty text."""
    chance = torch.Generator().manual_seed(rows)
    x, condition = (torch.randn(rows, 4, 3, 5, generator=chance, dtype=torch.float64) for _ in range(2))
    text, null = (torch.randn(count, 2, 6, generator=chance, dtype=torch.float64) for count in (rows, 1))
    return x, condition, Conditioning(text), Conditioning(null)


@settings(max_examples=80, deadline=None)
@given(text_scale=SCALES, image_scale=SCALES, rows=st.integers(1, 3))
def test_dual_guidance_is_its_formula_at_any_scales(text_scale: float, image_scale: float, rows: int) -> None:
    x, condition, text, null = inputs(rows)
    guided = DualGuidance(unet, condition, text, null, text_scale=text_scale, image_scale=image_scale)
    both = unet(torch.cat([x, condition], 1), torch.tensor(5), text)
    image = unet(torch.cat([x, condition], 1), torch.tensor(5), null.expand(len(text)))
    neither = unet(torch.cat([x, torch.zeros_like(x)], 1), torch.tensor(5), null.expand(len(text)))
    expected = neither + image_scale * (image - neither) + text_scale * (both - image)
    torch.testing.assert_close(guided(x, torch.tensor(5)), expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(combine(Branches(both, image, neither), text_scale, image_scale), expected)


@pytest.mark.parametrize(
    ("text_scale", "image_scale", "share"),
    [(7.5, 1.5, 3), (0.5, 0.2, 3), (7.5, 1.0, 2), (1.5, 1.5, 2), (0.0, 1.5, 2), (1.0, 1.0, 1), (0.0, 0.0, 1)],
)
def test_rows_that_cancel_are_not_computed(text_scale: float, image_scale: float, share: int) -> None:
    x, condition, text, null = inputs(2)
    seen = []

    def counting(rows: Tensor, timestep: Tensor, words: Conditioning) -> Tensor:
        seen.append(len(rows))
        return unet(rows, timestep, words)

    guided = DualGuidance(counting, condition, text, null, text_scale=text_scale, image_scale=image_scale)
    for _ in range(4):
        guided(x, torch.tensor(1))
    assert seen == [2 * share] * 4 and guided.rows == 8 * share


@pytest.mark.parametrize(("scale", "share"), [(4.0, 2), (-1.0, 2), (1.0, 1), (0.0, 1)])
def test_text_guidance_is_its_formula(scale: float, share: int) -> None:
    x, _, text, null = inputs(3)
    guided = TextGuidance(unet, text, null, scale=scale)
    neither = unet(x, torch.tensor(2), null.expand(len(text)))
    expected = neither + scale * (unet(x, torch.tensor(2), text) - neither)
    torch.testing.assert_close(guided(x, torch.tensor(2)), expected)
    assert guided.rows == 3 * share


def test_every_row_may_have_its_own_text_scale() -> None:
    x, _, text, null = inputs(3)
    scales = [0.0, 1.0, 6.0]
    together = TextGuidance(unet, text, null, scale=torch.tensor(scales))(x, torch.tensor(2))
    for row, scale in enumerate(scales):
        alone = TextGuidance(unet, text[row : row + 1], null, scale=scale)(x[row : row + 1], torch.tensor(2))
        torch.testing.assert_close(together[row : row + 1], alone)


def test_the_order_of_rows_is_text_and_image_then_image_then_neither() -> None:
    x, condition, text, null = inputs(2)
    rows: list[Tensor] = []
    keep: UNetCall = lambda x, t, words: (rows.extend([x, words.tokens]), x[:, :4])[1]  # noqa: E731
    DualGuidance(keep, condition, text, null, text_scale=7.5, image_scale=1.5)(x, torch.tensor(0))
    latents, words = rows
    assert torch.equal(latents[:, :4], torch.cat([x, x, x]))
    assert torch.equal(latents[:, 4:], torch.cat([condition, condition, torch.zeros_like(x)]))
    assert torch.equal(words, torch.cat([text.tokens, *[null.expand(len(text)).tokens] * 2]))


def latents(step: int) -> Tensor:
    """Other latents at every step, which change slowly."""
    x, *_ = inputs(3)
    return x * (1 - 0.03 * step)


def guided_by(schedule: CacheSchedule, text_scale: float, image_scale: float, steps: int = 8) -> tuple[Tensor, int]:
    """The last of some guided predictions, and the rows that they took."""
    _, condition, text, null = inputs(3)
    guided = CachedDualGuidance(
        unet, condition, text, null, text_scale=text_scale, image_scale=image_scale, schedule=schedule, timesteps=10
    )
    for step in range(steps):
        prediction = guided(latents(step), torch.tensor(9.0 - step))
    return prediction, guided.rows


@pytest.mark.parametrize(("text_scale", "image_scale"), [(7.5, 1.5), (7.5, 1.0), (1.5, 1.5), (0.0, 1.5), (-2.0, 0.3)])
def test_a_tolerance_that_nothing_passes_is_the_exact_sampler(text_scale: float, image_scale: float) -> None:
    _, condition, text, null = inputs(3)
    guided = DualGuidance(unet, condition, text, null, text_scale=text_scale, image_scale=image_scale, timesteps=10)
    for step in range(8):
        exact = guided(latents(step), torch.tensor(9.0 - step))
    assert guided_by(CacheSchedule(), text_scale, image_scale)[1] == guided.rows
    close, others = guided_by(CacheSchedule(tolerance=1e-300), text_scale, image_scale)
    torch.testing.assert_close(close, exact, rtol=0.0, atol=0.0)
    assert others == guided.rows


@pytest.mark.parametrize(
    ("scales", "schedule", "rows"),
    [
        ((7.5, 1.5), CacheSchedule(text_every=2), 8 + 8 + 8),  # the image difference takes both of its branches
        ((7.5, 1.5), CacheSchedule(image_every=2), 8 + 8 + 4),
        ((7.5, 1.5), CacheSchedule(text_every=2, image_every=4), 8 + 4 + 2),
        ((7.5, 1.0), CacheSchedule(text_every=3, image_every=1), 8 + 3),
        ((1.5, 1.5), CacheSchedule(text_every=1, image_every=4), 8 + 2),
        ((7.5, 1.5), CacheSchedule(stop=0.55), 8 + 5 + 5),
    ],
)
def test_a_schedule_computes_differences_at_its_steps(
    scales: tuple[float, float], schedule: CacheSchedule, rows: int
) -> None:
    assert guided_by(schedule, *scales)[1] == 3 * rows


def test_held_differences_are_those_of_their_step() -> None:
    _, condition, text, null = inputs(3)
    held, last = guided_by(CacheSchedule(text_every=3, image_every=3), 7.5, 1.5)[0], 6
    now, then = (torch.cat([latents(step), condition], 1) for step in (7, last))
    full = unet(now, torch.tensor(2.0), text)
    time, blank = torch.tensor(9.0 - last), null.expand(len(text))
    both, image = unet(then, time, text), unet(then, time, blank)
    neither = unet(torch.cat([latents(last), torch.zeros_like(condition)], 1), time, blank)
    torch.testing.assert_close(held, full + 6.5 * (both - image) + 0.5 * (image - neither))


def test_a_picture_keeps_its_own_schedule_in_any_batch() -> None:
    _, condition, text, null = inputs(3)
    schedule = CacheSchedule(tolerance=0.5, extrapolate=0.5)

    def run(rows: slice) -> Tensor:
        guided = CachedDualGuidance(
            unet, condition[rows], text[rows], null, text_scale=4.0, image_scale=1.5, schedule=schedule
        )
        for step in range(12):
            made = guided(latents(step)[rows], torch.tensor(12.0 - step))
        assert guided.rows < 3 * 12 * len(made), "nothing was held"
        return made

    together = run(slice(0, 3))
    for row in range(3):
        torch.testing.assert_close(run(slice(row, row + 1))[0], together[row])


def test_a_trend_that_goes_on_is_foreseen() -> None:
    held = CachedDifference(2, torch.tensor(1.0), CacheSchedule(text_every=2, extrapolate=1.0))
    start, slope, every = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.tensor([True, True])
    for step in (0, 2):
        held.refresh(step, every, start + step * slope, torch.ones(2))
    torch.testing.assert_close(held.at(3), start + 3 * slope)


def test_outside_the_interval_there_is_the_full_branch_alone() -> None:
    x, condition, text, null = inputs(3)
    guided = DualGuidance(
        unet, condition, text, null, text_scale=7.5, image_scale=1.5, interval=(0.2, 0.6), timesteps=10
    )
    for step, rows in ((9, 1), (7, 3), (5, 3), (3, 1)):
        before = guided.rows
        prediction = guided(x, torch.tensor(float(step)))
        assert guided.rows - before == 3 * rows
        if rows == 1:
            assert torch.equal(prediction, unet(torch.cat([x, condition], 1), torch.tensor(float(step)), text))


def test_rescaling_gives_the_spread_of_the_full_branch() -> None:
    x, condition, text, null = inputs(3)
    spreads = [
        DualGuidance(unet, condition, text, null, text_scale=7.5, image_scale=1.5, rescale=share)(x, torch.tensor(5))
        .flatten(1).std(dim=1)
        for share in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    torch.testing.assert_close(spreads[2], unet(torch.cat([x, condition], 1), torch.tensor(5), text).flatten(1).std(1))
    torch.testing.assert_close(spreads[1], (spreads[0] + spreads[2]) / 2)


def test_a_caption_can_be_cached_too() -> None:
    _, _, text, null = inputs(3)
    scales = torch.tensor([1.0, 4.0, 7.5], dtype=torch.float64)
    guided = CachedTextGuidance(unet, text, null, scale=scales, schedule=CacheSchedule(text_every=4))
    for step in range(8):
        made = guided(latents(step), torch.tensor(9.0 - step))
    assert guided.rows == 3 * (8 + 2)
    change = [unet(latents(4), torch.tensor(5.0), words) for words in (text, null.expand(3))]
    expected = unet(latents(7), torch.tensor(2.0), text) + (scales - 1)[:, None, None, None] * (change[0] - change[1])
    torch.testing.assert_close(made, expected)
