"""The sampler: exact where the model is, told where it starts, and blind to batches."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, PNDMScheduler
from torch import Tensor

from ip2p.diffusion.sampling import Denoise, make_scheduler, sample, steps_of_calls
from ip2p.errors import ConfigError, ModelError
from ip2p.seeding import randn
from ip2p.settings import SCHEDULERS

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SHAPE = (4, 6, 5)
GOAL = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(99))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def perfect(goal: Tensor, prediction_type: str, alphas: Tensor) -> Denoise:
    """A perfect model of one picture: it predicts what leads to `goal` from anywhere."""

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        alpha = alphas[timestep.long()].to(x)
        noise = (x - alpha.sqrt() * goal) / (1 - alpha).sqrt()
        return noise if prediction_type == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * goal

    return denoise


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_perfect_model_is_followed_to_its_picture(name: str, prediction_type: str) -> None:
    scheduler = make_scheduler(DDIMScheduler(prediction_type=prediction_type, **SCHEDULE), name)
    noise = randn(SHAPE, generators(1, 2))
    denoise = perfect(GOAL, prediction_type, scheduler.alphas_cumprod)
    latents = sample(denoise, noise, scheduler, steps=30, generators=generators(3, 4))
    left = 0.12 if name == "pndm" else 0.06  # PLMS ends with the noise of the first training timestep
    torch.testing.assert_close(latents, GOAL.expand_as(latents), atol=left, rtol=0)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_row_depends_on_its_generator_alone(name: str) -> None:
    own = PNDMScheduler(skip_prk_steps=True, **SCHEDULE)

    def run(*seeds: int) -> Tensor:
        rows = generators(*seeds)
        return sample(
            lambda x, t: torch.tanh(x), randn(SHAPE, rows), make_scheduler(own, name), steps=5, generators=rows
        )

    together = run(5, 6, 7)
    assert torch.equal(together[1], run(6)[0]) and torch.equal(together[2], run(7, 5)[0])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_start_on_the_way_takes_the_steps_that_are_left(name: str) -> None:
    scheduler = make_scheduler(PNDMScheduler(skip_prk_steps=True, **SCHEDULE), name)
    seen: list[tuple[int, float]] = []
    origin, noise = GOAL[None], randn(SHAPE, generators(1))
    visited: list[float] = []

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        visited.append(float(timestep))
        return torch.zeros_like(x)

    latents = sample(
        denoise, noise, scheduler, steps=10, generators=generators(1), origin=origin, start=7,
        on_step=lambda step, x: seen.append((step, float(x.std()))),
    )  # fmt: skip
    scheduler.set_timesteps(10)
    assert visited == scheduler.timesteps[7 * scheduler.order :].tolist()
    assert [step for step, _ in seen] == [*range({"heun": 5, "pndm": 4}.get(name, 3))]
    assert latents.shape == origin.shape


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_keep_what_the_model_predicts_and_never_clip_latents(name: str) -> None:
    made = make_scheduler(PNDMScheduler(prediction_type="v_prediction", **SCHEDULE), name)
    assert made.config.prediction_type == "v_prediction" and made.config.beta_end == 0.012
    assert not made.config.get("clip_sample", False)


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="'plms'.*euler_a, euler, heun, ddim, ddpm, pndm, dpm, dpm_karras, unipc, lcm"
    ):
        make_scheduler(DDIMScheduler(), "plms")
    with pytest.raises(ModelError, match="FlowMatchEuler"):
        make_scheduler(FlowMatchEulerDiscreteScheduler(), "ddim")


def test_a_callback_may_change_the_latents() -> None:
    scheduler, rows = make_scheduler(DDIMScheduler(**SCHEDULE), "ddim"), generators(1)
    run: dict[str, Any] = {"steps": 4, "generators": rows}
    seen: list[Tensor] = []

    def replace(step: int, x: Tensor) -> Tensor | None:
        seen.append(x)
        return torch.full_like(x, 7.0) if step == 3 else None

    latents = sample(lambda x, t: torch.zeros_like(x), randn(SHAPE, generators(1)), scheduler, on_step=replace, **run)
    assert torch.equal(latents, torch.full_like(latents, 7.0)) and not torch.equal(seen[3], latents)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_calls_belong_to_steps(name: str) -> None:
    """Heun's method and the first step of PLMS take two calls."""
    scheduler = make_scheduler(DDIMScheduler(**SCHEDULE), name)
    assert steps_of_calls(scheduler, 1) == [0]
    expected = {"heun": [0, 0, 1, 1, 2, 2, 3], "pndm": [0, 0, 1, 2, 3]}.get(name, [0, 1, 2, 3])
    assert steps_of_calls(scheduler, 4) == expected
