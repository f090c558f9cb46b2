"""Structure distances: against a plain computation with transformers' own model, and what bad folders do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from ip2p.errors import ModelError
from ip2p.measuring.dino import IMAGENET_MEAN, IMAGENET_STD
from ip2p.measuring.layout import DinoLayout
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.render import render

SIDE = 28


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random DINOv2 of 28 px."""
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=7)
    model = Dinov2Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Three pictures of 28 px."""
    return [render(case.scene).resize((SIDE, SIDE)) for case in evaluation_cases(3)]


def test_distances_are_those_of_the_self_similarities(dino_folder: Path, pictures: list[Image.Image]) -> None:
    model = Dinov2Model.from_pretrained(dino_folder).eval()

    def similarities(image: Image.Image) -> torch.Tensor:
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        x = (x - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
        with torch.inference_mode():
            features = model(x[None]).last_hidden_state[0, 1:]
        assert len(features) == 16
        return torch.nn.functional.cosine_similarity(features[:, None], features[None], dim=-1)

    pairs = [(a, b) for a in pictures for b in pictures]
    found = DinoLayout.from_pretrained(dino_folder, batch=2).distances(*zip(*pairs, strict=True))
    expected = [float((similarities(a) - similarities(b)).square().mean().sqrt()) for a, b in pairs]
    assert found == pytest.approx(expected, abs=1e-5)
    assert found[0] == found[4] == found[8] == 0 and min(found[1:4]) > 0.01


def test_a_mirrored_picture_is_farther_than_a_darker_one(dino_folder: Path, pictures: list[Image.Image]) -> None:
    dino = DinoLayout.from_pretrained(dino_folder)
    darker, mirrored = (
        sum(dino.distances(pictures, [change(each) for each in pictures]))
        for change in (lambda image: image.point(lambda level: int(0.9 * level)), ImageOps.mirror)
    )
    assert darker < 0.7 * mirrored


def test_other_models_are_refused(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPModel(CLIPConfig(text_config=small | {"vocab_size": 9}, vision_config=small)).save_pretrained(tmp_path / "clip")
    for name in ("clip", "missing"):
        with pytest.raises(ModelError, match=rf"the DINOv2 model .*{name}.*Give a folder with a Dinov2Model"):
            DinoLayout.from_pretrained(tmp_path / name)
