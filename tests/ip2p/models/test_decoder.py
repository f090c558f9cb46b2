"""Another decoder draws the picture; everything before it stays as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, StableDiffusionInstructPix2PixPipeline
from PIL import Image

from ip2p import Editor, cli
from ip2p.errors import ModelError
from ip2p.models.backbone import load_backbone
from ip2p.models.decoder import replace_autoencoder, replace_decoder
from ip2p.models.inference import load_for_inference
from ip2p.pictures.tensors import to_tensor


def write_decoder(folder: Path, channels: int = 4) -> Path:
    """A decoder like that of taesd, for latents that are scaled, as small as the models of these tests."""
    torch.manual_seed(5)
    widths: dict[str, Any] = {f"{part}_block_out_channels": (8, 8, 8) for part in ("encoder", "decoder")}
    blocks = {"num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 1, 1)}
    AutoencoderTiny(latent_channels=channels, scaling_factor=1.0, **widths, **blocks).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("decoder"))


def test_it_decodes_as_in_the_pipeline_of_diffusers(sd_editor_folder: Path, decoder: Path) -> None:
    editor = Editor.from_pretrained(str(sd_editor_folder), device="cpu", decoder=str(decoder))
    kept: list[torch.Tensor] = []
    picture = Image.new("RGB", (32, 32), (200, 60, 20))
    (made,) = editor.edit(picture, "make it winter", seeds=3, steps=2, on_step=lambda _, x: kept.append(x))
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(sd_editor_folder, safety_checker=None)
    pipeline.vae = AutoencoderTiny.from_pretrained(decoder)
    unscaled = kept[-1] / pipeline.vae.config.scaling_factor
    with torch.no_grad():
        decoded = pipeline.vae.decode(unscaled).sample
    (expected,) = pipeline.image_processor.postprocess(decoded, output_type="pil")
    assert (to_tensor([made.image]) - to_tensor([expected])).abs().max() < 0.01
    assert made.parameters["decoder"] == str(decoder)
    (own,) = Editor.from_pretrained(str(sd_editor_folder), device="cpu").edit(
        picture, "make it winter", seeds=3, steps=2, on_step=lambda _, x: kept.append(x)
    )
    assert torch.equal(kept[len(kept) // 2 - 1], kept[-1]), "the latents are those of the editor, whatever decodes them"
    assert own.image != made.image and "decoder" not in own.parameters


def test_a_decoder_that_does_not_fit_is_told(sd_editor_folder: Path, decoder: Path, tmp_path: Path) -> None:
    backbone = load_backbone(sd_editor_folder)
    with pytest.raises(ModelError, match="8 channels and 1/.*, not 4 and"):
        replace_decoder(backbone, str(write_decoder(tmp_path / "wide", channels=8)))
    with pytest.raises(ModelError, match="of the class AutoencoderKL, not AutoencoderTiny"):
        replace_decoder(backbone, str(sd_editor_folder / "vae"))
    with pytest.raises(ModelError, match="there is no decoder .*nowhere"):
        replace_decoder(backbone, str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="there is no decoder"):
        replace_decoder(backbone, str(tmp_path))
    broken = write_decoder(tmp_path / "broken")
    (broken / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot load the decoder"):
        replace_decoder(backbone, str(broken))
    for text, message in (("{", "is not readable"), ("[1]", "is a list"), ('{"_class_name": 1}', "of the class 1")):
        (broken / "config.json").write_text(text)
        with pytest.raises(ModelError, match=message):
            replace_decoder(backbone, str(broken))
    assert backbone.decoder is None


def test_the_command_takes_it(
    sd_editor_folder: Path, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (32, 32), "red").save(picture)
    words = ["--model", str(sd_editor_folder), "--steps", "1", "--seed", "1"]
    made = tmp_path / "b.png"
    assert cli.run(["edit", str(picture), "make it winter", *words, "--decoder", str(decoder), "-o", str(made)]) == 0
    capsys.readouterr()
    assert cli.run(["inspect", str(made)]) == 0
    assert f"--decoder {decoder}" in capsys.readouterr().out
    rows = tmp_path / "edits.jsonl"
    rows.write_text(json.dumps({"image": "a.png", "instruction": "make it winter"}) + "\n")
    assert cli.run(["batch", str(rows), *words[:4], "--decoder", str(tmp_path / "none")]) == 2
    assert "there is no decoder" in capsys.readouterr().err
    assert cli.run(["batch", str(rows), *words[:4], "--decoder", str(decoder)]) == 0


def write_autoencoder(source: Path, folder: Path, **changes: Any) -> Path:
    """A random autoencoder of the class of a model's own."""
    torch.manual_seed(6)
    config = AutoencoderKL.load_config(source / "vae")
    AutoencoderKL.from_config({**config, **changes}).save_pretrained(folder)
    return folder


def test_another_autoencoder_encodes_and_decodes(sd_editor_folder: Path, tmp_path: Path) -> None:
    """With its own scale, as in the pipeline of diffusers."""
    folder = write_autoencoder(sd_editor_folder, tmp_path / "vae", scaling_factor=0.3)
    editor = Editor.from_pretrained(str(sd_editor_folder), device="cpu", vae=str(folder))
    picture = Image.effect_noise((32, 32), 90).convert("RGB")
    (made,) = editor.edit(picture, "make it winter", seeds=3, steps=2, scheduler="ddim", image_scale=1.2, text_scale=3)
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(sd_editor_folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae = AutoencoderKL.from_pretrained(folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    (expected,) = pipeline(
        "make it winter", picture, num_inference_steps=2, image_guidance_scale=1.2, guidance_scale=3.0,
        generator=torch.Generator().manual_seed(3),
    ).images  # fmt: skip
    assert (to_tensor([made.image]) - to_tensor([expected])).abs().max() < 0.02
    assert made.parameters["vae"] == str(folder)


def test_the_autoencoder_of_sdxl_is_computed_in_fp32_if_it_says_so(xl_base_folder: Path, tmp_path: Path) -> None:
    for upcast, dtype in ((True, torch.float32), (False, torch.bfloat16)):
        folder = write_autoencoder(xl_base_folder, tmp_path / str(upcast), force_upcast=upcast)
        backbone = load_for_inference(xl_base_folder, want="base", device="cpu", precision="bf16", vae=str(folder))
        assert backbone.vae.dtype == dtype


def test_an_autoencoder_that_does_not_fit_is_told(sd_editor_folder: Path, decoder: Path, tmp_path: Path) -> None:
    backbone = load_backbone(sd_editor_folder)
    wide = write_autoencoder(sd_editor_folder, tmp_path / "wide", latent_channels=8)
    with pytest.raises(ModelError, match="the autoencoder .* is for latents of 8 channels and 1/4 of the size, not 4"):
        replace_autoencoder(backbone, str(wide))
    with pytest.raises(ModelError, match="the autoencoder .* is of the class AutoencoderTiny, not AutoencoderKL"):
        replace_autoencoder(backbone, str(decoder))
    with pytest.raises(ModelError, match="there is no autoencoder .*nowhere"):
        replace_autoencoder(backbone, str(tmp_path / "nowhere"))
