"""What cross-attention makes of texts, computed once for an edit and not at every step."""

from collections import OrderedDict
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple

from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor

from ip2p.conditioning import Conditioning
from ip2p.diffusion.feature_cache import replace_forward
from ip2p.diffusion.guidance import UNetCall

MAX_BATCHES = 4
"""Batches of texts that are remembered: schedules of guidance alternate between a few."""


class CachedText(NamedTuple):
    """A batch of texts, and the keys and values that layers made of it."""

    text: Conditioning
    made: dict[Any, Tensor]


class TextCache:
    """A UNet that remembers the keys and values of its cross-attention for as long as it is given the same texts.

        with TextCache(backbone.predict, backbone.unet) as predict:
            guidance = DualGuidance(predict, ...)

    The same texts are the same object, which must not change meanwhile. Results are those of the UNet to the bit.

    Args:
        predict: calls the UNet.
        unet: UNet2DConditionModel, whose layers for keys and values are replaced until the context ends.
        max_batches: batches of texts to remember; 0 replaces nothing.
    """

    def __init__(self, predict: UNetCall, unet: Any, *, max_batches: int = MAX_BATCHES) -> None:
        self.predict = predict
        self.unet = unet
        self.max_batches = max_batches
        self._cached: OrderedDict[int, CachedText] = OrderedDict()
        self._made: dict[Any, Tensor] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "TextCache":
        for module in self.unet.modules() if self.max_batches else ():
            if isinstance(module, Attention) and module.is_cross_attention:
                for layer in (module.to_k, module.to_v):
                    self._stack.enter_context(replace_forward(layer, self._cache_forward(layer)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._cached.clear()

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor, text: Conditioning) -> Float[Tensor, "b k h w"]:
        """What the UNet predicts."""
        key = id(text)  # kept here, so no other object can have it
        self._made = self._cached.setdefault(key, CachedText(text, {})).made
        self._cached.move_to_end(key)
        if len(self._cached) > self.max_batches:
            self._cached.popitem(last=False)
        return self.predict(x, timestep, text)

    def _cache_forward(self, layer: Any) -> Any:
        """The layer's forward, computed once for each batch of texts."""
        forward = layer.forward

        def run(text: Tensor) -> Tensor:
            if layer not in self._made:
                self._made[layer] = forward(text)
            return self._made[layer]

        return run
