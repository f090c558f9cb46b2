"""Texts are read once, and what is remembered is what would be computed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ip2p import Editor
from ip2p.diffusion.text_cache import TextCache
from ip2p.models.backbone import Backbone, load_backbone


@pytest.fixture(params=["editor_folder", "sd_editor_folder", "xl_editor_folder"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    folder: Path = request.getfixturevalue(request.param)
    return load_backbone(folder)


@torch.no_grad()
def test_results_are_equal_to_the_bit_and_texts_read_once(backbone: Backbone) -> None:
    texts = [backbone.encode_text(["make it winter", "make it night"]), backbone.encode_text(["winter", "night"])]
    shape = (2, 2, 2 * backbone.latent_channels, 8, 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    step = torch.tensor(500)
    expected = [backbone.predict(x, step, text) for text in texts for x in noise]
    layers = [module.to_k for name, module in backbone.unet.named_modules() if name.endswith("attn2")]
    calls = count_calls(layers)
    with TextCache(backbone.predict, backbone.unet) as predict:
        made = [predict(x, step, text) for text in texts for x in noise] + [predict(noise[0], step, texts[0])]
    assert layers and calls == {layer: len(texts) for layer in layers}
    assert all(torch.equal(*pair) for pair in zip(made, [*expected, expected[0]], strict=True))
    assert torch.equal(backbone.predict(noise[0], step, texts[0]), expected[0])
    assert calls == {layer: len(texts) + 1 for layer in layers}, "what stood there before stands there again"


@torch.no_grad()
def test_texts_that_are_not_remembered_any_more_are_read_again(backbone: Backbone) -> None:
    x, step = torch.randn(1, 2 * backbone.latent_channels, 8, 8), torch.tensor(500)
    texts = [backbone.encode_text([word]) for word in ("make", "it", "winter")]
    expected = [backbone.predict(x, step, text) for text in texts]
    layer = next(module.to_v for name, module in backbone.unet.named_modules() if name.endswith("attn2"))
    calls = count_calls([layer])
    with TextCache(backbone.predict, backbone.unet, max_batches=2) as predict:
        for place, read in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4)):
            assert torch.equal(predict(x, step, texts[place]), expected[place]) and calls[layer] == read


def count_calls(layers: list[Any]) -> dict[Any, int]:
    """How often each layer computes from now on."""
    calls = dict.fromkeys(layers, 0)

    def counted(layer: Any) -> Any:
        forward = layer.forward

        def run(x: torch.Tensor) -> Any:
            calls[layer] += 1
            return forward(x)

        return run

    for layer in layers:
        layer.forward = counted(layer)
    return calls


def test_an_edit_leaves_nothing_behind(editor_folder: Path) -> None:
    editor = Editor.from_pretrained(str(editor_folder), device="cpu")
    for preset in ("exact", "balanced"):
        editor.edit(Image.new("RGB", (32, 32)), "make it winter", steps=2, preset=preset)
        assert not any("forward" in vars(module) for module in editor.backbone.unet.modules())
