"""Memory and operations, counted without a GPU and held against what real networks keep."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from ip2p.config import load_config
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.train.config import FinetuneConfig
from ip2p.train.estimate import GIB, WORKSPACE, dry_run, estimate


def config(*settings: str) -> FinetuneConfig:
    return load_config(FinetuneConfig, None, ["batch=3", "size=32", "cache_latents=true", "precision=fp32", *settings])


def weights_of(*networks: Any) -> int:
    return sum(parameter.numel() for each in networks for parameter in each.parameters())


def test_parts_that_are_weights_are_counted_exactly(sd_editor_folder: Path) -> None:
    backbone = load_backbone(sd_editor_folder)
    unet, text = weights_of(backbone.unet), weights_of(backbone.text_encoder)
    parts = estimate(backbone, config("train_text_encoder=true")).parts
    assert parts["weights of UNet and text encoders, fp32"] == 4 * (unet + text)
    assert (parts["gradients"], parts["optimizer adamw"], parts["averages"]) == tuple(
        n * (unet + text) for n in (4, 8, 4)
    )
    lean = estimate(backbone, config("ema_device=cpu", "lora_rank=2", "precision=bf16")).parts
    assert "averages" not in lean and lean["gradients"] < parts["gradients"] / 3
    assert lean["their copies in low precision"] > 2 * (unet + text)
    assert estimate(backbone, config("dpo_beta=9")).parts["the frozen reference"] == 4 * (unet + text)


def test_activations_are_those_that_a_real_network_keeps(sd_editor_folder: Path) -> None:
    backbone = load_backbone(sd_editor_folder)
    unet = backbone.unet.train().requires_grad_(True)
    weights = {each.untyped_storage().data_ptr() for each in unet.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.no_grad():
        text = backbone.text_encoder(backbone.tokenize(["a", "b", "c"]))[0]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        unet(torch.randn(3, 8, 8, 8), torch.tensor([1, 2, 3]), encoder_hidden_states=text)
    real = sum(each.untyped_storage().nbytes() for each in kept.values())
    parts = estimate(load_backbone(sd_editor_folder), config()).parts
    assert parts["activations of 3 samples"] == pytest.approx(real, rel=0.05)


def test_weights_in_16_bits_are_no_activations_wherever_they_lie(
    sd_editor_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = estimate(load_backbone(sd_editor_folder), config("precision=bf16")).parts
    held, convert = [], torch.nn.Module.to

    def keep_the_former(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        held.extend(each.untyped_storage() for each in module.parameters())  # so none of their addresses is used again
        return convert(module, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "to", keep_the_former)
    assert estimate(load_backbone(sd_editor_folder), config("precision=bf16")).parts == usual
    assert len(held) > 50


def test_operations_of_a_convolution_are_counted_forward_and_backward(sd_editor_folder: Path) -> None:
    backbone = load_backbone(sd_editor_folder)
    flops = estimate(backbone, config()).flops
    first = 3 * 2 * 8 * 8 * weights_of(backbone.unet.conv_in)  # each weight for each latent pixel
    assert first < flops < 2 * 3 * 64 * weights_of(backbone.unet) * 1.5
    assert estimate(backbone, config("dpo_beta=9")).flops == 2 * flops


def stable_diffusion() -> Backbone:
    """Stable Diffusion 1.5 without its numbers."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, in_channels=4, sample_size=64)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2,
        )  # fmt: skip
        size = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
        text = CLIPTextModel(CLIPTextConfig(**size))
    return Backbone(vae, text, None, unet, None, name="sd", path=Path())


@pytest.mark.parametrize(("name", "gpu"), [("one_gpu_finetune", 24), ("paper_finetune", 40)])
def test_bundled_configs_fit_the_gpu_that_they_name_with_room(name: str, gpu: float) -> None:
    backbone = stable_diffusion()
    assert weights_of(backbone.unet) == 859_520_964
    asked = load_config(FinetuneConfig, name)
    need = estimate(backbone, asked)
    assert need.parts["workspace"] == WORKSPACE and need.bytes / GIB < 0.88 * gpu
    assert need.flops == pytest.approx(4 * 193e9 if asked.gradient_checkpointing else 3 * 193e9, rel=0.01)


def test_a_dry_run_tells_settings_memory_and_hours_and_writes_nothing(sd_base_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    dry_run(config(f"base={sd_base_folder}", f"out={tmp_path / 'run'}"), said.append)
    text = "\n".join(said)
    assert "learning_rate: 0.0001" in text and "GPU memory of each process, about 1.0 GiB" in text
    assert "hours on an H100" in text and not (tmp_path / "run").exists()
