"""The choice of attention: by name, by length, or by the faster of real steps; results are the same."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from ip2p.errors import ConfigError
from ip2p.models.backbone import load_backbone
from ip2p.train import attention
from ip2p.train.attention import choose_attention, longest_sequence, require_attention, use_attention

CPU = torch.device("cpu")


@pytest.fixture
def unet(tiny_base: Path) -> Any:
    return load_backbone(tiny_base).unet


def processors(unet: Any) -> set[type]:
    return {type(each) for each in unet.attn_processors.values()}


def test_ways_give_the_same_prediction(unet: Any) -> None:
    x, text, found = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 16), []
    for name, kind in (("plain", AttnProcessor), ("sdpa", AttnProcessor2_0)):
        use_attention(unet, name)
        assert processors(unet) == {kind}
        with torch.no_grad():
            found.append(unet(x, 5, encoder_hidden_states=text).sample)
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("slow", ["plain", "sdpa"])
def test_of_long_sequences_the_faster_way_is_taken(unet: Any, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    monkeypatch.setattr(attention, "time", SimpleNamespace(process_time=lambda: clock[0]))
    clock, said = [0.0], list[str]()

    def step() -> None:
        clock[0] += 2.0 if processors(unet) == {AttnProcessor if slow == "plain" else AttnProcessor2_0} else 1.0

    chosen = choose_attention(unet, "auto", side=64, device=CPU, step=step, say=said.append)
    assert {chosen, slow} == {"plain", "sdpa"}
    assert (
        said == [f"attention: {chosen} (measured: " + said[0].split("measured: ")[1]]
        and f"{slow} 2.00 CPU s" in said[0]
    )
    assert processors(unet) == {AttnProcessor2_0 if slow == "plain" else AttnProcessor}


def test_short_sequences_and_names_need_no_probe(unet: Any) -> None:
    def step() -> None:
        raise AssertionError("a step was run")

    said: list[str] = []
    for asked, chosen in (("auto", "plain"), ("sdpa", "sdpa"), ("plain", "plain")):
        assert choose_attention(unet, asked, side=8, device=CPU, step=step, say=said.append) == chosen  # type: ignore[arg-type]
        assert chosen in said[-1]


def test_the_longest_sequence_is_that_of_the_first_level_with_attention(unet: Any) -> None:
    assert longest_sequence(unet, 32) == 16 * 16  # its first level has none
    paper = UNet2DConditionModel(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, cross_attention_dim=8)
    assert longest_sequence(paper, 32) == 32 * 32


def test_xformers_is_refused_where_it_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="needs an NVIDIA GPU, and this run is on cpu"):
        require_attention("xformers", CPU)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed.*ip2p\[xformers\]"):
        require_attention("xformers", torch.device("cuda"))
    require_attention("auto", CPU)
