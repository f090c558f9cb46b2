"""Seeds and random generators: one generator for each sample, from (run seed, stage, record id, index).

So sample k is the same whatever the batch size, the order, the number of machines, or how often a run was stopped.
"""

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Tensor


def derive_seed(run_seed: int, stage: str, record_id: str, index: int = 0) -> int:
    """Derive a seed in [0, 2^63) from the SHA-256 of its arguments; it is the same on every machine."""
    key = json.dumps([run_seed, stage, record_id, index])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def generator(
    run_seed: int, stage: str, record_id: str, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Make the generator of one sample of one stage, seeded by `derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(run_seed, stage, record_id, index))


def randn(
    shape: tuple[int, ...],
    generators: Sequence[torch.Generator],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw standard normal noise, shape (b, *shape), whose row k comes from generators[k] alone.

    It is drawn in fp32 on the generator's device (usually the CPU), then moved and rounded, so that a seed gives the
    same noise on every device and in every precision.

    Args:
        shape: shape of one row, without the batch dimension.
        generators: one generator for each row; one that is given for several rows draws them in order.
        dtype: data type of the result.
        device: device of the result.
    """
    rows = [torch.randn(shape, generator=source, device=source.device) for source in generators]
    return torch.stack(rows).to(device=device, dtype=dtype) if rows else torch.empty((0, *shape), dtype=dtype)
