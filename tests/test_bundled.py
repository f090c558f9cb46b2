"""The bundled models are what their cards say: small enough, described, and good enough to show."""

import pytest
import torch

from ip2p.editing.editor import Editor
from ip2p.measuring.clip import ClipScorer
from ip2p.models.backbone import load_backbone
from ip2p.models.bundled import BUNDLED, BUNDLED_NAMES, bundled_path
from ip2p.pictures.tensors import to_tensor
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.judge import Judge
from ip2p.storybook.render import render
from ip2p.storybook.scene import ATTRIBUTES
from ip2p.train.bundle import measure_autoencoder
from ip2p.train.clip import measure

MOST_BYTES = 64 * 2**20


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.from_pretrained("storybook-judge")


def test_all_weights_together_are_small() -> None:
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) <= MOST_BYTES


@pytest.mark.parametrize("folder", sorted(path.name for path in BUNDLED.iterdir()))
def test_every_model_has_a_name_and_a_card(folder: str) -> None:
    name = f"storybook-{folder}"
    assert name in BUNDLED_NAMES
    card = (bundled_path(name) / "README.md").read_text()
    assert name in card and ("train/base.py" in card or "train/finetune.py" in card)


def test_reconstructions_show_what_was_drawn(judge: Judge) -> None:
    figures = measure_autoencoder(load_backbone("storybook-base").vae, judge, evaluation_cases(100))
    assert figures["all"] >= 95 and min(figures[name] for name in ATTRIBUTES) >= 90


def test_clip_finds_captions() -> None:
    figures = measure(ClipScorer.from_pretrained("storybook-clip-a"), 100)
    assert figures["retrieval"] >= 85 and figures["direction"] >= 85


@torch.no_grad()
def test_the_editor_edits_and_keeps(judge: Judge) -> None:
    """On 24 held-out edits it does better by far than leaving the picture alone, and than chance."""
    cases = evaluation_cases(24)
    images = [render(case.scene) for case in cases]
    edits = Editor.from_pretrained().edit(
        images, [case.instruction for case in cases], seeds=list(range(len(cases))), batch=12
    )
    outcomes = judge.measure(to_tensor([edit.image for edit in edits]), cases)
    assert sum(each.success for each in outcomes) >= 8
    assert sum(each.preservation for each in outcomes) / len(outcomes) >= 0.6
