"""Deep features are those of the last whole call, and nothing is left behind."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from ip2p.conditioning import Conditioning
from ip2p.diffusion.feature_cache import FeatureCache
from ip2p.models.backbone import Backbone, load_backbone


@pytest.fixture(params=["editor_folder", "sd_editor_folder", "xl_editor_folder", "no attention outside"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    """Editors of every family, and one whose outermost blocks have no attention."""
    plain = request.param == "no attention outside"
    folder: Path = request.getfixturevalue("editor_folder" if plain else request.param)
    made = load_backbone(folder)
    if plain:
        kinds: dict[str, Any] = {
            "down_block_types": ("DownBlock2D", *made.unet.config.down_block_types[1:]),
            "up_block_types": (*made.unet.config.up_block_types[:-1], "UpBlock2D"),
        }
        made.unet = UNet2DConditionModel.from_config({**made.unet.config, **kinds}).eval()
    return made


def inputs(backbone: Backbone, rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    """What guidance gives to a UNet."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 2 * backbone.latent_channels, 8, 8, generator=rng)
    return x, torch.tensor(500), backbone.encode_text(["make it winter"] * rows)


@torch.no_grad()
def test_a_light_call_runs_the_outermost_layers_on_what_was_kept(backbone: Backbone) -> None:
    unet, calls = backbone.unet, []
    watched = {
        "first": unet.conv_in, "down": unet.down_blocks[0].resnets[0], "middle": unet.mid_block.resnets[0],
        "up": unet.up_blocks[-1].resnets[-2], "last": unet.up_blocks[-1].resnets[-1],
    }  # fmt: skip
    for name, module in watched.items():
        inner = module.conv1 if hasattr(module, "conv1") else module
        inner.register_forward_hook(lambda *_, name=name: calls.append(name))
    given, other = inputs(backbone, 3, 1), inputs(backbone, 2, 2)
    expected, alone = backbone.predict(*given), backbone.predict(*other)
    calls.clear()
    with FeatureCache(backbone.predict, unet, every=3) as predict:
        whole = predict(*given)
        assert calls == ["first", "down", "middle", "up", "last"]
        calls.clear()
        light = predict(given[0][:2], given[1], given[2][:2])
        assert calls == ["first", "last"]
        assert torch.equal(whole, expected) and torch.allclose(light, expected[:2], atol=1e-6)
        assert not torch.allclose(predict(*other), alone, atol=1e-4), "it sees these latents through features of others"
        calls.clear()
        assert torch.equal(predict(*other), alone) and len(calls) == 5, "the fourth call is a whole one again"
        predict(*given)
        assert len(calls) == 10, "more rows than were kept"
    assert torch.equal(backbone.predict(*other), alone)
    assert not any("forward" in module.__dict__ for module in unet.modules())


@torch.no_grad()
def test_an_interval_of_one_replaces_nothing(backbone: Backbone) -> None:
    with FeatureCache(backbone.predict, backbone.unet, every=1) as predict:
        assert not any("forward" in module.__dict__ for module in backbone.unet.modules())
        assert torch.equal(predict(*inputs(backbone, 2, 1)), backbone.predict(*inputs(backbone, 2, 1)))
