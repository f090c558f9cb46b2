"""The bundled models are what their cards say: small enough, described, and as good as their training is long."""

from pathlib import Path

import pytest
import torch

from ip2p.cli.options import BUNDLED_BASE, BUNDLED_EDITOR
from ip2p.editing.editor import Editor
from ip2p.editing.generation import generate
from ip2p.measuring.clip import ClipScorer
from ip2p.models.backbone import load_backbone
from ip2p.models.bundled import BUNDLED, BUNDLED_NAMES, DEFAULT_BASE, DEFAULT_EDITOR, bundled_path
from ip2p.pictures.tensors import to_tensor
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.judge import Judge
from ip2p.storybook.render import SIDE
from ip2p.train.storybook.bundle import measure_autoencoder, read_record
from ip2p.train.storybook.clip import measure
from ip2p.train.storybook.tokens import make_tokenizer

MAX_BYTES = 90_000_000
PARTS = ("unet", "vae", "text_encoder")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.from_pretrained("storybook-judge")


def test_all_weights_together_are_small() -> None:
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*.safetensors")) <= MAX_BYTES


def test_every_model_has_a_name_and_a_card() -> None:
    parents = {path.parent for path in BUNDLED.rglob("*.safetensors")}
    models = {folder.parent if folder.name in PARTS else folder for folder in parents}
    assert models == {bundled_path(name) for name in BUNDLED_NAMES}
    for name in BUNDLED_NAMES:
        card = (bundled_path(name) / "README.md").read_text()
        assert name in card and ("train/storybook/base.py" in card or "train/storybook/editor.py" in card)
    assert (BUNDLED_BASE, BUNDLED_EDITOR) == (DEFAULT_BASE, DEFAULT_EDITOR)


@pytest.mark.parametrize("name", ["base", "clip-a", "clip-b", "editor", "judge"])
def test_training_can_go_on_from_what_is_bundled(name: str) -> None:
    come = read_record(BUNDLED, "diffusion" if name == "base" else name)
    assert come.step > 0 and come.samples > come.step and come.seconds > 60


@pytest.mark.slow
def test_the_models_speak_the_language_of_the_world(tmp_path: Path) -> None:
    words = make_tokenizer(tmp_path).get_vocab()
    assert load_backbone("storybook-base").tokenizer.get_vocab() == words
    assert ClipScorer.from_pretrained("storybook-clip-a").tokenizer.get_vocab() == words


@pytest.mark.slow
def test_reconstructions_show_what_was_drawn(judge: Judge) -> None:
    figures = measure_autoencoder(load_backbone("storybook-base").vae, judge, evaluation_cases(60))
    assert figures["all"] >= 90 and figures["PSNR (dB)"] >= 26


@pytest.mark.slow
@pytest.mark.parametrize("name", ["storybook-clip-a", "storybook-clip-b"])
def test_clips_find_captions(name: str) -> None:
    figures = measure(ClipScorer.from_pretrained(name), 100)
    assert figures["retrieval"] >= 90 and figures["neighbours"] >= 50 and figures["direction"] >= 85


def test_the_base_model_draws_pictures_of_the_world() -> None:
    (picture,) = generate(load_backbone("storybook-base", want="base"), ["a red barn in winter"], seeds=[1], steps=4)
    assert picture.size == (SIDE, SIDE)


@pytest.mark.slow
@torch.no_grad()
def test_the_editor_edits() -> None:
    """The editor makes a summer scene lighter and whiter for "make it winter", and darker for night."""
    (picture,) = generate(load_backbone(DEFAULT_BASE), ["a red barn by a lake in summer"], seeds=[5])
    winter, night = Editor.from_pretrained().edit(picture, ["make it winter", "make it night"], seeds=[5])
    before, white, dark = (to_tensor([image])[0] for image in (picture, winter.image, night.image))
    assert dark.mean() < before.mean() - 0.2
    assert white[:, 192:].amin(0).mean() > before[:, 192:].amin(0).mean() + 0.3, "snow on the ground"
