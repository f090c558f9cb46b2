"""Convolutions for a CPU whose weights are kept in the layout that they are computed in.

A plain convolution of PyTorch brings its weights into the processor's layout at every call. Where a UNet has many
channels and few pixels that takes as long as computing does: half of the time of Stable Diffusion's innermost
convolutions. Here it is done once for each size of input, as `torch.compile` does when it freezes weights, at the cost
of memory. Results differ from plain ones in rounding alone.
"""

import platform
from collections import OrderedDict

import psutil
import torch
from torch import Tensor, nn

MAX_PIXELS = 1024
"""Pixels of all rows of an input; with more, computing takes so long that the layout does not matter."""
MAX_SIZES = 3
"""Sizes of input that a convolution keeps weights for: edits take one to three rows a picture."""
MAX_BYTES = 2 * 2**30
"""Of all packed weights of an editor; and never more than half of the memory that is free."""


class MemoryBudget:
    """Memory that convolutions share."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Whether there is so much; it is taken then."""
        enough = size <= self.left
        self.left -= size if enough else 0
        return enough


class PackedConv2d(nn.Conv2d):
    """A convolution that keeps its weight in layouts for the last sizes of input, besides the plain one."""

    packed: OrderedDict[torch.Size, Tensor]
    budget: MemoryBudget

    def forward(self, input: Tensor) -> Tensor:
        """As a plain convolution: pictures (b, c, h, w)."""
        weight = self._weight_for(input.shape) if input.is_cpu else None
        if weight is None:
            return super().forward(input)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            input, weight, self.bias, self.padding, self.stride, self.dilation, self.groups, "none", [], ""
        )
        return result

    def _weight_for(self, shape: torch.Size) -> Tensor | None:
        """The weight packed for a size of input; None if that is not worth its memory."""
        if shape in self.packed:
            self.packed.move_to_end(shape)
            return self.packed[shape]
        if shape[0] * shape[2] * shape[3] > MAX_PIXELS:
            return None
        if len(self.packed) == MAX_SIZES:
            self.packed.popitem(last=False)
        elif not self.budget.take(self.weight.nbytes):
            return None
        self.packed[shape] = torch.ops.mkldnn._reorder_convolution_weight(
            self.weight.detach(), self.padding, self.stride, self.dilation, self.groups, list(shape)
        )
        return self.packed[shape]


def pack_convolutions(*networks: nn.Module, max_bytes: int = MAX_BYTES) -> None:
    """Let the convolutions of networks pack their weights, where they lie in fp32 on an x86 processor.

    Args:
        networks: changed in place, and for inference alone from now on: weights must not change any more.
        max_bytes: bytes of packed weights, of all of them together.
    """
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    if not there or platform.machine() not in ("x86_64", "AMD64"):
        return
    budget = MemoryBudget(min(max_bytes, psutil.virtual_memory().available // 2))
    for conv in (module for network in networks for module in network.modules()):
        if type(conv) is not nn.Conv2d or conv.weight.device.type != "cpu" or conv.weight.dtype != torch.float32:
            continue
        if conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
            conv.__class__ = PackedConv2d
            vars(conv).update(packed=OrderedDict(), budget=budget)
