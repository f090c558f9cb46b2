"""Previews and estimates: what the model predicts at a denoising step that the clean picture will be."""

from collections.abc import Callable, Sequence
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


class Estimates(NamedTuple):
    """Selection of the clean latents that a model predicts on its way, and a callback for them.

    Args:
        wanted: function from the number of a denoising step, from 1, to whether those of the step are wanted.
        receive: callback that receives the number of the step and the clean latents, shape (b, c, h, w).
    """

    wanted: Callable[[int], bool]
    receive: Callable[[int, Tensor], None]


class DenoiserWithEstimates:
    """A denoiser that also hands out the clean latents that follow from its predictions.

    Args:
        denoise: function that gives the model's prediction.
        process: forward process of the model.
        estimates: which estimates are wanted, and the callback.
        steps: number of the denoising step, from 1, of each model call; the estimate of a step is that of its first.
    """

    def __init__(self, denoise: Denoise, process: ForwardProcess, estimates: Estimates, steps: Sequence[int]) -> None:
        self.denoise, self.process, self.estimates, self.steps = denoise, process, estimates, steps
        self.calls = 0

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """The prediction of the denoiser, unchanged."""
        prediction = self.denoise(x, timestep)
        step, first = self.steps[self.calls], self.steps.index(self.steps[self.calls]) == self.calls
        self.calls += 1
        if first and self.estimates.wanted(step):
            self.estimates.receive(step, self.process.clean_estimate(x, prediction, timestep))
        return prediction
