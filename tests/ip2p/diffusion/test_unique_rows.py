"""Equal rows are computed once, and nothing else changes."""

from functools import partial
from pathlib import Path

import pytest
import torch

from ip2p.conditioning import Conditioning
from ip2p.diffusion.text_cache import TextCache
from ip2p.diffusion.unique_rows import UniqueRows
from ip2p.models.backbone import Backbone, load_backbone

STEP = torch.tensor(300)


@pytest.fixture(scope="module")
def backbone(base_folder: Path) -> Backbone:
    """Load the tiny base model."""
    return load_backbone(base_folder)


def in_all(same_as: list[int | None], branches: int) -> list[int | None]:
    """The same rows are equal in every branch."""
    size = range(0, branches * len(same_as), len(same_as))
    return [None if first is None else start + first for start in size for first in same_as]


@torch.inference_mode()
def test_predictions_are_those_of_all_rows(backbone: Backbone) -> None:
    """Over two branches, with cached texts, while rows part and others are not needed any more."""
    torch.manual_seed(1)
    x, text = torch.randn(4, 4, 8, 8), backbone.encode_text(["barn", "night", "barn", "night"])
    x[2], x[3] = x[0], x[1]
    x, text = torch.cat([x, x]), Conditioning(torch.cat([text.tokens, 0.5 * text.tokens]))
    now: list[int | None] = []
    expected = backbone.predict(x, STEP, text)
    with TextCache(backbone.predict, backbone.unet) as predict:
        unique = UniqueRows(predict, lambda branches: in_all(now or [0, 1, 2, 3], branches))
        for same_as, rows in (
            ([0, 1, 0, 1], 2), ([0, 1, 0, 3], 3), ([None, 1, 2, 1], 2), ([0, 1, 2, 3], 4), ([None] * 4, 0),
        ):  # fmt: skip
            now, before = list(same_as), sum(unique.rows_each)
            for _ in range(2):
                predicted = unique(x, STEP, text)
                needed = torch.tensor([each is not None for each in same_as] * 2)
                assert torch.allclose(predicted[needed], expected[needed], atol=1e-5)
                assert not predicted[~needed].any()
            assert sum(unique.rows_each) - before == 2 * 2 * rows
    assert unique.rows_each == [12, 16, 8, 8]


def test_rows_that_are_no_whole_branches_are_refused(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="5 rows"):
        UniqueRows(backbone.predict, partial(in_all, [0, 1]))(torch.randn(5, 4, 8, 8), STEP, backbone.encode_text([""]))
