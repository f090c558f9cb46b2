"""What is trained: blocks, LoRA on bases and editors, and LoRA files for other programs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import StableDiffusionInstructPix2PixPipeline
from torch import Tensor

from ip2p.config import load_config
from ip2p.errors import ConfigError
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.lora import Lora as LoraFile
from ip2p.models.lora import merge_loras
from ip2p.train.adapters import DIFFUSERS_FILE, KOHYA_FILE, Lora, choose_trained, save_lora, without_lora
from ip2p.train.config import FinetuneConfig
from ip2p.train.fit import RunResult, fit
from ip2p.train.learner import trainable

MODULES = ("to_q", "to_v", "to_out.0", "conv1", "q_proj", "out_proj")


def tuned(folder: Path, **options: Any) -> Backbone:
    """An editor with LoRA layers that do something."""
    backbone = load_backbone(folder)
    networks = choose_trained(backbone, train_text_encoder=True, lora=Lora(2, 3.0, MODULES), **options)
    torch.manual_seed(3)
    with torch.no_grad():
        for network in networks.values():
            for name, parameter in trainable(network).items():
                parameter.add_(0.3 * torch.randn_like(parameter)) if "lora_B" in name else None
    return backbone


def predict(unet: Any, text: Tensor) -> Tensor:
    torch.manual_seed(0)
    prediction: Tensor = unet(torch.randn(1, 8, 8, 8), torch.tensor([400]), encoder_hidden_states=text).sample
    return prediction


@torch.no_grad()
def outcome(backbone: Backbone) -> tuple[Tensor, Tensor]:
    text = backbone.text_encoder(backbone.tokenize(["make it winter"]))[0]
    return text, predict(backbone.unet, text)


def test_lora_begins_as_the_model_and_folds_into_its_weights(sd_editor_folder: Path) -> None:
    plain = load_backbone(sd_editor_folder)
    fresh = load_backbone(sd_editor_folder)
    choose_trained(fresh, train_text_encoder=True, lora=Lora(2, 3.0, MODULES))
    assert torch.equal(outcome(fresh)[1], outcome(plain)[1])
    backbone = tuned(sd_editor_folder)
    folded = without_lora(backbone)
    for one, two, before in zip(outcome(backbone), outcome(folded), outcome(plain), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
        assert (two - before).abs().max() > 1e-3
    assert folded.unet.state_dict().keys() == plain.unet.state_dict().keys()
    assert folded.text_encoder.state_dict().keys() == plain.text_encoder.state_dict().keys()


def test_lora_trains_matrices_of_named_layers_and_draws_them_from_the_seed(sd_editor_folder: Path) -> None:
    names = [
        set(trainable(network)) for network in (tuned(sd_editor_folder).unet, tuned(sd_editor_folder).text_encoder)
    ]
    assert all("lora_" in name for each in names for name in each) and all(names)
    ends = {name.split(".lora_")[0].rpartition(".")[2] for name in names[0]}
    assert ends == {"to_q", "to_v", "0", "conv1"}
    within = trainable(tuned(sd_editor_folder, blocks=("mid_block", "attn2")).unet)
    assert all("mid_block" in name or "attn2" in name for name in within) and len(within) < len(names[0])
    first, same, other = (
        choose_trained(
            load_backbone(sd_editor_folder), train_text_encoder=False, lora=Lora(2, 2.0, ("to_q",)), seed=seed
        )["unet"]
        for seed in (1, 1, 2)
    )
    downs = [next(p for name, p in trainable(each).items() if "lora_A" in name) for each in (first, same, other)]
    assert torch.equal(downs[0], downs[1]) and not torch.equal(downs[0], downs[2])


def test_named_blocks_learn_and_nothing_else(sd_editor_folder: Path) -> None:
    backbone = load_backbone(sd_editor_folder)
    networks = choose_trained(backbone, train_text_encoder=False, blocks=("up_blocks", "attn2"), widened=True)
    names = list(trainable(networks["unet"]))
    assert all("up_blocks" in name or "attn2" in name or name.startswith("conv_in.") for name in names)
    assert any(name.startswith("up_blocks") for name in names) and "conv_in.bias" in names
    assert not trainable(backbone.text_encoder) and not trainable(backbone.vae)
    with pytest.raises(ConfigError, match=r"no module of the UNet has 'upblocks' .*up_blocks"):
        choose_trained(backbone, train_text_encoder=False, blocks=("upblocks",))
    with pytest.raises(ConfigError, match=r"no layer of the unet ends with to_x\."):
        choose_trained(backbone, train_text_encoder=False, lora=Lora(2, 2.0, ("to_x",)))


@pytest.mark.parametrize("file", [DIFFUSERS_FILE, KOHYA_FILE])
def test_lora_files_load_in_diffusers_and_in_our_reader(sd_editor_folder: Path, tmp_path: Path, file: str) -> None:
    backbone = tuned(sd_editor_folder)
    text, expected = outcome(backbone)
    save_lora(backbone, tmp_path / "lora")
    ours = load_backbone(sd_editor_folder)
    merge_loras(ours, [LoraFile(tmp_path / "lora" / file)])
    for one, two in zip(outcome(ours), (text, expected), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(sd_editor_folder)
    pipeline.load_lora_weights(tmp_path / "lora", weight_name=file)
    with torch.no_grad():
        theirs = pipeline.text_encoder(backbone.tokenize(["make it winter"]))[0]
        torch.testing.assert_close(theirs, text, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(predict(pipeline.unet, text), expected, atol=1e-5, rtol=1e-4)


def run(base: Path, pairs: Path, out: Path, *more: str) -> RunResult:
    settings = [
        f"base={base}", f"dataset={pairs}", f"out={out}", "batch=2", "precision=fp32", "threads=1", "lora_rank=2",
        "learning_rate=0.01", "ema_decay=0.5", "size=32",
    ]  # fmt: skip
    AcceleratorState._reset_state(reset_partial_state=True)
    said: list[str] = []
    result = fit(load_config(FinetuneConfig, None, [*settings, *more]), say=said.append)
    (out / "said").write_text("\n".join(said))
    return result


def test_a_run_with_lora_on_an_editor_leaves_editor_and_files_that_agree(
    sd_editor_folder: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    run(sd_editor_folder, pairs_folder, tmp_path / "run", "steps=2")
    result = run(sd_editor_folder, pairs_folder, tmp_path / "run", "steps=3")  # goes on
    assert result.step == 3 and result.editor is not None
    ours = load_backbone(sd_editor_folder)
    before = outcome(ours)[1]
    merge_loras(ours, [LoraFile(tmp_path / "run" / "lora" / KOHYA_FILE)])
    after, editor = outcome(ours)[1], outcome(load_backbone(result.editor))[1]
    torch.testing.assert_close(after, editor, atol=1e-2, rtol=1e-2)  # the editor is saved in fp16
    assert (after - before).abs().max() > 10 * (after - editor).abs().max()


def test_the_best_editor_of_a_run_with_lora_has_its_files(
    sd_editor_folder: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    run(sd_editor_folder, pairs_folder, tmp_path / "run", "steps=4", "validate_every=1", "validation_edits=0")
    best, ours = tmp_path / "run" / "best", load_backbone(sd_editor_folder)
    merge_loras(ours, [LoraFile(best / "lora" / KOHYA_FILE)])
    torch.testing.assert_close(outcome(ours)[1], outcome(load_backbone(best))[1], atol=1e-2, rtol=1e-2)


def test_a_run_with_lora_on_a_base_learns_the_new_channels_and_leaves_an_editor(
    tiny_base: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    result = run(tiny_base, pairs_folder, tmp_path / "run", "steps=3")
    assert result.editor is not None and not (tmp_path / "run" / "lora").exists()
    assert "no LoRA files" in (tmp_path / "run" / "said").read_text()
    weight = StableDiffusionInstructPix2PixPipeline.from_pretrained(result.editor).unet.conv_in.weight
    assert weight[:, 4:].abs().max() > 0
