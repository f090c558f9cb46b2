"""Guidance against the formulas written out, and the rows that it may leave out."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ip2p.guidance import Branches, DualGuidance, TextGuidance, combine

SCALES = st.one_of(st.sampled_from([0.0, 1.0, 1.5, 7.5, -2.0]), st.floats(-20, 20))


def unet(rows: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    """Any function in which picture, text and time do not simply add up."""
    x, condition = rows.chunk(2, dim=1) if rows.shape[1] == 8 else (rows, rows)
    words = text.mean((1, 2))[:, None, None, None]
    return torch.sin(x * words + timestep) + torch.cos(3 * condition - words) * x


def inputs(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noisy latents, conditions, texts and the empty text."""
    chance = torch.Generator().manual_seed(rows)
    x, condition = (torch.randn(rows, 4, 3, 5, generator=chance, dtype=torch.float64) for _ in range(2))
    text = torch.randn(rows, 2, 6, generator=chance, dtype=torch.float64)
    return x, condition, text, torch.randn(1, 2, 6, generator=chance, dtype=torch.float64)


@settings(max_examples=80, deadline=None)
@given(text_scale=SCALES, image_scale=SCALES, rows=st.integers(1, 3))
def test_dual_guidance_is_its_formula_at_any_scales(text_scale: float, image_scale: float, rows: int) -> None:
    x, condition, text, null = inputs(rows)
    guided = DualGuidance(unet, condition, text, null, text_scale=text_scale, image_scale=image_scale)
    both = unet(torch.cat([x, condition], 1), torch.tensor(5), text)
    image = unet(torch.cat([x, condition], 1), torch.tensor(5), null.expand_as(text))
    neither = unet(torch.cat([x, torch.zeros_like(x)], 1), torch.tensor(5), null.expand_as(text))
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

    def counting(rows: Tensor, timestep: Tensor, words: Tensor) -> Tensor:
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
    neither = unet(x, torch.tensor(2), null.expand_as(text))
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
    keep: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda x, t, words: (rows.extend([x, words]), x[:, :4])[1]  # noqa: E731
    DualGuidance(keep, condition, text, null, text_scale=7.5, image_scale=1.5)(x, torch.tensor(0))
    latents, words = rows
    assert torch.equal(latents[:, :4], torch.cat([x, x, x]))
    assert torch.equal(latents[:, 4:], torch.cat([condition, condition, torch.zeros_like(x)]))
    assert torch.equal(words, torch.cat([text, null.expand_as(text), null.expand_as(text)]))
