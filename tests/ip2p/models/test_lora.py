"""LoRA files do what they do in diffusers, at any scale that is a number."""

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
from torch import Tensor

from ip2p import Editor
from ip2p.errors import ConfigError
from ip2p.models.backbone import load_backbone
from ip2p.models.loading import quiet
from ip2p.models.lora import Lora, merge_loras

SD, XL = "sd_editor_folder", "xl_editor_folder"


@pytest.mark.parametrize(("text", "expected"), [("a.safetensors", 1), ("a.safetensors:-0.5", -0.5), ("a:b", 1)])
def test_a_scale_may_follow_a_name(text: str, expected: float) -> None:
    lora = Lora.parse(text)
    assert lora.scale == expected and str(lora.path) == text.removesuffix(":-0.5")


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf", "1e999", "half", ""])
def test_a_scale_that_is_no_number_is_told(scale: str, sd_editor_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.touch()
    with pytest.raises(ConfigError, match=f"the scale '{scale}' of the LoRA .* is not a number"):
        Lora.parse(f"{path}:{scale}")
    other = tmp_path / f"a.safetensors:{scale}"
    other.touch()
    assert Lora.parse(str(other)) == Lora(other, 1.0)
    with pytest.raises(ConfigError, match="the scale nan of the LoRA"):
        merge_loras(load_backbone(sd_editor_folder), [Lora(write_lora(sd_editor_folder, path), float("nan"))])


PIPELINES: dict[str, Any] = {
    SD: StableDiffusionInstructPix2PixPipeline,
    XL: StableDiffusionXLInstructPix2PixPipeline,
}
NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def pipeline_of(folder: Path) -> Any:
    with quiet():
        pipeline = PIPELINES[XL if (folder / "text_encoder_2").is_dir() else SD].from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    return pipeline


def write_lora(folder: Path, path: Path) -> Path:
    """A random LoRA of UNet and text encoder, as diffusers writes it."""
    torch.manual_seed(3)
    pipeline = pipeline_of(folder)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=targets, init_lora_weights=False))
    pipeline.text_encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    weights = {
        f"{part}_lora_layers": get_peft_model_state_dict(getattr(pipeline, part)) for part in ("unet", "text_encoder")
    }
    pipeline.save_lora_weights(path.parent, weight_name=path.name, **weights)
    return path


@pytest.mark.parametrize("folder", PIPELINES)
def test_a_lora_does_what_it_does_in_diffusers(folder: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(folder)
    file, pipeline = write_lora(source, tmp_path / "style.safetensors"), pipeline_of(source)

    def theirs() -> Tensor:
        latents: Tensor = pipeline(
            "make it winter", image=NOISE, num_inference_steps=3, guidance_scale=2.0, image_guidance_scale=1.5,
            output_type="latent", generator=torch.Generator().manual_seed(5),
            **({"height": 32, "width": 32} if folder == XL else {}),
        ).images  # fmt: skip
        return latents

    plain = theirs()
    pipeline.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="style")
    pipeline.set_adapters("style", 0.5)
    expected, seen = theirs(), list[Tensor]()
    editor = Editor.from_pretrained(str(source), device="cpu", loras=[Lora(file, 0.5)])
    settings: dict[str, Any] = {"steps": 3, "scheduler": "euler_a", "text_scale": 2.0}
    (made,) = editor.edit(NOISE, "make it winter", seeds=5, on_step=lambda _, x: seen.append(x), **settings)
    scale = expected.abs().max()
    assert (expected - plain).abs().max() > 0.01 * scale
    assert (seen[-1] - expected).abs().max() <= 1e-4 * scale
    assert made.parameters["lora"] == [f"{file}:0.5"]
