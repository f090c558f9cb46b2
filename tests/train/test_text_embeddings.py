"""Embeddings of a frozen text encoder: equal to its own, once for each text, and on disk."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ip2p.models.backbone import Backbone, load_backbone
from ip2p.train.latent_cache import CacheDtype
from ip2p.train.ranks import Ranks
from ip2p.train.text_embeddings import FrozenText

TEXTS = ["make it winter", "", "add a rainbow", "make it winter"]


@pytest.fixture(scope="module")
def backbone(tiny_base: Path) -> Backbone:
    return load_backbone(tiny_base)


def expected(backbone: Backbone) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = backbone.text_encoder(backbone.tokenize(TEXTS))[0]
    return found


def calls_of(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the number of texts of each call of the text encoder."""
    seen: list[int] = []
    forward = backbone.text_encoder.forward

    def counted(tokens: torch.Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(len(tokens))
        return forward(tokens, *rest, **more)

    monkeypatch.setattr(backbone.text_encoder, "forward", counted)
    return seen


def test_the_empty_prompt_is_embedded_once(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_of(backbone, monkeypatch)
    text = FrozenText(backbone)
    torch.testing.assert_close(text(TEXTS), expected(backbone), atol=1e-5, rtol=1e-5)
    calls.clear()
    text(["", ""])
    text(["", "make it night"])
    assert calls == [1]


@pytest.mark.parametrize(("dtype", "bound"), [("fp32", 1e-6), ("fp16", 2e-3)])
def test_texts_on_disk_are_not_embedded_again(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: CacheDtype, bound: float
) -> None:
    said: list[str] = []
    for _ in range(2):
        text = FrozenText(backbone)
        calls = calls_of(backbone, monkeypatch)
        text.cache(TEXTS, tmp_path, dtype=dtype, limit=10**6, ranks=Ranks(), say=said.append)
        torch.testing.assert_close(text(TEXTS), expected(backbone), atol=bound, rtol=bound)
    assert calls == [4]  # of `expected` alone
    assert "2 instructions" in said[0] and str(tmp_path) in said[0]


def test_texts_that_would_take_too_much_are_embedded_each_time(backbone: Backbone, tmp_path: Path) -> None:
    said: list[str] = []
    text = FrozenText(backbone)
    text.cache(TEXTS, tmp_path, dtype="fp16", limit=100, ranks=Ranks(), say=said.append)
    assert "at each step" in said[0] and not list(tmp_path.iterdir())
    torch.testing.assert_close(text(TEXTS), expected(backbone), atol=1e-5, rtol=1e-5)
