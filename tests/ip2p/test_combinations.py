"""Combinations of settings: what changes nothing is refused, and what is refused does change nothing."""

from itertools import product
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from ip2p.cli.options import with_flags
from ip2p.conditioning import Conditioning
from ip2p.diffusion.guidance_cache import CachedDualGuidance, CacheSchedule
from ip2p.errors import ConfigError
from ip2p.settings import PRESETS, EditSettings, GenerationSettings, with_preset

STEPS = 8


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"text_every": 2},
            "--text-every 2 acts as 1, since both differences are computed where --image-every 1 is due. "
            "Give --image-every as 2 or more",
        ),
        (
            {"text_every": 6, "image_every": 2},
            "--text-every 6 acts as 2, since both differences are computed where --image-every 2 is due. "
            "Give --image-every as 6 or more",
        ),
        (
            {"tolerance": 0.2, "image_every": 3},
            "--image-every 3 changes nothing beside --tolerance 0.2. Leave one of the two at its default",
        ),
        (
            {"extrapolate": 0.5},
            "--extrapolate 0.5 changes nothing where differences are computed at every step. "
            "Give --text-every, too, or leave --extrapolate at its default",
        ),
        (
            {"hold_after": 0.8, "guidance_stop": 0.6},
            "--hold-after 0.8 changes nothing beside --guidance-stop 0.6. Leave one of the two at its default",
        ),
        (
            {"hold_after": 0.2, "guidance_start": 0.3, "tolerance": 0.1},
            "--tolerance 0.1 changes nothing beside --hold-after 0.2. Leave one of the two at its default",
        ),
        (
            {"hold_after": 0, "extrapolate": 1},
            "--extrapolate 1 changes nothing beside --hold-after 0. Leave one of the two at its default",
        ),
    ],
)
def test_a_setting_that_changes_nothing_is_refused_by_its_option(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        EditSettings(**given)
    assert with_flags(error.value) == told
    assert "--" not in str(error.value)


def test_presets_and_what_changes_something_are_taken() -> None:
    for kind, name in product((EditSettings, GenerationSettings), PRESETS):
        kind(**with_preset(kind, name, {}))
        kind(**with_preset(kind, name, {"guidance_start": 0.1, "guidance_stop": 0.6, "rescale": 0.5}))
    for given in (
        {"text_every": 2, "image_scale": 1.0},  # there is no image difference
        {"image_every": 3, "extrapolate": 0.5},
        {"hold_after": 0.6, "extrapolate": 0.5, "guidance_stop": 0.6},
        {"hold_after": 0.2, "guidance_start": 0.3},
        {"tolerance": 0.2, "extrapolate": 0.5, "hold_after": 0.5},
    ):
        EditSettings(**given)
    GenerationSettings(text_every=2, extrapolate=0.5)


def edited(given: dict[str, Any]) -> list[Tensor]:
    """Guided predictions of eight steps, from a made-up UNet that is as far from linear as one."""
    values = EditSettings.model_construct(**given)
    schedule = CacheSchedule(
        values.text_every, values.image_every, values.tolerance, values.extrapolate, values.hold_after
    )

    def unet(x: Float[Tensor, "b k h w"], timestep: Tensor, text: Conditioning) -> Float[Tensor, "b c h w"]:
        return torch.sin(3 * x[:, :4] + x[:, 4:] * timestep / 300 + text.tokens.mean((1, 2))[:, None, None, None])

    draw = torch.Generator().manual_seed(0)
    condition, x = (torch.randn(1, 4, 4, 4, generator=draw) for _ in range(2))
    text, null = (Conditioning(torch.randn(1, 2, 3, generator=draw)) for _ in range(2))
    guidance = CachedDualGuidance(
        unet, condition, text, null, text_scale=values.text_scale, image_scale=values.image_scale, schedule=schedule,
        interval=(values.guidance_start, values.guidance_stop),
    )  # fmt: skip
    predicted = []
    for timestep in torch.linspace(999, 1, STEPS):
        predicted.append(guidance(x, timestep))
        x = x - 0.1 * predicted[-1]
    return predicted


@pytest.mark.parametrize(
    ("others", "name", "value"),
    [
        ({}, "text_every", 2),
        ({"image_every": 2, "text_every": 2}, "text_every", 6),
        ({"tolerance": 0.9}, "image_every", 3),
        ({}, "extrapolate", 0.5),
        ({"guidance_stop": 0.4}, "hold_after", 0.55),
        ({"hold_after": 0.0}, "image_every", 3),
        ({"hold_after": 0.0}, "tolerance", 0.9),
        ({"hold_after": 0.0}, "extrapolate", 0.5),
    ],
)
def test_what_is_refused_changes_no_prediction(others: dict[str, Any], name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^{name}="):
        EditSettings(**others | {name: value})
    assert all(map(torch.equal, edited(others), edited(others | {name: value})))


@pytest.mark.parametrize(
    ("others", "name", "value"),
    [
        ({"image_every": 4}, "text_every", 2),
        ({"image_scale": 1.0}, "text_every", 2),
        ({"image_every": 3}, "extrapolate", 0.5),
        ({"hold_after": 0.6}, "image_every", 3),
        ({"guidance_stop": 0.6}, "hold_after", 0.55),
        ({}, "tolerance", 0.9),
    ],
)
def test_what_is_taken_changes_predictions(others: dict[str, Any], name: str, value: float) -> None:
    EditSettings(**others | {name: value})
    assert not all(map(torch.equal, edited(others), edited(others | {name: value})))
