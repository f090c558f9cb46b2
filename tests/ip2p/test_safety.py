"""The safety checker that a model brings is kept, asked, and can be switched off."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil

from ip2p import Editor
from ip2p.backbone import load_backbone, save_backbone
from ip2p.errors import ModelError
from ip2p.generation import generate
from ip2p.parts import quiet

BARN = Image.new("RGB", (40, 28), "firebrick")


@pytest.fixture(scope="module")
def guarded(sd_editor_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An editor whose tiny checker finds everything unsafe: no cosine is below its thresholds of -1."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config={**vision, "image_size": 16, "patch_size": 8}, projection_dim=8)
    with quiet():
        checker = StableDiffusionSafetyChecker(config)
        torch.nn.init.constant_(checker.concept_embeds_weights, -1.0)
        size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
        pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            sd_editor_folder, safety_checker=checker, feature_extractor=CLIPImageProcessorPil(**size),
            requires_safety_checker=True,
        )  # fmt: skip
        folder = tmp_path_factory.mktemp("guarded") / "model"
        pipeline.save_pretrained(folder)
    return folder


def test_what_is_blocked_is_black_and_says_so(guarded: Path) -> None:
    editor = Editor.from_pretrained(str(guarded), device="cpu")
    (made,) = editor.edit(BARN, "make it winter", steps=1, seeds=1)
    assert made.image.size == (40, 28) and not np.asarray(made.image).any()
    assert made.parameters["blocked"] == "by the model's safety checker"


def test_what_passes_is_as_without_a_checker(guarded: Path) -> None:
    editor, free = (Editor.from_pretrained(str(guarded), device="cpu", safety_checker=safe) for safe in (True, False))
    assert editor.backbone.safety is not None and free.backbone.safety is None
    torch.nn.init.constant_(editor.backbone.safety.checker.concept_embeds_weights, 1.1)
    (one,), (two,) = (each.edit(BARN, "make it winter", steps=1, seeds=1) for each in (editor, free))
    assert one.image.tobytes() == two.image.tobytes() and np.asarray(one.image).any()
    assert one.parameters == two.parameters and "blocked" not in one.parameters


def test_pictures_drawn_from_captions_are_asked_about_too(guarded: Path, sd_base_folder: Path) -> None:
    base = load_backbone(sd_base_folder)
    base.safety = load_backbone(guarded).safety
    with pytest.warns(UserWarning, match="blocked 2 pictures, which are black"):
        drawn = generate(base, ["a barn", "a cow"], seeds=1, steps=1)
    assert not any(np.asarray(image).any() for image in drawn)


def test_it_is_saved_with_the_model(guarded: Path, tmp_path: Path) -> None:
    kind = "StableDiffusionInstructPix2PixPipeline"
    save_backbone(load_backbone(guarded), tmp_path / "saved", pipeline_class=kind, dtype=torch.float32)
    again = load_backbone(tmp_path / "saved")
    assert again.flagged([BARN, BARN]) == [True, True]
    with quiet():
        pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path / "saved")
    assert pipeline.safety_checker is not None and pipeline.feature_extractor is not None


def test_a_checker_that_is_promised_and_missing_is_told(guarded: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(guarded, tmp_path / "model"))
    shutil.rmtree(folder / "safety_checker")
    with pytest.raises(ModelError, match="no folder safety_checker"):
        load_backbone(folder)
    assert load_backbone(folder, safety_checker=False).safety is None
