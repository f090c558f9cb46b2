"""Embedding files do what they do in diffusers, and those of other models are refused."""

from collections.abc import Callable
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
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from ip2p import Editor
from ip2p.errors import ConfigError, ModelError
from ip2p.models.backbone import load_backbone
from ip2p.models.embeddings import add_embeddings
from ip2p.models.loading import quiet

PIPELINES: dict[str, Any] = {
    "sd_editor_folder": StableDiffusionInstructPix2PixPipeline,
    "xl_editor_folder": StableDiffusionXLInstructPix2PixPipeline,
}
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


def test_a_negative_prompt_stands_in_both_branches_without_text(folder: Path) -> None:
    editor, pipeline = Editor.from_pretrained(str(folder), device="cpu"), pipeline_of(folder)
    expected = theirs(pipeline, "make it winter", negative_prompt="night")
    scale = expected.abs().max()
    assert (latents_of(editor, "make it winter", negative_prompt="night") - expected).abs().max() <= 1e-4 * scale
    assert (latents_of(editor, "make it winter") - expected).abs().max() > 1e-3 * scale
    (made,) = editor.edit(RED, "make it winter", steps=1, seeds=1, negative_prompt="night")
    assert made.parameters["negative_prompt"] == "night"


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


@pytest.mark.parametrize("word", ["CatStyle", "ÄRA", "<Cat Toy>"])
@pytest.mark.parametrize("asked", [str, str.lower, str.upper])
def test_a_word_with_capital_letters_has_all_of_its_vectors(
    sd_editor_folder: Path, tmp_path: Path, word: str, asked: Callable[[str], str]
) -> None:
    """The tokenizer ignores the case of texts."""
    vectors = torch.randn(3, 16)
    save_file({word: vectors}, tmp_path / "cat.safetensors")
    backbone = load_backbone(sd_editor_folder)
    assert add_embeddings(backbone, [tmp_path / "cat.safetensors"]) == [word]
    tokens = backbone.tokenize([f"make it {asked(word)}, night"])
    read = backbone.text_encoder.get_input_embeddings()(tokens)[0]
    assert [row for row in range(len(read)) if torch.equal(read[row], vectors[0])] == [3]
    assert torch.equal(read[3:6], vectors)
    save_file({word.lower(): vectors}, tmp_path / "again.safetensors")
    with pytest.raises(ConfigError, match="known to the model already"):
        add_embeddings(backbone, [tmp_path / "again.safetensors"])


def test_files_that_do_not_fit_are_refused(sd_editor_folder: Path, xl_editor_folder: Path, tmp_path: Path) -> None:
    junk = {"a.weight": torch.zeros(2, 2)}
    save_file(junk, tmp_path / "junk.safetensors")
    torch.save(junk, tmp_path / "junk.pt")
    backbone = load_backbone(sd_editor_folder)
    with pytest.raises(ModelError, match="there is no file"):
        add_embeddings(backbone, [tmp_path / "none.safetensors"])
    with pytest.raises(ModelError, match="not .safetensors.*allow_pickle"):
        add_embeddings(backbone, [tmp_path / "junk.pt"])
    with pytest.raises(ModelError, match="2 numbers, not 16"):
        add_embeddings(backbone, [tmp_path / "junk.safetensors"])
    with pytest.raises(ModelError, match="no vectors for text encoder 1 of 2"):
        add_embeddings(load_backbone(xl_editor_folder), [tmp_path / "junk.safetensors"])
