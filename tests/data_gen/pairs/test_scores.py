"""Scores of pictures whose edits are known exactly."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops
from transformers import Dinov2Config, Dinov2Model

from ip2p.data_gen.pairs.scores import Scorers, score_candidates
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.layout import DinoLayout
from ip2p.records import SCORES, Candidate, Triple
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.render import render

CASES = evaluation_cases(6)
SHIFT = 3


@pytest.fixture(scope="module")
def scorers(clip_folder: Path) -> Scorers:
    """The tiny CLIP, and a tiny DINOv2."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 7}
    folder = clip_folder.with_name("dino-of-scores")
    Dinov2Model(Dinov2Config(**size)).save_pretrained(folder)
    return Scorers(ClipScorer.from_pretrained(clip_folder), DinoLayout.from_pretrained(folder))


def score(scorers: Scorers, images: Sequence[tuple[Image.Image, Image.Image]]) -> list[Candidate]:
    """Score pairs as candidates of six triples."""
    candidates = [
        Candidate(id=str(k), triple_id=str(k), seed=k, p=0.5, cfg=4.0, steps=3, layout=9.0) for k in range(len(images))
    ]
    triples = [
        Triple(id=str(k), caption_id="c", caption=case.caption, instruction=case.instruction, kind=case.edit.kind,
               edited_caption=case.edited_caption, writer="rules")
        for k, case in enumerate(CASES)
    ]  # fmt: skip
    return score_candidates(candidates, images, triples[: len(images)], scorers)


def shifted(image: Image.Image) -> Image.Image:
    """The picture moved to the right."""
    return ImageChops.offset(image, SHIFT, 0)


@pytest.mark.parametrize("with_dino", [False, True])
def test_what_has_moved_and_what_has_changed(scorers: Scorers, with_dino: bool) -> None:
    scorers = scorers if with_dino else scorers._replace(dino=None)
    sources = [render(case.scene) for case in CASES]
    same = score(scorers, [(each, each.copy()) for each in sources])
    edited = score(scorers, [(each, render(case.target)) for each, case in zip(sources, CASES, strict=True)])
    moved = score(scorers, [(each, shifted(each)) for each in sources])
    assert all(each.layout == pytest.approx(0, abs=2e-3) and each.changed == each.shift == 0 for each in same)
    assert all(0 < each.changed <= 1 and each.shift < 0.3 for each in edited)
    assert all(each.shift == pytest.approx(SHIFT, abs=0.3) for each in moved)
    assert all(each.layout > 0 for each in edited)


def test_scores_do_not_depend_on_the_batch(scorers: Scorers) -> None:
    images = [(render(case.scene), render(case.target)) for case in CASES]
    whole = score(scorers, images)
    for row, pair in enumerate(images[:1]):
        alone = score(scorers, [pair])[0].model_dump(include=set(SCORES))
        assert alone == pytest.approx(whole[row].model_dump(include=set(SCORES)), abs=2e-6)
    assert score(scorers, []) == []
