"""Denoise latents with any of diffusers' schedulers. All randomness comes from generators, one for each row."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import diffusers
import torch
from jaxtyping import Float
from torch import Tensor

from ip2p.errors import ConfigError, ModelError, one_line
from ip2p.settings import SCHEDULERS

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Function from latents (b, c, h, w), scaled by the scheduler, and a timestep to the model's prediction."""
OnStep = Callable[[int, Tensor], Any]
"""Callback that receives the number of the model call, from 0, and the latents after it. Latents that it returns take
their place."""
Constrain = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]
"""Function from the latents after a step, and a function that noises clean latents to their level, to those of the next
step."""

ZERO_SNR = "rescale_betas_zero_snr"
_LATENT_CONFIG = {
    "clip_sample": False,
    "thresholding": False,
}  # both are for pixels; DDIM clips latents by default


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
    """Run the denoising loop.

    Args:
        denoise: function that gives the model's prediction, of the scheduler's prediction type, guidance included.
        noise: standard normal noise, shape (b, c, h, w).
        scheduler: scheduler made by `make_scheduler`; it has the state of one run at a time.
        steps: denoising steps of the whole schedule, at least 1.
        generators: one generator for each row, for schedulers that add noise at each step.
        origin: scaled latents to noise and start from, shape (b, c, h, w) (SDEdit, arXiv 2108.01073); None starts from
            pure noise.
        start: index of the first step, below `steps`.
        on_step: callback after each model call; latents that it returns replace the latents.
        constrain: function called after each model call, before `on_step`, whose result replaces the latents.

    Returns:
        Denoised latents in the scale of the autoencoder's scaled latents, shape (b, c, h, w).
    """
    _set_timesteps(scheduler, steps, noise.device)
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
            changed = on_step(number, x)
            x = changed if isinstance(changed, Tensor) else x
    return x


def _add_noise(scheduler: Any, noise: Tensor, timesteps: Tensor, clean: Tensor) -> Tensor:
    """Noise clean latents to the level of `timesteps`; unchanged if there are none."""
    noised: Tensor = scheduler.add_noise(clean, noise, timesteps) if len(timesteps) else clean
    return noised


def count_model_calls(scheduler: Any, steps: int) -> int:
    """Number of model calls in a run of `steps` denoising steps, see `steps_of_calls`."""
    _set_timesteps(scheduler, steps)
    return len(scheduler.timesteps)


def steps_of_calls(scheduler: Any, steps: int) -> list[int]:
    """The denoising step, from 0, that each model call of a run of `steps` denoising steps belongs to.

    Heun's method calls the model twice a step and once in the last; PLMS twice in the first, which it begins with
    Heun's method, too; the others once.
    """
    calls = range(count_model_calls(scheduler, steps))
    if scheduler.order > 1:
        return [call // scheduler.order for call in calls]
    return [max(0, call - max(0, len(calls) - steps)) for call in calls]


def _set_timesteps(scheduler: Any, steps: int, device: torch.device | None = None) -> None:
    """Prepare a scheduler for a run of so many denoising steps.

    Raises:
        ConfigError: the scheduler does not take so many.
    """
    try:
        scheduler.set_timesteps(steps, device=device)
    except ValueError as error:  # LCM's training schedule has 50 steps
        raise ConfigError(
            f"steps={steps} cannot be used with this scheduler ({one_line(error, 120)})", "Give fewer steps",
            arguments=["steps"],
        ) from None  # fmt: skip


def make_scheduler(scheduler: Any, name: str) -> Any:
    """Make a scheduler by name, with the noise schedule and prediction type of a model's own scheduler.

    Args:
        scheduler: scheduler that came with the model.
        name: key of `ip2p.settings.SCHEDULERS`.

    Raises:
        ConfigError: there is no scheduler of that name, or it does not know the model's noise schedule.
        ModelError: the model's scheduler is of another family, such as flow matching.
    """
    if name not in SCHEDULERS:
        raise ConfigError(f"there is no scheduler {name!r}", f"Give one of {', '.join(SCHEDULERS)}")
    if "prediction_type" not in scheduler.config or "beta_schedule" not in scheduler.config:
        raise ModelError(
            f"the model's scheduler is a {type(scheduler).__name__}, which has no noise schedule that we know",
            "Give a model of Stable Diffusion 1, 2 or XL, or one trained with ip2p",
        )
    kind = getattr(diffusers, SCHEDULERS[name].diffusers_class)
    if scheduler.config.get(ZERO_SNR) and not _takes_zero_snr(name):
        others = ", ".join(filter(_takes_zero_snr, SCHEDULERS))
        raise ConfigError(
            f"scheduler={name} cannot start from pure noise, as this model does (zero terminal SNR)",
            f"Give scheduler=one of {others}", arguments=["scheduler"],
        )  # fmt: skip
    return kind.from_config(scheduler.config, **_LATENT_CONFIG, **SCHEDULERS[name].config)


def _takes_zero_snr(name: str) -> bool:
    """Whether a scheduler knows noise schedules that end without any signal (arXiv 2305.08891)."""
    return ZERO_SNR in inspect.signature(getattr(diffusers, SCHEDULERS[name].diffusers_class)).parameters
