"""The noise schedule and the prediction type that a run trains with, recorded in the scheduler that it saves."""

import inspect
from typing import Any, Literal

from diffusers import DDIMScheduler

from ip2p.errors import ConfigError

Prediction = Literal["base", "epsilon", "v_prediction"]


def suit_scheduler(scheduler: Any, *, prediction_type: Prediction, zero_terminal_snr: bool) -> Any:
    """Return the scheduler to train with and to save: the base model's, or a copy with other settings.

    v-prediction trains on v = sqrt(a) e - sqrt(1 - a) z (Salimans and Ho, arXiv 2202.00512, appendix D), whatever the
    base model predicts; a base of another prediction type has to learn the new one.

    With zero terminal SNR, sqrt(a) is shifted and scaled so that it is 0 at the last timestep and unchanged at the
    first (Lin et al., arXiv 2305.08891, algorithm 1): the model then learns to begin from pure noise, as it does when
    it draws. Sampling has to begin at this last timestep, so the timesteps are spaced "trailing" (section 3.3), which
    the saved scheduler says. The noise alone tells nothing of the picture there, so epsilon cannot be predicted.

    Args:
        scheduler: scheduler of the base model.
        prediction_type: what the model learns to predict; base for what the base model predicts.
        zero_terminal_snr: whether the last timestep is pure noise.

    Raises:
        ConfigError: zero terminal SNR, and epsilon is predicted.
    """
    changes: dict[str, Any] = {}
    if prediction_type != "base":
        changes["prediction_type"] = prediction_type
    if zero_terminal_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    predicted = changes.get("prediction_type", scheduler.config.get("prediction_type"))
    if (zero_terminal_snr or scheduler.config.get("rescale_betas_zero_snr")) and predicted == "epsilon":
        raise ConfigError(
            "with zero_terminal_snr the last timestep is pure noise, of which epsilon says nothing",
            "Give prediction_type=v_prediction, too",
        )
    if all(scheduler.config.get(name) == value for name, value in changes.items()):
        return scheduler
    if changes.keys() <= inspect.signature(type(scheduler)).parameters.keys():
        return type(scheduler).from_config(scheduler.config, **changes)
    # A sampler that does not know a setting would record it and ignore it. Clipping is for pixels, not for latents.
    return DDIMScheduler.from_config(scheduler.config, clip_sample=False, set_alpha_to_one=False, **changes)
