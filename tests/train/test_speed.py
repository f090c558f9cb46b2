"""The figures of speed: the operations of a step, the peak of the device, and the share of waiting."""

import time
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ip2p.config import load_config
from ip2p.train.ahead import Ahead
from ip2p.train.attention import use_attention
from ip2p.train.config import FinetuneConfig
from ip2p.train.estimate import training_flops
from ip2p.train.fit import prepare
from ip2p.train.speed import Speed, measure_peak, summarize


@pytest.mark.parametrize(
    "more", [[], ["train_text_encoder=true"], ["lora_rank=2"], ["blocks=[up_blocks]", "gradient_checkpointing=true"]]
)
def test_counted_operations_are_those_of_a_real_step(sd_editor_folder: Path, more: list[str]) -> None:
    config = load_config(FinetuneConfig, None, [f"base={sd_editor_folder}", "size=32", *more])
    backbone, model, _ = prepare(config, torch.device("cpu"))
    counted = training_flops(backbone, config, encodes=False)
    backbone.unet.disable_gradient_checkpointing()
    use_attention(backbone.unet, "plain")
    tokens = backbone.tokenize(["make it winter"])
    text = tokens if config.train_text_encoder else backbone.text_encoder(tokens)[0].detach()
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 4, 8, 8), torch.tensor([3]), torch.randn(1, 4, 8, 8), text).sum().backward()
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert training_flops(backbone, config, encodes=True) > 1.1 * counted


def test_twice_the_time_is_half_the_share_of_the_peak(sd_editor_folder: Path) -> None:
    waits = iter([1.0, 1.5, 1.5])
    speed = Speed(flops=4e9, peak=8e9, samples=6, waited=lambda: next(waits), device=torch.device("cpu"))
    first, second = speed.step(1.0), speed.step(2.0)
    assert (first["utilization"], second["utilization"]) == (0.5, 0.25)
    assert (first["samples_per_second"], second["samples_per_second"]) == (6.0, 3.0)
    assert (first["data_wait"], second["data_wait"]) == (0.5, 0.0)
    assert 0.05 < first["memory_gib"] <= second["memory_gib"] < 200
    assert "4.5 samples/s, 38 % of the measured peak, 25 % of the time" in summarize(
        [first, {"held_out_loss": 1}, second]
    )


def test_no_product_of_matrices_beats_the_measured_peak_by_far() -> None:
    peak = measure_peak(torch.device("cpu"), "fp32")
    assert 1e8 < peak < 1e14


def test_waiting_for_what_is_loaded_is_counted() -> None:
    def load(key: int) -> int:
        time.sleep(0.05)
        return key

    ahead: Ahead[int, int] = Ahead(load)
    assert ahead.take(1) == 1 and ahead.waited > 0.04
    ahead.close()
