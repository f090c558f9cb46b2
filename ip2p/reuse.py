"""Deep features of the UNet, computed now and then and reused between (the idea of DeepCache, arXiv 2312.00858).

The inner blocks see the picture coarsely, and what they say changes slowly from step to step. On a call that reuses
them only the outermost block on each side runs, which sees every detail of the latents.
"""

from types import TracebackType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ip2p.guidance import UNetCall


class FeatureReuse:
    """A UNet that runs whole every so many calls, and between them only its outermost blocks.

        with FeatureReuse(backbone.predict, backbone.unet, every=3) as predict:
            guidance = DualGuidance(predict, ...)

    Features belong to rows. A call reuses those of the rows that the last whole call began with: guidance puts the
    branch that it needs at every step first. A call of more rows is a whole one.

    Args:
        predict: calls the UNet.
        unet: UNet2DConditionModel, whose inner blocks are replaced until the context ends.
        every: calls from one whole call to the next; 1 reuses nothing.
    """

    def __init__(self, predict: UNetCall, unet: Any, every: int) -> None:
        self.predict = predict
        self.unet = unet
        self.every = every
        self._light = False
        self._deep: Tensor | None = None
        self._age = 0

    def __enter__(self) -> "FeatureReuse":
        if self.every > 1:
            for block in self.unet.down_blocks[1:]:
                block.forward = self._down(block, block.forward)
            for block in (self.unet.mid_block, *self.unet.up_blocks[:-2]):
                if block is not None:
                    block.forward = self._passed(block.forward)
            self.unet.up_blocks[-2].forward = self._kept(self.unet.up_blocks[-2].forward)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for block in (*self.unet.down_blocks[1:], self.unet.mid_block, *self.unet.up_blocks[:-1]):
            if block is not None:
                block.__dict__.pop("forward", None)  # the class's own shows again

    def __call__(
        self, x: Float[Tensor, "b c h w"], timestep: Tensor, text: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b k h w"]:
        """What the UNet predicts."""
        self._light = self._deep is not None and len(x) <= len(self._deep) and self._age < self.every
        self._age = self._age + 1 if self._light else 1
        return self.predict(x, timestep, text)

    def _down(self, block: Any, forward: Any) -> Any:
        """A block on the way down. The skips that it would give go to blocks that do not run either."""
        skips = len(block.resnets) + bool(block.downsamplers)
        return lambda hidden_states, *args, **kwargs: (
            (hidden_states, (hidden_states,) * skips) if self._light else forward(hidden_states, *args, **kwargs)
        )

    def _passed(self, forward: Any) -> Any:
        """A block in the middle or on the way up, whose result nobody uses on a light call."""
        return lambda hidden_states, *args, **kwargs: (
            hidden_states if self._light else forward(hidden_states, *args, **kwargs)
        )

    def _kept(self, forward: Any) -> Any:
        """The block before the outermost, whose result is what is kept."""

        def run(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if self._light:
                assert self._deep is not None
                return self._deep[: len(hidden_states)]
            self._deep = forward(hidden_states, *args, **kwargs)
            return self._deep

        return run
