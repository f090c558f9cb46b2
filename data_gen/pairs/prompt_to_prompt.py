"""Prompt-to-Prompt as the authors of InstructPix2Pix released it: pairs of pictures that share self-attention.

For the first fraction p of the steps the edited picture attends with the source's self-attention maps, in all layers
and in both halves of guidance; cross-attention stays its own. A map is softmax(q k^T / sqrt(d)), so taking the source's
map is taking the source's q and k, with the edited picture's own v: no map is ever materialised, every attention kernel
serves, and a batch holds any number of pairs.

Stable Diffusion's self-attention carries the layout. In a small convolutional UNet the residual blocks carry it, and
shared attention alone holds nothing (measured: docs/decisions.md). There the edited picture can take the source's
features too, from the decoder's residual blocks, as Plug-and-Play does (Tumanyan et al., arXiv 2211.12572).
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
    """Says which rows of a UNet batch take what from whom; `at` moves it from step to step.

    A batch holds, for each half of guidance, all source rows and then all edited rows: [source x n, edited x n] once or
    several times.

    Args:
        fractions: p of each pair, 0 to 1: shared while step < p * steps.
        steps: number of denoising steps.
    """

    def __init__(self, fractions: Sequence[float], steps: int) -> None:
        assert all(0 <= p <= 1 for p in fractions), f"shares {fractions} are not in [0, 1]"
        self.fractions = tuple(fractions)
        self.steps = steps
        self.at(0)

    @property
    def pairs(self) -> int:
        """Pairs in the batch."""
        return len(self.fractions)

    @property
    def active(self) -> bool:
        """Whether any pair shares at this step."""
        return any(self._shared)

    def at(self, step: int) -> None:
        """Make ready for a step, counted from 0."""
        self._shared = tuple(step < p * self.steps for p in self.fractions)
        self._index = torch.empty(0, dtype=torch.long)  # made at the first layer of the step, for all of its layers

    def sources(self, rows: int) -> list[int]:
        """For each row of a UNet batch, the row whose q, k and features it uses.

        Raises:
            ValueError: the rows are not whole halves of all pairs.
        """
        half = 2 * self.pairs
        if rows % half:
            raise ValueError(f"a batch of {rows} rows does not consist of halves of {half} rows")
        edited = [pair if shared else self.pairs + pair for pair, shared in enumerate(self._shared)]
        return [start + row for start in range(0, rows, half) for row in (*range(self.pairs), *edited)]

    def __call__(self, own: Tensor) -> Tensor:
        """What each row uses, of what all rows have: q or k (rows, tokens, channels), features (rows, c, h, w)."""
        if not self.active:
            return own
        if len(self._index) != len(own):
            self._index = torch.tensor(self.sources(len(own)), device=own.device)
        return own[self._index]


@contextmanager
def share_with_source(
    unet: nn.Module, fractions: Sequence[float], steps: int, *, features: bool = False
) -> Iterator[SharedRows]:
    """While the block runs, edited rows of the UNet's batches attend as their sources do.

    Hooks on the q and k projections of all self-attention layers do it, and are gone when the block ends, however it
    ends; the processors that the UNet has stay in place.

    Args:
        unet: a UNet of Stable Diffusion's kind.
        fractions: p of each pair, 0 to 1.
        steps: number of denoising steps.
        features: share the outputs of the decoder's residual blocks as well, of all but the last one.

    Yields:
        The control; call its `at` before each step.

    Raises:
        ModelError: the UNet has no self-attention, or computes it by a processor that is not diffusers' plain one.
    """
    modules: list[nn.Module] = [
        projection for layer in _self_attention(unet) for projection in (layer.to_q, layer.to_k)
    ]
    modules += _decoder_blocks(unet)[:-1] if features else []
    control = SharedRows(fractions, steps)
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
    """All self-attention layers, checked to compute q and k from their own projections."""
    layers = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, Attention) and not module.is_cross_attention
    }
    if not layers:
        raise ModelError("the UNet has no self-attention to share", "Take a UNet of Stable Diffusion's kind")
    for name, layer in layers.items():
        # Exactly these: their subclasses and rivals (xformers, fused projections) were never tried with shared q and k.
        if type(layer.processor) not in PLAIN_PROCESSORS:
            raise ModelError(
                f"Prompt-to-Prompt cannot be installed over {type(layer.processor).__name__} in {name}",
                "Switch it off first: unet.set_default_attn_processor(), or unet.unfuse_qkv_projections()",
            )
    return list(layers.values())


def _decoder_blocks(unet: nn.Module) -> list[nn.Module]:
    """The residual blocks of the decoder, from the lowest resolution to the highest."""
    return [
        module
        for name, module in unet.named_modules()
        if isinstance(module, ResnetBlock2D) and name.startswith("up_blocks.")
    ]
