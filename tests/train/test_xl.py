"""SDXL in training: conditioned as in editing, from a base and from an editor."""

from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import StableDiffusionXLInstructPix2PixPipeline

from ip2p.config import load_config
from ip2p.models.backbone import load_backbone
from ip2p.train.adapters import choose_trained
from ip2p.train.config import FinetuneConfig
from ip2p.train.fit import fit
from ip2p.train.xl import XlEditingModel, tokenize_texts


@pytest.mark.parametrize("zeroes", [True, False])
def test_training_conditions_the_unet_as_editing_does(xl_editor_folder: Path, zeroes: bool) -> None:
    backbone = load_backbone(xl_editor_folder)
    backbone.zero_empty_text = zeroes
    texts = ["make it winter", "", "a"]
    torch.manual_seed(0)
    noised, condition, timestep = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor(400)
    with torch.no_grad():
        tokens = tokenize_texts(backbone, texts)
        trained = XlEditingModel(backbone)(noised, timestep.expand(3), condition, tokens)
        edited = backbone.predict(torch.cat([noised, condition], 1), timestep, backbone.encode_text(texts))
    torch.testing.assert_close(trained, edited)


def test_every_weight_that_is_trained_gets_a_gradient(xl_editor_folder: Path) -> None:
    backbone = load_backbone(xl_editor_folder)
    networks = choose_trained(backbone, train_text_encoder=True)
    assert set(networks) == {"unet", "text_encoder", "text_encoder_2"}
    x = torch.randn(2, 4, 8, 8)
    XlEditingModel(backbone)(x, torch.tensor([3, 700]), x, tokenize_texts(backbone, ["a", "b"])).sum().backward()
    for network in networks.values():
        assert all(each.grad is not None for each in network.parameters() if each.requires_grad)


@pytest.mark.parametrize(("model", "options"), [("xl_base_folder", ()), ("xl_editor_folder", ("lora_rank=2",))])
def test_a_run_leaves_an_editor_of_sdxl(
    model: str, options: tuple[str, ...], pairs_folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = [
        f"base={request.getfixturevalue(model)}", f"dataset={pairs_folder}", f"out={tmp_path / 'run'}", "steps=2",
        "batch=2", "precision=fp32", "threads=1", "size=32", "learning_rate=0.01",
    ]  # fmt: skip
    AcceleratorState._reset_state(reset_partial_state=True)
    result = fit(load_config(FinetuneConfig, None, [*settings, *options]), say=lambda _: None)
    assert result.editor is not None and (tmp_path / "run" / "lora").exists() == bool(options)
    pipeline = StableDiffusionXLInstructPix2PixPipeline.from_pretrained(result.editor)
    assert pipeline.unet.config.in_channels == 8
    if options:
        pipeline = StableDiffusionXLInstructPix2PixPipeline.from_pretrained(request.getfixturevalue(model))
        pipeline.load_lora_weights(tmp_path / "run" / "lora", weight_name="kohya.safetensors")
