"""From noise to a latent with any of diffusers' schedulers. All randomness comes in as generators, one for each row."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)
from jaxtyping import Float
from torch import Tensor

from ip2p.errors import ConfigError, ModelError
from ip2p.settings import SCHEDULERS

Denoise = Callable[[Tensor, Tensor], Tensor]
"""The model's prediction for latents (b c h w), scaled by the scheduler, at a timestep."""
OnStep = Callable[[int, Tensor], None]
"""Told the number of a step, from 0, and the latents after it."""
Constrain = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]
"""Given the latents after a step, and what brings clean latents to their noise level: the latents to go on with."""

_CLASSES: dict[str, Any] = {
    "euler_a": EulerAncestralDiscreteScheduler,
    "euler": EulerDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "ddim": DDIMScheduler,
    "dpm": DPMSolverMultistepScheduler,
    "dpm_karras": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "ddpm": DDPMScheduler,
    "lcm": LCMScheduler,
}
_LATENT_CONFIG = {
    "clip_sample": False,
    "thresholding": False,
}  # both are for pixels; DDIM would clip latents by default
_EXTRA_CONFIG: dict[str, dict[str, Any]] = {"dpm_karras": {"use_karras_sigmas": True}}


def sample(
    denoise: Denoise,
    noise: Float[Tensor, "b c h w"],
    scheduler: Any,
    *,
    steps: int,
    generators: Sequence[torch.Generator],
    origin: Float[Tensor, "b c h w"] | None = None,
    start: int = 0,
    on_step: OnStep | None = None,
    constrain: Constrain | None = None,
) -> Float[Tensor, "b c h w"]:
    """Denoise step by step.

    Args:
        denoise: predicts what the scheduler was told the model predicts; guidance hides in it.
        noise: standard normal.
        scheduler: of `make_scheduler`; it keeps the state of the run, so each run takes a fresh one or this again.
        steps: of the whole schedule, at least 1.
        generators: one for each row, for schedulers that add noise on the way.
        origin: latents to noise and start from (SDEdit, arXiv 2108.01073); None starts from pure noise.
        start: step to start at, below `steps`.
        on_step: called after each step.
        constrain: called after each step, before `on_step`; what it returns takes the place of the latents.

    Returns:
        Latents, as the autoencoder's scaled latents are.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    begin = start * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    timesteps = scheduler.timesteps[begin:]
    if origin is None:
        x: Tensor = noise * scheduler.init_noise_sigma
    else:
        x = scheduler.add_noise(origin, noise, timesteps[:1].repeat(len(noise)))
    chance = {"generator": list(generators)} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for number, timestep in enumerate(timesteps):
        prediction = denoise(scheduler.scale_model_input(x, timestep), timestep)
        x = scheduler.step(prediction, timestep, x, **chance, return_dict=False)[0]
        if constrain is not None:
            following = timesteps[number + 1 : number + 2].repeat(len(x))
            x = constrain(x, partial(_add_noise, scheduler, noise, following))
        if on_step is not None:
            on_step(number, x)
    return x


def _add_noise(scheduler: Any, noise: Tensor, timesteps: Tensor, clean: Tensor) -> Tensor:
    """Clean latents at the noise level of timesteps; as they are where none is left."""
    noised: Tensor = scheduler.add_noise(clean, noise, timesteps) if len(timesteps) else clean
    return noised


def make_scheduler(scheduler: Any, name: str) -> Any:
    """A fresh scheduler by name, for the noise schedule and the prediction type of a model's own.

    Args:
        scheduler: that came with the model.
        name: euler_a, euler, heun (which calls the model twice a step), ddim, dpm (DPM-Solver++ 2M), dpm_karras (at
            the noise levels of arXiv 2206.00364), unipc, ddpm, or lcm (for models that were distilled for it).

    Raises:
        ConfigError: another name.
        ModelError: the model's scheduler is of another family, such as a flow's.
    """
    if name not in _CLASSES:
        raise ConfigError(f"there is no scheduler {name!r}", f"Give one of {', '.join(SCHEDULERS)}")
    if "prediction_type" not in scheduler.config or "beta_schedule" not in scheduler.config:
        raise ModelError(
            f"the model's scheduler is a {type(scheduler).__name__}, which has no noise schedule that we know",
            "Give a model of Stable Diffusion 1 or 2, or one trained with ip2p",
        )
    return _CLASSES[name].from_config(scheduler.config, **_LATENT_CONFIG, **_EXTRA_CONFIG.get(name, {}))
