"""Prompt-to-Prompt as released by the authors of InstructPix2Pix: pairs of pictures that share self-attention.

While p > i / (S - 1), with i the denoising step of S, the edited picture uses the source's self-attention maps, in all
layers and with and without text; its cross-attention is its own. A map is softmax(q k^T / sqrt(d)), so using the
source's map means using the source's q and k with the edited picture's own v. No map is ever materialized, every
attention kernel works, and a batch may have any number of pairs.

In Stable Diffusion, self-attention determines the layout. In a small convolutional UNet the residual blocks do, and
shared attention alone does not keep it (measured in docs/decisions.md). There the edited picture can also use the
source's features from the decoder's residual blocks, as in Plug-and-Play (Tumanyan et al., arXiv 2211.12572).
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ip2p.errors import ModelError

PLAIN_PROCESSORS = (AttnProcessor, AttnProcessor2_0)


class SharedRows:
    """Maps the rows of a UNet batch to the rows whose q, k and features they use, at each model call.

    For each guidance condition, a batch has all source rows and then all edited rows: [source x n, edited x n] once or
    several times.

    Args:
        fractions: p of each pair, 0 to 1.
        steps: number of denoising steps of the whole run.
        order: number of model calls in a step: 1, or 2 with Heun's method, whose last step has one.
    """

    def __init__(self, fractions: Sequence[float], steps: int, order: int = 1) -> None:
        assert all(0 <= p <= 1 for p in fractions), f"shares {fractions} are not in [0, 1]"
        self.fractions = tuple(fractions)
        self.steps, self.order = steps, order
        self.at(0)

    @property
    def pairs(self) -> int:
        """Number of pairs in the batch."""
        return len(self.fractions)

    @property
    def active(self) -> bool:
        """Whether any pair shares at this model call."""
        return any(self._shared)

    def at(self, call: int) -> None:
        """Prepare for a model call, counted from 0."""
        progress = call // self.order / max(1, self.steps - 1)
        self._shared = tuple(p > progress for p in self.fractions)
        self._index = torch.empty(0, dtype=torch.long)  # computed in the first layer of the call

    def sources(self, rows: int) -> list[int]:
        """Return, for each row of a UNet batch, the row whose q, k and features it uses.

        Raises:
            ValueError: the number of rows is not a multiple of twice the number of pairs.
        """
        half = 2 * self.pairs
        if rows % half:
            raise ValueError(f"a batch of {rows} rows does not consist of halves of {half} rows")
        edited = [pair if shared else self.pairs + pair for pair, shared in enumerate(self._shared)]
        return [start + row for start in range(0, rows, half) for row in (*range(self.pairs), *edited)]

    def __call__(self, own: Tensor) -> Tensor:
        """Replace the rows of edited pictures by those of their sources.

        Args:
            own: q or k, shape (rows, tokens, channels), or features, shape (rows, c, h, w).
        """
        if not self.active:
            return own
        if len(self._index) != len(own):
            self._index = torch.tensor(self.sources(len(own)), device=own.device)
        return own[self._index]


@contextmanager
def share_with_source(
    unet: nn.Module, fractions: Sequence[float], steps: int, *, order: int = 1, features: bool = False
) -> Iterator[SharedRows]:
    """Let edited rows of a UNet's batches use the self-attention maps of their sources, inside this context.

    It sets hooks on the q and k projections of all self-attention layers, and removes them at the end; the attention
    processors of the UNet stay in place.

    Args:
        unet: UNet of Stable Diffusion's kind.
        fractions: p of each pair, 0 to 1.
        steps: number of denoising steps of the whole run.
        order: number of model calls in a step, the scheduler's order.
        features: whether to share the outputs of the decoder's residual blocks as well, except for the last one.

    Yields:
        The control; call its `at` before each model call.

    Raises:
        ModelError: the UNet has no self-attention, or computes it by a processor other than diffusers' plain ones.
    """
    modules: list[nn.Module] = [
        projection for layer in _self_attention(unet) for projection in (layer.to_q, layer.to_k)
    ]
    modules += _decoder_blocks(unet)[:-1] if features else []
    control = SharedRows(fractions, steps, order)
    handles = []
    try:
        for module in modules:
            handles.append(module.register_forward_hook(functools.partial(_replace, control)))
        yield control
    finally:
        for handle in handles:
            handle.remove()


def _replace(control: SharedRows, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return control(output)


def _self_attention(unet: nn.Module) -> list[Attention]:
    """Return all self-attention layers, after checking that they compute q and k by their own projections."""
    layers = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, Attention) and not module.is_cross_attention
    }
    if not layers:
        raise ModelError("the UNet has no self-attention to share", "Take a UNet of Stable Diffusion's kind")
    for name, layer in layers.items():
        # Subclasses and other processors (xformers, fused projections) are untested with shared q and k.
        if type(layer.processor) not in PLAIN_PROCESSORS:
            raise ModelError(
                f"Prompt-to-Prompt cannot be installed over {type(layer.processor).__name__} in {name}",
                "Switch it off first: unet.set_default_attn_processor(), or unet.unfuse_qkv_projections()",
            )
    return list(layers.values())


def _decoder_blocks(unet: nn.Module) -> list[nn.Module]:
    """Return the residual blocks of the decoder, from the lowest resolution to the highest."""
    return [
        module
        for name, module in unet.named_modules()
        if isinstance(module, ResnetBlock2D) and name.startswith("up_blocks.")
    ]
