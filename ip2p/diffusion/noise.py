"""The forward process: noising of latents, training targets, and the clean latents that follow from a prediction.

With a = cumulative product of 1 - beta at a timestep, clean latents z and noise e (arXiv 2006.11239, equation 4):

    x = sqrt(a) z + sqrt(1 - a) e

A model predicts e ("epsilon"), z ("sample"), or v = sqrt(a) e - sqrt(1 - a) z ("v_prediction", arXiv 2202.00512).
"""

from typing import Any

from diffusers import DDPMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from ip2p.errors import ModelError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


class ForwardProcess:
    """The forward process that a model's scheduler reverses, by diffusers' DDPMScheduler.

    Args:
        scheduler: any diffusers scheduler of a diffusion model; its config has the noise schedule and the prediction
            type.

    Raises:
        ModelError: the scheduler is for another kind of model, such as flow matching.
    """

    def __init__(self, scheduler: Any) -> None:
        self.prediction_type = getattr(scheduler, "config", {}).get("prediction_type")
        if self.prediction_type not in PREDICTION_TYPES:
            raise ModelError(
                f"the model's scheduler is a {type(scheduler).__name__} that predicts {self.prediction_type!r}",
                f"Give a model that predicts {', '.join(PREDICTION_TYPES[:-1])} or {PREDICTION_TYPES[-1]}",
            )
        self.scheduler: Any = DDPMScheduler.from_config(scheduler.config)

    @property
    def timesteps(self) -> int:
        """Number of training timesteps of the noise schedule."""
        return int(self.scheduler.config.num_train_timesteps)

    def add_noise(
        self, clean: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """Noise clean latents to each row's timestep."""
        noised: Tensor = self.scheduler.add_noise(clean, noise, timesteps)
        return noised

    def target(
        self, clean: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """The training target: e, z or v, by the prediction type."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return clean
        velocity: Tensor = self.scheduler.get_velocity(clean, noise, timesteps)
        return velocity

    def clean_estimate(
        self, x: Float[Tensor, "b c h w"], prediction: Float[Tensor, "b c h w"], timestep: Tensor
    ) -> Float[Tensor, "b c h w"]:
        """The clean latents that follow from a prediction: (x - sqrt(1-a) e) / sqrt(a), z, or sqrt(a) x - sqrt(1-a) v.

        Args:
            x: noisy latents as the model sees them, of variance one for every scheduler.
            prediction: model's prediction for x.
            timestep: timestep of all rows, a scalar, rounded to a training timestep.
        """
        if self.prediction_type == "sample":
            return prediction
        at = timestep.round().long().reshape(1)
        estimate: Tensor
        if self.prediction_type == "v_prediction":  # z is to (x, v) as v is to (e, z)
            estimate = self.scheduler.get_velocity(prediction, x, at)
            return estimate
        alpha = self.scheduler.alphas_cumprod.to(x)[at]
        estimate = (x - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
        return estimate
