"""Validation: edits of different scenes, and scores that an oracle gets in full and a copy not at all."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as Picture
from PIL import Image

from ip2p.diffusion.noise import ForwardProcess
from ip2p.measuring.clip import ClipScorer
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.vocabulary import Vocabulary
from ip2p.storybook.words import COMMON
from ip2p.train.batches import Batches
from ip2p.train.pairs import open_pairs
from ip2p.train.validation import EditSettings, Validation, different_scenes
from ip2p.train.xl import editing_model

FEATURES = Features({"original_image": Picture(), "edit_prompt": Value("string"), "edited_image": Picture()})


def pair(tone: int) -> dict[str, object]:
    picture = Image.new("RGB", (32, 32), (tone, 9, 9))
    return {"original_image": picture, "edit_prompt": "make it winter", "edited_image": picture.rotate(90)}


def test_edits_are_of_different_scenes() -> None:
    tones = [1, 1, 1, 2, 3, 3, 4, 5, 1]
    pairs = Dataset.from_list([pair(tone) for tone in tones], features=FEATURES).cast_column(
        "original_image", Picture(decode=False)
    )
    chosen = different_scenes(pairs, 3)
    assert len(chosen) == 3 == len({tones[row] for row in chosen})
    assert different_scenes(pairs, 99) == [0, 3, 4, 6, 7] and different_scenes(pairs, 0) == []


@pytest.fixture
def backbone(sd_editor_folder: Path) -> Backbone:
    return load_backbone(sd_editor_folder)


class Oracle(Validation):
    """Draws what is asked for: the exact target, or the picture of the pair."""

    def _draw(self, originals: list[Image.Image], instructions: list[str], stage: str) -> list[Image.Image]:
        return [each.target for _, each in self.samples if each.target]


class Copy(Validation):
    """Draws what was there before."""

    def _draw(self, originals: list[Image.Image], instructions: list[str], stage: str) -> list[Image.Image]:
        return originals


def make(kind: type[Validation], backbone: Backbone, pairs: Path, folder: Path, *, size: int, exact: int) -> Validation:
    held_out = Batches(open_pairs(pairs).held_out, backbone, size=size, seed=0, flip=False)
    settings = EditSettings(2, 3.0, 1.5, exact=exact)
    return kind(held_out, editing_model(backbone), ForwardProcess(backbone.scheduler), folder, settings)


@pytest.mark.filterwarnings("ignore:text longer")  # the tiny model reads 16 tokens
def test_pixel_truth_is_full_for_the_exact_target_and_none_for_a_copy(
    backbone: Backbone, pairs_folder: Path, tmp_path: Path
) -> None:
    assert make(Oracle, backbone, pairs_folder, tmp_path, size=256, exact=2).pixel_truth() == {}  # any other base
    backbone.vocabulary = Vocabulary(COMMON, ())
    oracle = make(Oracle, backbone, pairs_folder, tmp_path, size=256, exact=2)
    assert oracle.pixel_truth() == {"pixel_truth": 1.0, "pixel_accuracy": 1.0, "pixel_preservation": 1.0}
    copy = make(Copy, backbone, pairs_folder, tmp_path, size=256, exact=2)
    assert copy.pixel_truth() == {"pixel_truth": 0.0, "pixel_accuracy": 0.0, "pixel_preservation": 1.0}
    drawn = make(Validation, backbone, pairs_folder, tmp_path, size=32, exact=2)
    first = drawn.pixel_truth()
    assert 0 <= first["pixel_truth"] < 0.9 and first == drawn.pixel_truth()
    assert len({sample.kind for sample, _ in oracle.samples}) == 2


def test_clip_scores_tell_a_copy_from_the_change_of_the_pair(
    backbone: Backbone, pairs_folder: Path, tmp_path: Path
) -> None:
    validation = make(Validation, backbone, pairs_folder, tmp_path, size=32, exact=0)
    before = [Image.linear_gradient("L").resize((64, 64)).convert("RGB")] * 2
    after = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    assert validation.scores(before, after, after) == {}
    validation.clip = ClipScorer.from_pretrained()
    asked, none = validation.scores(before, after, after), validation.scores(before, before, after)
    assert asked["clip_direction"] == pytest.approx(1, abs=1e-4) and none["clip_direction"] == 0
    assert none["clip_image"] == pytest.approx(1, abs=1e-4) and asked["clip_image"] < 0.99


def test_the_held_out_loss_is_the_same_twice_and_another_with_other_weights(
    backbone: Backbone, pairs_folder: Path, tmp_path: Path
) -> None:
    validation = make(Validation, backbone, pairs_folder, tmp_path, size=32, exact=0)
    loss = validation.loss()
    assert loss == validation.loss()
    with torch.no_grad():
        backbone.unet.conv_out.bias.add_(0.1)
    assert loss != validation.loss()
