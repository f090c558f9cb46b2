"""Previews: the clean pictures that the model predicts at denoising steps, decoded during a run."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.diffusion.noise import ForwardProcess
from ip2p.diffusion.sampling import Denoise


class Previews(NamedTuple):
    """Interval and callback of previews.

    Args:
        every: number of model calls between previews, at least 1.
        show: callback that receives the index of the picture among the results, the number of the model call from 1,
            and the picture.
    """

    every: int
    show: Callable[[int, int, Image.Image], None]


class DenoiserWithPreviews:
    """A denoiser that also shows the clean pictures that follow from its predictions.

    Args:
        denoise: function that gives the model's prediction.
        process: forward process of the model.
        draw: function that decodes latents into pictures.
        previews: interval and callback.
    """

    def __init__(
        self, denoise: Denoise, process: ForwardProcess, draw: Callable[[Tensor], list[Image.Image]], previews: Previews
    ) -> None:
        self.denoise, self.process, self.draw, self.previews = denoise, process, draw, previews
        self.step = 0

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """The prediction of the denoiser, unchanged."""
        prediction = self.denoise(x, timestep)
        self.step += 1
        if self.step % self.previews.every == 0:
            for place, picture in enumerate(self.draw(self.process.clean_estimate(x, prediction, timestep))):
                self.previews.show(place, self.step, picture)
        return prediction
