"""Cached deep features of the UNet, computed at some calls and reused between (after DeepCache, arXiv 2312.00858).

The inner blocks work at low resolution, and their features change slowly from step to step. A call that reuses them
runs only the outermost layers: the first convolution, which sees every detail of the latents, and the last layer of
the last up block, which combines it with the cached features.
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
    """A UNet that runs completely at every n-th call, and only its outermost layers at the others.

        with FeatureCache(backbone.predict, backbone.unet, every=3) as predict:
            guidance = DualGuidance(predict, ...)

    Features belong to rows. A call of n rows reuses those of the first n rows of the last full call: guidance puts the
    branch that it needs at every step first. A call of more rows is a full one.

    Args:
        predict: UNet call.
        unet: UNet2DConditionModel whose inner layers are replaced until the context ends.
        every: number of calls from one full call to the next; 1 reuses nothing.
    """

    def __init__(self, predict: UNetCall, unet: Any, every: int) -> None:
        self.predict = predict
        self.unet = unet
        self.every = every
        self._stack = ExitStack()
        self._reuses = False
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
        """The prediction of the UNet."""
        self._reuses = self._deep is not None and len(x) <= len(self._deep) and self._age < self.every
        self._age = self._age + 1 if self._reuses else 1
        return self.predict(x, timestep, text)

    def _replace(self, module: Any, substitute: Callable[[Tensor], Any]) -> None:
        """Replace the forward function of a module by a substitute on calls that reuse features."""
        forward = module.forward

        def run(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            return substitute(hidden_states) if self._reuses else forward(hidden_states, *args, **kwargs)

        self._stack.enter_context(replace_forward(module, run))

    def _store_features(self, _module: Any, _inputs: Any, result: Any) -> None:
        """Forward hook that stores the output of the last layer before the outermost."""
        if not self._reuses:
            self._deep = result[0] if isinstance(result, tuple) else result

    def _cached_features(self, x: Tensor) -> Tensor:
        """The cached features of the first rows, as many as x has."""
        assert self._deep is not None, "no full call was made"
        return self._deep[: len(x)]


def _skip_block(count: int, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Substitute for a down block. Its skip connections go to layers that do not run either."""
    return x, (x,) * count


@contextmanager
def replace_forward(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Context manager that replaces the forward function of a module."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward  # uncovers the method of the class
        if before is not None:
            module.forward = before
