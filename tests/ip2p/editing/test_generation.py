"""Drawing from captions, and SDEdit, as diffusers' pipelines do it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

from ip2p.editing.generation import generate, img2img
from ip2p.errors import ConfigError, InstructionError, ModelError
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.inference import load_for_inference
from ip2p.settings import SCHEDULERS

PeerScheduler = Callable[[Any, str], Any]
TEXTS = ["a barn", "make it night"]


def picture(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Smooth random colours."""
    rough = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def assert_alike(ours: list[Image.Image], theirs: list[Image.Image]) -> None:
    """Equal but for rounding to the neighbouring value."""
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(np.asarray(one, float) - np.asarray(other, float)).max() <= 1
    assert max(np.asarray(image).std() for image in ours) > 3


@pytest.fixture(scope="module", params=["base_folder", "sd_base_folder"])
def folder(request: pytest.FixtureRequest) -> Path:
    """v-prediction with AutoencoderTiny, and epsilon with AutoencoderKL."""
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load_backbone(folder)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    """The pipeline of diffusers with the same weights; every test gives it a scheduler."""
    loaded = StableDiffusionPipeline.from_pretrained(folder)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def own_scheduler(pipeline: Any) -> Any:
    return pipeline.scheduler


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_captions_become_the_pictures_of_diffusers(
    backbone: Backbone, pipeline: Any, own_scheduler: Any, scheduler: str, peer_scheduler: PeerScheduler
) -> None:
    pipeline.scheduler = peer_scheduler(own_scheduler, scheduler)
    theirs = pipeline(TEXTS, num_inference_steps=5, guidance_scale=4.0, generator=generators(1, 2)).images
    assert_alike(generate(backbone, TEXTS, scale=4.0, steps=5, seeds=[1, 2], scheduler=scheduler), theirs)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_sdedit_is_the_image_to_image_of_diffusers(
    backbone: Backbone, pipeline: Any, own_scheduler: Any, scheduler: str, peer_scheduler: PeerScheduler
) -> None:
    parts = pipeline.components | {"scheduler": peer_scheduler(own_scheduler, scheduler)}
    pipeline = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    images = [picture(1), picture(2)]
    for strength in (0.5, 1.0):
        theirs = pipeline(
            TEXTS, images, strength=strength, num_inference_steps=6, guidance_scale=4.0, generator=generators(1, 2)
        ).images
        ours = img2img(
            backbone, images, TEXTS, strength=strength, scale=4.0, steps=6, seeds=[1, 2], scheduler=scheduler
        )
        assert_alike(ours, theirs)


def test_a_negative_prompt_is_that_of_diffusers(
    backbone: Backbone, pipeline: Any, own_scheduler: Any, peer_scheduler: PeerScheduler
) -> None:
    pipeline.scheduler = peer_scheduler(own_scheduler, "ddim")
    theirs = pipeline(
        TEXTS, negative_prompt=["winter"] * 2, num_inference_steps=5, guidance_scale=4.0, generator=generators(1, 2)
    ).images
    options: dict[str, Any] = {"scale": 4.0, "steps": 5, "seeds": [1, 2], "scheduler": "ddim"}
    ours = generate(backbone, TEXTS, negative_prompt="winter", **options)
    assert_alike(ours, theirs)
    assert ours != generate(backbone, TEXTS, **options)


def test_presets_save_rows_of_a_caption_too(base_folder: Path) -> None:
    backbone = load_for_inference(base_folder, want="base", device="cpu")
    rows: list[int] = []
    plain = backbone.unet.forward
    backbone.unet.forward = lambda x, *others, **named: (rows.append(len(x)), plain(x, *others, **named))[1]
    exact, balanced = (generate(backbone, "a barn", seeds=1, preset=name)[0] for name in ("exact", "balanced"))
    assert sum(rows[:20]) == 40 and sum(rows[20:]) == 20 + 7
    assert exact != balanced


def test_sdedit_keeps_more_at_less_strength_and_any_size(base_folder: Path) -> None:
    backbone, image = load_backbone(base_folder), picture(1, (50, 30))
    same = img2img(backbone, image, ["a barn"] * 2, strength=0.05, scale=1.0, seeds=[1, 2])
    other = img2img(backbone, image, ["a barn"] * 2, strength=0.95, scale=1.0, seeds=[1, 2])
    spread = [np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() for a, b in (same, other)]
    assert spread[0] < spread[1] and {each.size for each in same + other} == {(50, 30)}


def test_a_picture_depends_on_its_seed_alone(base_folder: Path) -> None:
    backbone = load_backbone(base_folder)
    many = generate(backbone, ["a barn"] * 5, seeds=[3, 4, 5, 6, 7], steps=3, batch=2)
    assert_alike(many[2:3], generate(backbone, "a barn", seeds=5, steps=3))
    assert generate(backbone, "a barn", seeds=5, steps=1, resolution=19)[0].size == (16, 16)


def test_what_makes_no_sense_is_told(base_folder: Path, editor_folder: Path) -> None:
    backbone = load_backbone(base_folder)
    with pytest.raises(InstructionError, match="empty"):
        generate(backbone, [""])
    with pytest.raises(InstructionError, match="3 seeds for 2"):
        generate(backbone, TEXTS, seeds=[1, 2, 3])
    with pytest.raises(ConfigError, match="strength=0"):
        img2img(backbone, picture(1), "a barn", strength=0.0)
    with pytest.raises(ModelError, match="no text-to-image model"):
        generate(load_backbone(editor_folder), "a barn")
