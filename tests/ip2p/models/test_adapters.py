"""LoRA and embedding files do what they do in diffusers, and those of other models are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
)
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from ip2p import Editor
from ip2p.errors import ConfigError, ModelError
from ip2p.models.adapters import Lora, add_embeddings, merge_loras
from ip2p.models.backbone import load_backbone
from ip2p.models.loading import quiet

PIPELINES: dict[str, Any] = {
    "sd_editor_folder": StableDiffusionInstructPix2PixPipeline,
    "xl_editor_folder": StableDiffusionXLInstructPix2PixPipeline,
}
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
RED = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.fixture(params=PIPELINES)
def folder(request: pytest.FixtureRequest) -> Path:
    """An editor of Stable Diffusion 1's classes, and one of SDXL's."""
    path: Path = request.getfixturevalue(request.param)
    return path


def pipeline_of(folder: Path) -> Any:
    name = "xl_editor_folder" if (folder / "text_encoder_2").is_dir() else "sd_editor_folder"
    with quiet():
        pipeline = PIPELINES[name].from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    return pipeline


def write_lora(folder: Path, path: Path) -> Path:
    """A random LoRA of UNet and text encoder, as diffusers writes it."""
    torch.manual_seed(3)
    pipeline = pipeline_of(folder)
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, init_lora_weights=False))
    pipeline.text_encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    weights = {
        f"{part}_lora_layers": get_peft_model_state_dict(getattr(pipeline, part)) for part in ("unet", "text_encoder")
    }
    pipeline.save_lora_weights(path.parent, weight_name=path.name, **weights)
    return path


def latents_of(editor: Editor, text: str, **settings: Any) -> Tensor:
    seen: list[Tensor] = []
    editor.edit(
        RED,
        text,
        steps=3,
        seeds=5,
        scheduler="euler_a",
        text_scale=2.0,
        on_step=lambda _, x: seen.append(x),
        **settings,
    )
    return seen[-1]


def theirs(pipeline: Any, text: str, **settings: Any) -> Tensor:
    size = {"height": 32, "width": 32} if hasattr(pipeline, "text_encoder_2") else {}
    latents: Tensor = pipeline(
        text, image=RED, num_inference_steps=3, guidance_scale=2.0, image_guidance_scale=1.5, output_type="latent",
        generator=torch.Generator().manual_seed(5), **size, **settings,
    ).images  # fmt: skip
    return latents


def test_a_lora_does_what_it_does_in_diffusers(folder: Path, tmp_path: Path) -> None:
    file = write_lora(folder, tmp_path / "style.safetensors")
    pipeline = pipeline_of(folder)
    plain = theirs(pipeline, "make it winter")
    pipeline.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="style")
    pipeline.set_adapters("style", 0.5)
    editor = Editor.from_pretrained(str(folder), device="cpu", loras=[Lora(file, 0.5)])
    expected = theirs(pipeline, "make it winter")
    scale = expected.abs().max()
    assert (expected - plain).abs().max() > 0.01 * scale
    assert (latents_of(editor, "make it winter") - expected).abs().max() <= 1e-4 * scale
    (made,) = editor.edit(RED, "make it winter", steps=1, seeds=1)
    assert made.parameters["lora"] == [f"{file}:0.5"]


def test_a_lora_of_kohya_is_its_matrices(sd_editor_folder: Path, tmp_path: Path) -> None:
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = torch.randn(2, 16), torch.randn(16, 2)
    keys = f"lora_unet_{name.replace('.', '_')}"
    weights = {f"{keys}.lora_down.weight": down, f"{keys}.lora_up.weight": up, f"{keys}.alpha": torch.tensor(1.0)}
    save_file(weights, tmp_path / "kohya.safetensors")
    backbone = load_backbone(sd_editor_folder)
    before = backbone.unet.get_submodule(name).weight.clone()
    merge_loras(backbone, [Lora(tmp_path / "kohya.safetensors", 0.5)])
    torch.testing.assert_close(backbone.unet.get_submodule(name).weight, before + 0.5 * (1 / 2) * up @ down)


def test_a_negative_prompt_stands_in_both_branches_without_text(folder: Path) -> None:
    editor, pipeline = Editor.from_pretrained(str(folder), device="cpu"), pipeline_of(folder)
    expected = theirs(pipeline, "make it winter", negative_prompt="night")
    scale = expected.abs().max()
    assert (latents_of(editor, "make it winter", negative_prompt="night") - expected).abs().max() <= 1e-4 * scale
    assert (latents_of(editor, "make it winter") - expected).abs().max() > 1e-3 * scale
    (made,) = editor.edit(RED, "make it winter", steps=1, seeds=1, negative_prompt="night")
    assert made.parameters["negative_prompt"] == "night"


@pytest.mark.parametrize(("text", "expected"), [("a.safetensors", 1), ("a.safetensors:-0.5", -0.5), ("a:b", 1)])
def test_a_scale_may_follow_a_name(text: str, expected: float) -> None:
    lora = Lora.parse(text)
    assert lora.scale == expected and str(lora.path) == text.removesuffix(":-0.5")


def test_an_embedding_is_a_word_of_several_tokens(sd_editor_folder: Path, tmp_path: Path) -> None:
    save_file({"<cat>": torch.randn(2, 16)}, tmp_path / "cat.safetensors")
    pipeline = pipeline_of(sd_editor_folder)
    pipeline.load_textual_inversion(str(tmp_path), weight_name="cat.safetensors")
    editor = Editor.from_pretrained(str(sd_editor_folder), device="cpu", embeddings=[tmp_path / "cat.safetensors"])
    expected = theirs(pipeline, "make it <cat>")
    assert (latents_of(editor, "make it <cat>") - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_words_of_files_that_name_none_are_the_names_of_the_files(
    sd_editor_folder: Path, xl_editor_folder: Path, tmp_path: Path
) -> None:
    vectors = torch.randn(1, 16)
    save_file({"emb_params": vectors}, tmp_path / "castle-x.safetensors")
    torch.save({"string_to_param": {"*": vectors}, "string_to_token": {"*": 265}}, tmp_path / "barn-x.pt")
    save_file({"clip_l": torch.randn(2, 16), "clip_g": torch.randn(2, 24)}, tmp_path / "cow-x.safetensors")
    backbone, xl = load_backbone(sd_editor_folder), load_backbone(xl_editor_folder)
    files = [tmp_path / "castle-x.safetensors", tmp_path / "barn-x.pt"]
    assert add_embeddings(backbone, files, allow_pickle=True) == ["castle-x", "barn-x"]
    torch.testing.assert_close(backbone.text_encoder.get_input_embeddings().weight[-2:], vectors.expand(2, 16))
    before = xl.encode_text(["a cow-x"]).tokens
    assert add_embeddings(xl, [tmp_path / "cow-x.safetensors"]) == ["cow-x"]
    assert not torch.equal(xl.encode_text(["a cow-x"]).tokens, before)
    with pytest.raises(ConfigError, match="'cow-x'.*known to the model already"):
        add_embeddings(xl, [tmp_path / "cow-x.safetensors"])


def test_files_that_do_not_fit_are_refused(sd_editor_folder: Path, xl_editor_folder: Path, tmp_path: Path) -> None:
    lora = write_lora(xl_editor_folder, tmp_path / "xl.safetensors")
    junk = {"a.weight": torch.zeros(2, 2)}
    save_file(junk, tmp_path / "junk.safetensors")
    torch.save(junk, tmp_path / "junk.pt")
    (tmp_path / "torn.safetensors").write_bytes(lora.read_bytes()[:100])
    backbone = load_backbone(sd_editor_folder)
    for name, message in {
        "xl": "does not fit.*size mismatch.*of this family",
        "junk": "does not fit.*Invalid LoRA",
        "torn": "torn.safetensors is damaged",
        "none": "there is no file",
    }.items():
        with pytest.raises(ModelError, match=message):
            merge_loras(backbone, [Lora(tmp_path / f"{name}.safetensors")])
    with pytest.raises(ModelError, match="not .safetensors.*allow_pickle"):
        merge_loras(backbone, [Lora(tmp_path / "junk.pt")])
    with pytest.raises(ModelError, match="2 numbers, not 16"):
        add_embeddings(backbone, [tmp_path / "junk.safetensors"])
    with pytest.raises(ModelError, match="no vectors for text encoder 1 of 2"):
        add_embeddings(load_backbone(xl_editor_folder), [tmp_path / "junk.safetensors"])
