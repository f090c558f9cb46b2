"""Cached cross-attention keys and values, computed once for a run and not at every denoising step."""

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
"""Batches of texts that are cached: guidance schedules alternate between a few."""


class CachedText(NamedTuple):
    """A batch of texts with its cross-attention keys and values.

    Args:
        text: embedded texts.
        projections: outputs of the projection layers to_k and to_v, by layer.
    """

    text: Conditioning
    projections: dict[Any, Tensor]


class TextCache:
    """A UNet that caches the keys and values of its cross-attention while the texts stay the same.

        with TextCache(backbone.predict, backbone.unet) as predict:
            guidance = DualGuidance(predict, ...)

    Texts are compared by identity and must not change. Results equal those of the UNet to the bit.

    Args:
        predict: UNet call.
        unet: UNet2DConditionModel whose layers for keys and values are replaced until the context ends.
        max_batches: number of batches of texts to cache; 0 disables the cache.
    """

    def __init__(self, predict: UNetCall, unet: Any, *, max_batches: int = MAX_BATCHES) -> None:
        self.predict = predict
        self.unet = unet
        self.max_batches = max_batches
        self._cached: OrderedDict[int, CachedText] = OrderedDict()
        self._projections: dict[Any, Tensor] = {}
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
        """The prediction of the UNet."""
        key = id(text)  # the cache keeps the object alive, so no other one can get its id
        self._projections = self._cached.setdefault(key, CachedText(text, {})).projections
        self._cached.move_to_end(key)
        if len(self._cached) > self.max_batches:
            self._cached.popitem(last=False)
        return self.predict(x, timestep, text)

    def _cache_forward(self, layer: Any) -> Any:
        """Make a forward function that computes a layer once for each batch of texts."""
        forward = layer.forward

        def run(text: Tensor) -> Tensor:
            if layer not in self._projections:
                self._projections[layer] = forward(text)
            return self._projections[layer]

        return run
