"""The safety checker that a model brings is kept, asked, and can be switched off."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from ip2p import Editor, cli
from ip2p.editing.generation import generate
from ip2p.editing.sequence import edit_in_sequence
from ip2p.errors import ModelError
from ip2p.models.backbone import load_backbone, save_backbone
from ip2p.models.loading import quiet
from ip2p.pictures.write import read_parameters

BARN = Image.new("RGB", (40, 28), "firebrick")


def test_what_is_blocked_is_black_and_says_so(guarded_folder: Path) -> None:
    editor = Editor.from_pretrained(str(guarded_folder), device="cpu")
    (made,) = editor.edit(BARN, "make it winter", steps=1, seeds=1)
    assert made.image.size == (40, 28) and not np.asarray(made.image).any()
    assert made.parameters["blocked"] == "by the model's safety checker"


def test_what_passes_is_as_without_a_checker(guarded_folder: Path) -> None:
    editor, free = (
        Editor.from_pretrained(str(guarded_folder), device="cpu", safety_checker=safe) for safe in (True, False)
    )
    assert editor.backbone.safety is not None and free.backbone.safety is None
    torch.nn.init.constant_(editor.backbone.safety.checker.concept_embeds_weights, 1.1)
    (one,), (two,) = (each.edit(BARN, "make it winter", steps=1, seeds=1) for each in (editor, free))
    assert one.image.tobytes() == two.image.tobytes() and np.asarray(one.image).any()
    assert one.parameters | {"safety_checker": False} == two.parameters and "blocked" not in one.parameters


def test_a_sequence_says_which_of_its_edits_was_blocked(guarded_folder: Path) -> None:
    editor = Editor.from_pretrained(str(guarded_folder), device="cpu")
    safety = editor.backbone.safety
    assert safety

    def pass_all(number: int, _pictures: list[Image.Image]) -> None:
        torch.nn.init.constant_(safety.checker.concept_embeds_weights, 1.1)

    texts = ["make it winter", "make it night"]
    (made,) = edit_in_sequence(editor, BARN, texts, steps=1, seeds=1, keep_unchanged=False, on_edit=pass_all)
    assert made.blocked and made.parameters["blocked"] == "by the model's safety checker, at edit 1 of 2"
    assert np.asarray(made.image).any()


def test_every_command_says_that_a_picture_was_blocked(
    guarded_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    BARN.save("barn.png")
    Path("edits.jsonl").write_text('{"image": "barn.png", "instruction": "make it night", "output": "night.png"}\n')
    common = ["--model", str(guarded_folder), "--steps", "1"]
    for _ in range(2):  # also of one that was there before
        assert cli.run(["batch", "edits.jsonl", *common]) == 0
        (result,) = map(json.loads, Path("edits-edited/results.jsonl").read_text().splitlines())
        assert result["blocked"] == "by the model's safety checker"
    capsys.readouterr()
    assert cli.run(["edit", "barn.png", "make it night", *common, "-o", "night.png"]) == 0
    assert "ip2p: night.png: the model's safety checker blocked it" in capsys.readouterr().err
    grid = ["grid", "barn.png", "make it night", *common, "-o", "grid.png", "--text-scales", "1,2"]
    assert cli.run([*grid, "--image-scales", "1"]) == 0
    assert "checker blocked 2 of its pictures, which are black" in capsys.readouterr().err
    assert read_parameters("grid.png")["blocked"] == "2 of 2 by the model's safety checker"


def test_pictures_drawn_from_captions_are_asked_about_too(guarded_folder: Path, sd_base_folder: Path) -> None:
    base = load_backbone(sd_base_folder)
    base.safety = load_backbone(guarded_folder).safety
    with pytest.warns(UserWarning, match="blocked 2 pictures, which are black"):
        drawn = generate(base, ["a barn", "a cow"], seeds=1, steps=1)
    assert not any(np.asarray(image).any() for image in drawn)


def test_it_is_saved_with_the_model(guarded_folder: Path, tmp_path: Path) -> None:
    kind = "StableDiffusionInstructPix2PixPipeline"
    save_backbone(load_backbone(guarded_folder), tmp_path / "saved", pipeline_class=kind, dtype=torch.float32)
    again = load_backbone(tmp_path / "saved")
    assert again.flag_unsafe([BARN, BARN]) == [True, True]
    with quiet():
        pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path / "saved")
    assert pipeline.safety_checker is not None and pipeline.feature_extractor is not None


def test_a_checker_that_is_promised_and_missing_is_told(guarded_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(guarded_folder, tmp_path / "model"))
    shutil.rmtree(folder / "safety_checker")
    with pytest.raises(ModelError, match="no folder safety_checker"):
        load_backbone(folder)
    assert load_backbone(folder, safety_checker=False).safety is None
