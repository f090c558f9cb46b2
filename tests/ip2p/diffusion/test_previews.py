"""Previews show what the model is heading for, and do not change where it goes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from ip2p import Editor
from ip2p.diffusion.noise import ForwardProcess
from ip2p.diffusion.previews import Previews

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_clean_latents_are_those_that_the_noise_was_added_to(kind: str) -> None:
    scheduler = DDIMScheduler(prediction_type=kind, **SCHEDULE)
    clean, noise = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    at = torch.tensor([400])
    x, velocity = scheduler.add_noise(clean, noise, at), scheduler.get_velocity(clean, noise, at)
    prediction = {"epsilon": noise, "v_prediction": velocity, "sample": clean}[kind]
    estimate = ForwardProcess(scheduler).clean_estimate(x, prediction, at[0].float())
    torch.testing.assert_close(estimate, clean, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scheduler", ["euler_a", "euler", "ddim", "dpm", "heun", "pndm"])
def test_each_picture_is_shown_every_so_many_steps(editor_folder: Path, scheduler: str) -> None:
    editor = Editor.from_pretrained(str(editor_folder), device="cpu")
    images = [Image.new("RGB", size, "teal") for size in ((32, 32), (24, 48), (32, 32))]
    shown: dict[tuple[int, int], Image.Image] = {}

    def show(place: int, step: int, picture: Image.Image) -> None:
        shown[place, step] = picture

    settings: dict[str, Any] = {"seeds": 2, "steps": 5, "scheduler": scheduler, "batch": 2}
    made = editor.edit(images, "make it winter", previews=Previews(2, show), **settings)
    plain = editor.edit(images, "make it winter", **settings)
    assert sorted(shown) == [(place, step) for place in range(3) for step in (2, 4)]
    assert [shown[place, 4].size for place in range(3)] == [image.size for image in images]
    assert all(np.array_equal(np.asarray(a.image), np.asarray(b.image)) for a, b in zip(made, plain, strict=True))


def test_the_preview_of_the_last_step_is_the_picture(editor_folder: Path) -> None:
    """Without noise on the way, what the last step predicts is what it leads to."""
    editor, shown = Editor.from_pretrained(str(editor_folder), device="cpu"), []
    (made,) = editor.edit(
        Image.new("RGB", (32, 32), "teal"), "make it winter", seeds=1, steps=6, scheduler="euler",
        previews=Previews(6, lambda place, step, picture: shown.append(picture)),
    )  # fmt: skip
    assert np.abs(np.asarray(shown[0]).astype(int) - np.asarray(made.image)).max() <= 1
