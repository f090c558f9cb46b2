"""A widened UNet is the base UNet until it learns."""

from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from hypothesis import given, settings
from hypothesis import strategies as st

from ip2p.errors import ModelError
from ip2p.models.backbone import load_backbone
from ip2p.models.widen import suit_attention, widen_conv_in


@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(0, 40), rows=st.integers(1, 4), seed=st.integers(0, 1000), loud=st.sampled_from([0.0, 1.0, 1e4])
)
def test_widened_is_the_base_bit_for_bit(base_folder: Path, size: int, rows: int, seed: int, loud: float) -> None:
    base, wide = load_backbone(base_folder).unet, widen_conv_in(load_backbone(base_folder).unet)
    chance = torch.Generator().manual_seed(seed)
    x, image = (torch.randn(rows, 4, size + 1, 9, generator=chance) for _ in range(2))
    text, timestep = torch.randn(rows, 16, 16, generator=chance), torch.tensor(seed)
    with torch.no_grad():
        expected = base(x, timestep, encoder_hidden_states=text).sample
        found = wide(torch.cat([x, loud * image], dim=1), timestep, encoder_hidden_states=text).sample
    assert torch.equal(found, expected)


def test_weight_and_bias_are_copied_and_the_config_tells(base_folder: Path) -> None:
    unet = load_backbone(base_folder).unet
    weight, bias = unet.conv_in.weight.clone(), unet.conv_in.bias.clone()
    assert bias.abs().min() > 0
    assert widen_conv_in(unet, extra=3) is unet
    assert torch.equal(unet.conv_in.weight[:, :4], weight) and torch.equal(unet.conv_in.bias, bias)
    assert unet.conv_in.weight[:, 4:].shape == (8, 3, 3, 3) and not unet.conv_in.weight[:, 4:].any()
    assert unet.config.in_channels == 7 == unet.conv_in.in_channels


def test_new_channels_learn(base_folder: Path) -> None:
    unet = widen_conv_in(load_backbone(base_folder).unet.requires_grad_(True))
    unet(torch.randn(1, 8, 8, 8), torch.tensor(3), encoder_hidden_states=torch.randn(1, 16, 16)).sample.sum().backward()
    assert unet.conv_in.weight.grad[:, 4:].abs().min() > 0


def test_an_editor_is_not_widened_again(editor_folder: Path) -> None:
    with pytest.raises(ModelError, match="8 channels and predicts 4.*already"):
        widen_conv_in(load_backbone(editor_folder).unet)


def test_attention_that_suits_the_cpu_computes_the_same(base_folder: Path) -> None:
    unet = load_backbone(base_folder).unet
    unet.requires_grad_(False)
    x, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 16)
    before = unet(x, torch.tensor(100), encoder_hidden_states=text).sample
    suit_attention(unet, torch.device("cuda"))
    assert {type(each) for each in unet.attn_processors.values()} == {AttnProcessor2_0}
    suit_attention(unet, torch.device("cpu"))
    assert {type(each) for each in unet.attn_processors.values()} == {AttnProcessor}
    assert torch.allclose(unet(x, torch.tensor(100), encoder_hidden_states=text).sample, before, atol=1e-5)
