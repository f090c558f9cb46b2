"""Convolutions on a CPU with weights packed in oneDNN's layout.

A plain convolution of PyTorch reorders its weights into the processor's layout at every call. With many channels and
few pixels this takes as long as computing: half of the time of Stable Diffusion's innermost convolutions. Here it is
done once for each input size, as in `torch.compile` with frozen weights, at the cost of memory. Results differ from
plain ones only in rounding.
"""

import platform
from collections import OrderedDict

import psutil
import torch
from torch import Tensor, nn

MAX_PACKED_PIXELS = 1024
"""Limit of the pixels of all rows of an input; with more, the time of reordering does not matter."""
MAX_SIZES = 3
"""Number of input sizes that a convolution keeps packed weights for: edits take one to three rows a picture."""
MAX_PACKED_BYTES = 2 * 2**30
"""Limit of the bytes of all packed weights, besides half of the free memory."""


class MemoryBudget:
    """Bytes that convolutions share for their packed weights."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Take `size` bytes; False if there are not enough."""
        enough = size <= self.left
        self.left -= size if enough else 0
        return enough


class PackedConv2d(nn.Conv2d):
    """A convolution that keeps its weight packed for the last input sizes, besides the plain weight."""

    packed: OrderedDict[torch.Size, Tensor]
    budget: MemoryBudget

    def forward(self, input: Tensor) -> Tensor:
        """Convolve an input of shape (b, c, h, w)."""
        weight = self._weight_for(input.shape) if input.is_cpu else None
        if weight is None:
            return super().forward(input)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            input, weight, self.bias, self.padding, self.stride, self.dilation, self.groups, "none", [], ""
        )
        return result

    def _weight_for(self, shape: torch.Size) -> Tensor | None:
        """The weight packed for an input size; None if it is not to be packed."""
        if shape in self.packed:
            self.packed.move_to_end(shape)
            return self.packed[shape]
        if shape[0] * shape[2] * shape[3] > MAX_PACKED_PIXELS:
            return None
        if len(self.packed) == MAX_SIZES:
            self.packed.popitem(last=False)
        elif not self.budget.take(self.weight.nbytes):
            return None
        self.packed[shape] = torch.ops.mkldnn._reorder_convolution_weight(
            self.weight.detach(), self.padding, self.stride, self.dilation, self.groups, list(shape)
        )
        return self.packed[shape]


def pack_convolutions(*networks: nn.Module, max_bytes: int = MAX_PACKED_BYTES) -> None:
    """Let the fp32 convolutions of networks on an x86 processor pack their weights.

    Args:
        networks: networks to change in place, for inference only: their weights must not change afterwards.
        max_bytes: limit of the bytes of all packed weights.
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
