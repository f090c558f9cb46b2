"""LoRA files do what they do in diffusers, at any scale that is a number; those with bad numbers are refused."""

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


QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def pair() -> dict[str, Tensor]:
    """A file of one module: matrices of rank 2 in peft's layout."""
    generator = torch.Generator().manual_seed(2)
    shapes = {"lora_A": (2, 16), "lora_B": (16, 2)}
    return {f"unet.{QUERY}.{at}.weight": torch.randn(shape, generator=generator) for at, shape in shapes.items()}


def require_refused(folder: Path, lora: Lora, message: str, *, allow_pickle: bool = False) -> None:
    """Check that a LoRA is refused in one line with its name, and that nothing of it is merged."""
    backbone, before = load_backbone(folder), load_backbone(folder)
    with pytest.raises(ModelError, match=message) as refused:
        merge_loras(backbone, [lora], allow_pickle=allow_pickle)
    assert str(lora.path) in str(refused.value) and "\n" not in str(refused.value)
    for network in ("unet", "text_encoder"):
        weights = getattr(backbone, network).state_dict()
        old = getattr(before, network).state_dict()
        assert all(torch.equal(weight, weights[name]) for name, weight in old.items())


@pytest.mark.parametrize("scale", [3e38, -3e38, 1e300])
def test_a_scale_that_makes_weights_infinite_is_refused(scale: float, sd_editor_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({key: value * 10 for key, value in pair().items()}, path)
    require_refused(sd_editor_folder, Lora(path, scale), r"at scale .*e\+.* makes .* 1 of 1 modules of .* infinite")


def test_a_bias_that_becomes_infinite_is_refused(sd_editor_folder: Path, tmp_path: Path) -> None:
    key = "diffusion_model.input_blocks.1.0.in_layers.2.diff_b"
    save_file({key: torch.full((8,), 3e38)}, tmp_path / "bias.safetensors")
    require_refused(
        sd_editor_folder,
        Lora(tmp_path / "bias.safetensors", 10.0),
        "at scale 10 .* such as unet.down_blocks.0.resnets.0.conv1",
    )


def test_a_lora_is_not_blamed_for_the_model(sd_editor_folder: Path, tmp_path: Path) -> None:
    backbone, path = load_backbone(sd_editor_folder), tmp_path / "lora.safetensors"
    save_file(pair(), path)
    query: Any = backbone.unet.get_submodule(QUERY)
    query.weight.data[0, 0] = torch.nan
    merge_loras(backbone, [Lora(path)])
    assert query.weight.isnan().any()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (2.0, "alpha: it is a float, not a tensor"),
        (torch.ones(1).to_sparse(), "alpha: its numbers, torch.sparse_coo of torch.float32, are not readable"),
        (torch.ones(1, device="meta"), "alpha: its numbers, .* are not readable"),
    ],
)
def test_what_only_pickles_have_is_refused(weight: Any, message: str, sd_editor_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "lora.pt"
    torch.save(pair() | {f"unet.{QUERY}.alpha": weight}, path)
    require_refused(sd_editor_folder, Lora(path), message, allow_pickle=True)


def test_a_key_of_two_lines_is_refused_in_one(sd_editor_folder: Path, tmp_path: Path) -> None:
    save_file({"a\nb": torch.ones(1)}, tmp_path / "lora.safetensors")
    require_refused(sd_editor_folder, Lora(tmp_path / "lora.safetensors"), "such as a b: its kind is not known")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"lora_alpha": null}', "lora_alpha = null, not a finite number"),
        ('{"lora_alpha": [8]}', r"lora_alpha = \[8\], not a finite number"),
        ('{"lora_alpha": "8"}', 'lora_alpha = "8", not a finite number'),
        ('{"lora_alpha": true}', "lora_alpha = true, not a finite number"),
        ('{"lora_alpha": NaN}', "lora_alpha = NaN, not a finite number"),
        ('{"lora_alpha": -Infinity}', "lora_alpha = -Infinity, not a finite number"),
        ('{"lora_alpha": 1e999}', "lora_alpha = Infinity, not a finite number"),
        (f'{{"lora_alpha": 1{"0" * 400}}}', "lora_alpha = 10+, not a finite number"),
        ('{"unet.lora_alpha": null, "lora_alpha": 8}', "unet.lora_alpha = null, not a finite number"),
        ('{"alpha_pattern": ["to_q"]}', r'alpha_pattern = \["to_q"\], not finite numbers by regular expressions'),
        ('{"alpha_pattern": {"(": 3}}', r'alpha_pattern = {"\(": 3}, not finite numbers by regular expressions'),
        ('{"alpha_pattern": {"a{99999999999999}": 3}}', "alpha_pattern = .* regular expressions"),
        ('{"alpha_pattern": {"to_q": null}}', "alpha_pattern = .* regular expressions"),
        ('{"alpha_pattern": {"elsewhere": NaN}}', "alpha_pattern = .* regular expressions"),
        ('{"r": 0}', "r = 0, not a whole number from 1"),
        ('{"rank_pattern": {"to_q": 0.5}}', "rank_pattern = .*, not whole numbers from 1 by regular expressions"),
        ('{"use_rslora": "no"}', 'use_rslora = "no", not true or false'),
        ('{"use_dora": 1}', "use_dora = 1, not true or false"),
        ('{"use_dora": true}', "2 of 2 weights .* lacks its magnitude, though its config says use_dora"),
        ('{"unet.use_dora": true}', "2 of 2 weights .* lacks its magnitude, though its config says use_dora"),
        ('{"lora_alpha": 3e38}', "at scale 1 makes the weights of 1 of 1 modules"),
        ('[["lora_alpha", 8]]', "has no options by name"),
        ("null", "has no options by name"),
        ("{", "is not readable"),
        ("[" * 100_000, "is not readable"),
    ],
)
@pytest.mark.parametrize("where", ["beside", "header"])
def test_a_bad_config_is_refused(config: str, message: str, where: str, sd_editor_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    if where == "header":
        save_file(pair(), path, metadata={"lora_adapter_metadata": config})
    else:
        save_file({name.replace("unet", "base_model.model"): weight for name, weight in pair().items()}, path)
        path.with_name("adapter_config.json").write_text(config)
    require_refused(sd_editor_folder, Lora(path), message)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_is_merged_even_mixed(kind: torch.dtype, sd_editor_folder: Path, tmp_path: Path) -> None:
    path, backbone = tmp_path / "lora.safetensors", load_backbone(sd_editor_folder)
    down, up = pair().values()
    down, alpha = down.to(kind), torch.tensor(3)  # some trainers write whole numbers
    save_file(dict(zip(pair(), (down, up), strict=True)) | {f"unet.{QUERY}.alpha": alpha}, path)
    query: Any = backbone.unet.get_submodule(QUERY)
    expected = query.weight.data + 1.5 * up @ down.float()
    merge_loras(backbone, [Lora(path)])
    torch.testing.assert_close(query.weight.data, expected)
