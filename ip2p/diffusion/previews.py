"""What an editor is heading for while it draws: the picture that it predicts at a step, before any further step."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.diffusion.sampling import Denoise


class Previews(NamedTuple):
    """Who is shown predicted pictures, and how often.

    Args:
        every: so many steps.
        show: told the place of the picture among the results, the number of the step from 1, and the picture.
    """

    every: int
    show: Callable[[int, int, Image.Image], None]


class DenoiserWithPreviews:
    """A model's prediction, watched on its way to the sampler.

    Args:
        denoise: predicts for latents that the scheduler has scaled.
        scheduler: of `make_scheduler`.
        draw: pictures of latents.
        previews: whom to show them to.
    """

    def __init__(
        self, denoise: Denoise, scheduler: Any, draw: Callable[[Tensor], list[Image.Image]], previews: Previews
    ) -> None:
        self.denoise, self.scheduler, self.draw, self.previews = denoise, scheduler, draw, previews
        self.step = 0

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """The prediction, unchanged."""
        prediction = self.denoise(x, timestep)
        self.step += 1
        if self.step % self.previews.every == 0:
            for place, picture in enumerate(self.draw(clean_latents(self.scheduler, x, timestep, prediction))):
                self.previews.show(place, self.step, picture)
        return prediction


def clean_latents(
    scheduler: Any, x: Float[Tensor, "b c h w"], timestep: Tensor, prediction: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """Latents without the noise that a prediction sees in them.

    With x = a z + s e and a^2 + s^2 = 1: z = (x - s e) / a for a model that predicts the noise e, z = a x - s v for one
    that predicts v = a e - s z (arXiv 2202.00512), and z for one that predicts it.

    Args:
        scheduler: tells the noise schedule, and what is predicted.
        x: as the model sees them: of variance one, whatever the scheduler.
        timestep: of x.
        prediction: of the model.
    """
    kept: Tensor = scheduler.alphas_cumprod.to(x)[timestep.round().long()]
    a, s = kept.sqrt(), (1 - kept).sqrt()
    match scheduler.config.prediction_type:
        case "epsilon":
            return (x - s * prediction) / a
        case "v_prediction":
            return a * x - s * prediction
        case _:
            return prediction
