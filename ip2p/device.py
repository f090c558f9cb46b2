"""Device and precision: the best device, a precision that is requested or measured, and a compiled UNet.

Processors differ: bf16 autocast trains 1.5 times faster than fp32 on a CPU with AVX-512-BF16 and 10 to 17 times slower
on one without, where it is emulated. Timing two real steps is more reliable than the name of the processor.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

from ip2p.errors import ConfigError

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# If the first bf16 step is this much slower than fp32, no second one is timed: emulated bf16 can take a minute.
GIVE_UP_RATIO = 3.0


def best_device() -> torch.device:
    """The best available device: cuda, then mps, then cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def parse_device(device: torch.device | str | None) -> torch.device:
    """The device of a name such as cuda:1; the best available one for None.

    Raises:
        ConfigError: there is no such device.
    """
    try:
        found = torch.device(device or best_device())
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:  # by device and by build of torch
        raise ConfigError(
            f"device {str(device)!r} is not available", "Give another one, such as cpu, or none for the best available"
        ) from error
    return found


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Context manager in which torch computes with this many threads on a CPU.

    Sums are split among threads, so that another number of threads rounds differently.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def precision_name(dtype: torch.dtype) -> str:
    """The short name of a data type: fp32, bf16 or fp16."""
    return next(name for name, known in PRECISIONS.items() if known == dtype)


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """A context of autocast to `dtype` on `device`; it does nothing for fp32."""
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
    """Choose the precision to train or to edit in.

    auto is bf16 on a GPU that supports it, fp32 on other accelerators, and on a CPU the faster of the two, measured.

    Args:
        step: function that runs one real step without side effects: for training, forward and backward without an
            optimizer step and without keeping gradients. It is called under the autocast to be timed, on a CPU only.
        device: device that the work runs on.
        requested: auto, fp32, bf16 or fp16. fp16 needs a GPU, and for training a gradient scaler.
        report: function that receives one line about the choice and its reason.

    Raises:
        ConfigError: the precision is unknown, or fp16 on a CPU.
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
    """The data type of a precision name.

    Raises:
        ConfigError: the precision is unknown, or fp16 on a CPU.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"precision {name!r} is unknown", f"Use auto, {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        raise ConfigError("fp16 needs a GPU", "Use precision auto, fp32 or bf16")
    return PRECISIONS[name]


def compile_unet(unet: Any, probe: Callable[[], object], *, setting: str = "compiled") -> None:
    """Compile a UNet in place; its results differ in rounding.

    Args:
        unet: UNet to compile.
        probe: function that calls it once, so that a failure to compile is reported now and not during an edit.
        setting: name of the setting that asked for it, for the error.

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
            f"Install a C++ compiler (for a GPU: Triton), or leave out {setting}=True",
            arguments=[setting],
        ) from error


def _time_step(step: Callable[[], None], device: torch.device, dtype: torch.dtype) -> float:
    start = time.perf_counter()
    with autocast(device, dtype):
        step()
    return time.perf_counter() - start
