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
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ip2p.errors import ModelError

PLAIN_PROCESSORS = (AttnProcessor, AttnProcessor2_0)


class SharedRows:
    """Knows which rows use the q, k and features of which others, and which rows are equal, at each denoising step.

    For each guidance condition there are all source rows and then all edited rows: [source x n, edited x n], once or
    several times. Pairs of one tree have the same captions, noise and guidance scale: their source rows are equal, and
    so are edited rows until one of them shares no more. Both pictures of a pair start from the same noise, so at the
    first model call their rows without text are equal. A UNet batch has the first of equal rows only, and none of
    dropped pairs.

    Args:
        fractions: p of each pair, 0 to 1.
        steps: number of denoising steps of the whole run.
        trees: name of each pair's tree; None if each pair is one of its own, and all rows are in the UNet's batch.

    Attributes:
        same_as: for each row with text, the first row that equals it at this step; None for rows of dropped pairs.
        dropped: pairs that are dropped.
    """

    same_as: list[int | None]

    def __init__(self, fractions: Sequence[float], steps: int, trees: Sequence[Hashable] | None = None) -> None:
        assert all(0 <= p <= 1 for p in fractions), f"shares {fractions} are not in [0, 1]"
        self.pairs = len(fractions)
        self.trees = tuple(range(self.pairs) if trees is None else trees)
        self._at_start = trees is not None  # until the first model call
        self.shared_steps = [sum(p > step / max(1, steps - 1) for step in range(steps)) for p in fractions]
        self.dropped: frozenset[int] = frozenset()
        self._prepare(0)

    @property
    def active(self) -> bool:
        """Whether any pair shares at this step."""
        return any(self._shared)

    def drop(self, pairs: Iterable[int]) -> None:
        """Drop further pairs from the next model call on."""
        self.dropped |= frozenset(pairs)
        self._prepare(self._step)

    def at(self, step: int) -> None:
        """Prepare for a model call after the first one, at a denoising step counted from 0."""
        self._at_start = False
        self._prepare(step)

    def _prepare(self, step: int) -> None:
        self._step = step
        self._shared = [shared > step for shared in self.shared_steps]
        edited = [min(shared, step + 1) for shared in self.shared_steps]  # steps shared so far, this one included
        states = [*((tree, None) for tree in self.trees), *zip(self.trees, edited, strict=True)]
        self.same_as = self._first_of(states)
        self._same_without_text = self._first_of([*self.trees] * 2) if self._at_start else self.same_as
        self._index = torch.empty(0, dtype=torch.long)  # computed in the first layer of the call

    def same_in_batch(self, branches: int) -> list[int | None]:
        """Return, for each row of all guidance conditions, the first row that equals it; None if it is not needed.

        Args:
            branches: number of guidance conditions; all but the first are without text.
        """
        return [
            None if first is None else branch * 2 * self.pairs + first
            for branch in range(branches)
            for first in (self._same_without_text if branch else self.same_as)
        ]

    def sources(self, rows: int) -> list[int]:
        """Return, for each row of a UNet batch, the row whose q, k and features it uses.

        Raises:
            ValueError: the number of rows is not that of one or several guidance conditions.
        """
        branches, same, computed = 0, list[int | None](), list[int]()
        while len(computed) < rows and branches <= rows:
            branches += 1
            same = self.same_in_batch(branches)
            computed = [row for row, first in enumerate(same) if row == first]
        if len(computed) != rows:
            raise ValueError(f"a batch of {rows} rows does not consist of whole guidance conditions")
        place: dict[int | None, int] = {row: number for number, row in enumerate(computed)}
        shares = [False] * self.pairs + self._shared
        return [
            place[same[row - self.pairs]] if shares[row % (2 * self.pairs)] else number
            for number, row in enumerate(computed)
        ]

    def _first_of(self, states: Sequence[Hashable]) -> list[int | None]:
        """Return, for each row, the first row of the same state; None for rows of dropped pairs."""
        first: dict[Hashable, int] = {}
        return [
            None if row % self.pairs in self.dropped else first.setdefault(state, row)
            for row, state in enumerate(states)
        ]

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
    unet: nn.Module,
    fractions: Sequence[float],
    steps: int,
    *,
    trees: Sequence[Hashable] | None = None,
    features: bool = False,
) -> Iterator[SharedRows]:
    """Let edited rows of a UNet's batches use the self-attention maps of their sources, inside this context.

    It sets hooks on the q and k projections of all self-attention layers, and removes them at the end; the attention
    processors of the UNet stay in place.

    Args:
        unet: UNet of Stable Diffusion's kind.
        fractions: p of each pair, 0 to 1.
        steps: number of denoising steps of the whole run.
        trees: name of each pair's tree, see SharedRows.
        features: whether to share the outputs of the decoder's residual blocks as well, except for the last one.

    Yields:
        The control; call its `at` before each denoising step.

    Raises:
        ModelError: the UNet has no self-attention, or computes it by a processor other than diffusers' plain ones.
    """
    modules: list[nn.Module] = [
        projection for layer in _self_attention(unet) for projection in (layer.to_q, layer.to_k)
    ]
    modules += _decoder_blocks(unet)[:-1] if features else []
    control = SharedRows(fractions, steps, trees)
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
