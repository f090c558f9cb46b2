"""Randomness as an argument: one generator per sample, from (run seed, stage, record id, index).

So sample k is the same whatever the batch size, the order, the number of machines, or how often a run was stopped.
"""

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Tensor


def derive_seed(run_seed: int, stage: str, record_id: str, index: int = 0) -> int:
    """A seed in [0, 2^63) from the SHA-256 of its arguments; equal arguments give equal seeds on every machine."""
    key = json.dumps([run_seed, stage, record_id, index])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def generator(
    run_seed: int, stage: str, record_id: str, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator of its own for one sample of one stage, seeded by `derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(run_seed, stage, record_id, index))


def randn(
    shape: tuple[int, ...],
    generators: Sequence[torch.Generator],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal noise (b, *shape), where row k comes from generators[k] alone.

    Drawn in fp32 where the generator lives (the CPU, as a rule) and then moved and rounded, so that a seed means the
    same noise for every device and precision.

    Args:
        shape: of one row, without the batch.
        generators: one for each row; the same one may stand for several rows, which it then serves in order.
        dtype: of the result.
        device: of the result.
    """
    rows = [torch.randn(shape, generator=source, device=source.device) for source in generators]
    return torch.stack(rows).to(device=device, dtype=dtype) if rows else torch.empty((0, *shape), dtype=dtype)
