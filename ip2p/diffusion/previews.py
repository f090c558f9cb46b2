"""Previews: the clean picture that the model predicts at a denoising step, decoded while the run goes on."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.diffusion.noise import ForwardProcess
from ip2p.diffusion.sampling import Denoise


class Previews(NamedTuple):
    """How often predicted pictures are shown, and to whom.

    Args:
        every: model calls between previews, at least 1.
        show: called with the place of the picture among the results, the number of the call from 1, and the picture.
    """

    every: int
    show: Callable[[int, int, Image.Image], None]


class DenoiserWithPreviews:
    """A denoiser that shows the clean pictures which its predictions stand for.

    Args:
        denoise: the model's prediction for latents that the scheduler has scaled.
        process: forward process of the model.
        draw: decodes latents into pictures.
        previews: receives the pictures.
    """

    def __init__(
        self, denoise: Denoise, process: ForwardProcess, draw: Callable[[Tensor], list[Image.Image]], previews: Previews
    ) -> None:
        self.denoise, self.process, self.draw, self.previews = denoise, process, draw, previews
        self.step = 0

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """The prediction, unchanged."""
        prediction = self.denoise(x, timestep)
        self.step += 1
        if self.step % self.previews.every == 0:
            for place, picture in enumerate(self.draw(self.process.clean_estimate(x, prediction, timestep))):
                self.previews.show(place, self.step, picture)
        return prediction
