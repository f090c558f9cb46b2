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
        every: number of denoising steps between previews, at least 1.
        show: callback that receives the index of the picture among the results, the number of the denoising step from
            1, and the picture.
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
        order: model calls in a denoising step, 2 for Heun's method; the first one is shown.
    """

    def __init__(
        self, denoise: Denoise, process: ForwardProcess, draw: Callable[[Tensor], list[Image.Image]],
        previews: Previews, order: int = 1,
    ) -> None:  # fmt: skip
        self.denoise, self.process, self.draw, self.previews, self.order = denoise, process, draw, previews, order
        self.calls = 0

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """The prediction of the denoiser, unchanged."""
        prediction = self.denoise(x, timestep)
        step, later = divmod(self.calls, self.order)
        self.calls += 1
        if not later and (step + 1) % self.previews.every == 0:
            for place, picture in enumerate(self.draw(self.process.clean_estimate(x, prediction, timestep))):
                self.previews.show(place, step + 1, picture)
        return prediction
