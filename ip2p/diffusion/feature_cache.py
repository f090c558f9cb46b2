"""Deep features of the UNet, computed now and then and reused between (the idea of DeepCache, arXiv 2312.00858).

The inner blocks see the picture coarsely, and what they say changes slowly from step to step. On a call that reuses
them only what is outermost runs: the first convolution, which sees every detail of the latents, and the last layer on
the way up, which joins it with what was kept.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ip2p.conditioning import Conditioning
from ip2p.diffusion.guidance import UNetCall


class FeatureCache:
    """A UNet that runs whole every so many calls, and between them only its outermost layers.

        with FeatureCache(backbone.predict, backbone.unet, every=3) as predict:
            guidance = DualGuidance(predict, ...)

    Features belong to rows. A call reuses those of the rows that the last whole call began with: guidance puts the
    branch that it needs at every step first. A call of more rows is a whole one.

    Args:
        predict: calls the UNet.
        unet: UNet2DConditionModel, whose inner layers are replaced until the context ends.
        every: calls from one whole call to the next; 1 reuses nothing.
    """

    def __init__(self, predict: UNetCall, unet: Any, every: int) -> None:
        self.predict = predict
        self.unet = unet
        self.every = every
        self._stack = ExitStack()
        self._light = False
        self._deep: Tensor | None = None
        self._age = 0

    def __enter__(self) -> "FeatureCache":
        if self.every > 1:
            for block in self.unet.down_blocks:
                self._replace(block, partial(_skip_block, len(block.resnets) + bool(block.downsamplers)))
            *inner, outermost = self.unet.up_blocks
            for block in (self.unet.mid_block, *inner, *outermost.resnets[:-1]):
                if block is not None:
                    self._replace(block, lambda x: x)
            attentions = getattr(outermost, "attentions", [])[:-1]
            for attention in attentions:
                self._replace(attention, lambda x: (x,))
            last = attentions[-1] if attentions else outermost.resnets[-2]
            self._replace(last, lambda x: (self._cached_features(x),) if attentions else self._cached_features(x))
            self._stack.callback(last.register_forward_hook(self._store_features).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor, text: Conditioning) -> Float[Tensor, "b k h w"]:
        """What the UNet predicts."""
        self._light = self._deep is not None and len(x) <= len(self._deep) and self._age < self.every
        self._age = self._age + 1 if self._light else 1
        return self.predict(x, timestep, text)

    def _replace(self, module: Any, instead: Callable[[Tensor], Any]) -> None:
        """Let a module hand on what it is given, in the form of its results, on light calls."""
        forward = module.forward

        def run(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            return instead(hidden_states) if self._light else forward(hidden_states, *args, **kwargs)

        self._stack.enter_context(replace_forward(module, run))

    def _store_features(self, _module: Any, _inputs: Any, result: Any) -> None:
        """Take in what the last layer before the outermost gave."""
        if not self._light:
            self._deep = result[0] if isinstance(result, tuple) else result

    def _cached_features(self, x: Tensor) -> Tensor:
        """What was kept, for as many rows as x has."""
        assert self._deep is not None, "no call was whole"
        return self._deep[: len(x)]


def _skip_block(count: int, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """In the form of a block on the way down. Its skips go to layers that do not run either."""
    return x, (x,) * count


@contextmanager
def replace_forward(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside, a module computes by another function; after it by its own again, whatever happens."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward  # that of the class shows again
        if before is not None:
            module.forward = before
