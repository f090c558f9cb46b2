"""What to compute on and in: the best device, a number format asked for or measured, and a UNet compiled by torch.

Processors differ. bf16 autocast trains 1.5 times faster than fp32 on a CPU with AVX-512-BF16 and 10 to 17 times slower
on one without, where it is emulated; no name of a processor tells it as reliably as two steps of the real work.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

from ip2p.errors import ConfigError

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# A first bf16 step this much slower than fp32 decides by itself: where bf16 is emulated a second one costs a minute.
GIVE_UP_RATIO = 3.0


def best_device() -> torch.device:
    """cuda, then mps, then cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def precision_name(dtype: torch.dtype) -> str:
    """The short name of a format: fp32, bf16 or fp16."""
    return next(name for name, known in PRECISIONS.items() if known == dtype)


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """Autocast to `dtype` on `device`; no change at all for fp32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def choose_precision(
    step: Callable[[], None],
    *,
    device: torch.device,
    requested: str = "auto",
    report: Callable[[str], None] = logger.info,
) -> torch.dtype:
    """Choose the format to train or to edit in.

    auto is bf16 on a GPU that computes it, fp32 on other accelerators, and on a CPU the faster of the two, measured.

    Args:
        step: one real step of the work that leaves no trace: of training, forward and backward, no optimizer step and
            no gradient kept. It runs under the autocast that is being tried, and only when there is something to find
            out.
        device: where the work runs.
        requested: auto, fp32, bf16 or fp16. fp16 wants a GPU, and to train a gradient scaler.
        report: takes one line that says what was chosen and why.

    Raises:
        ConfigError: an unknown format, or fp16 on a CPU.
    """
    if requested != "auto":
        return parse_precision(requested, device)
    if device.type == "cuda":
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        report(f"precision: {precision_name(dtype)} (by what the GPU computes)")
        return dtype
    if device.type != "cpu":
        report("precision: fp32")
        return torch.float32
    fp32 = min(_time_step(step, device, torch.float32) for _ in range(2))
    bf16 = _time_step(step, device, torch.bfloat16)
    if bf16 < GIVE_UP_RATIO * fp32:
        bf16 = min(bf16, _time_step(step, device, torch.bfloat16))
    dtype = torch.bfloat16 if bf16 < fp32 else torch.float32
    report(f"precision: {precision_name(dtype)} (measured on this CPU: fp32 {fp32:.2f} s a step, bf16 {bf16:.2f} s)")
    return dtype


def parse_precision(name: str, device: torch.device) -> torch.dtype:
    """The format of a name.

    Raises:
        ConfigError: an unknown format, or fp16 on a CPU.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"precision {name!r} is unknown", f"Use auto, {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        raise ConfigError("fp16 is for a GPU", "Use precision auto, fp32 or bf16")
    return PRECISIONS[name]


def compile_unet(unet: Any, probe: Callable[[], object]) -> None:
    """Let a UNet run compiled from now on; rounding differs from before.

    Args:
        unet: changed in place.
        probe: calls it once, so that a machine that cannot compile is told of now and not in the middle of an edit.

    Raises:
        ConfigError: this machine cannot compile.
    """
    unet.compile()
    try:
        probe()
    except TorchDynamoException as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"this machine cannot compile the UNet ({reason[:200]})",
            "Install a C++ compiler (for a GPU: Triton), or leave out compiled=True",
            arguments=["compiled"],
        ) from error


def _time_step(step: Callable[[], None], device: torch.device, dtype: torch.dtype) -> float:
    start = time.perf_counter()
    with autocast(device, dtype):
        step()
    return time.perf_counter() - start
