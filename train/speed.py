"""Speed of a run: samples per second, the share of the device's peak, of the time without data, and memory."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ip2p.device import PRECISIONS
from ip2p.models.backbone import Backbone
from ip2p.train.batches import Batches
from ip2p.train.config import FinetuneConfig
from ip2p.train.estimate import GIB, training_flops
from ip2p.train.ranks import Ranks

SMALLEST, LARGEST = 256, 8192
"""Sides of the first and of the last matrices whose product measures the peak of a device."""
LONG = 0.05
"""Seconds of a product after which no larger one is tried."""


class Speed:
    """Measures the steps of a process.

    Args:
        flops: floating-point operations in a step of this process.
        peak: those that its device can do in a second.
        samples: samples in a step of all processes.
        waited: function that returns the seconds that were spent waiting for data so far.
        device: device that trains.
    """

    def __init__(
        self, *, flops: float, peak: float, samples: int, waited: Callable[[], float], device: torch.device
    ) -> None:
        self.flops, self.peak, self.samples, self.device = flops, peak, samples, device
        self._waited, self._before = waited, waited()

    def step(self, seconds: float) -> dict[str, float]:
        """Return the figures of a step that took this long.

        samples_per_second, over all processes; utilization, the share of the device's peak (model FLOPs utilization);
        data_wait, the share of the time in which the model waited for data; memory_gib, the most that was used so far.
        """
        waited, before = self._waited(), self._before
        self._before = waited
        seconds = max(seconds, 1e-9)
        return {
            "samples_per_second": round(self.samples / seconds, 3),
            "utilization": round(self.flops / seconds / self.peak, 4),
            "data_wait": round(min(1.0, (waited - before) / seconds), 4),
            "memory_gib": round(used_memory(self.device) / GIB, 3),
        }


def used_memory(device: torch.device) -> int:
    """Return the most bytes that were in use at a time: of the GPU by tensors, or of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def measure_speed(
    config: FinetuneConfig,
    backbone: Backbone,
    sources: Sequence[Batches],
    *,
    precision: str,
    ranks: Ranks,
    say: Callable[[str], None],
) -> Speed:
    """Count the operations of a step on the first process, and measure what its device can do.

    Args:
        config: settings of the run.
        backbone: model that is trained.
        sources: where samples come from.
        precision: name of the dtype.
        ranks: processes of the run.
        say: function that prints a line.
    """
    own, flops, peak = config.batch * config.accumulation, 0.0, 1.0
    if ranks.rank == 0:
        encodes = not any(each.cached_bytes for each in sources)
        flops, peak = training_flops(backbone, config, encodes=encodes), measure_peak(backbone.device, precision)
        work = f"{flops / 1e9:.3g} GFLOP a sample"
        say(f"computing: {work}, at most {peak / 1e9:.3g} GFLOP/s on this device (measured in {precision})")
    return Speed(
        flops=flops * own, peak=peak, samples=own * ranks.total, device=backbone.device,
        waited=lambda: sum(each.waited for each in sources),
    )  # fmt: skip


def measure_peak(device: torch.device, precision: str) -> float:
    """Measure the floating-point operations that a device can do in a second, by products of ever larger matrices.

    Args:
        device: device.
        precision: fp32, bf16 or fp16.
    """
    side, best = SMALLEST, 0.0
    while True:
        x = torch.ones(side, side, device=device, dtype=PRECISIONS[precision])
        seconds = min(_product_seconds(x) for _ in range(3))
        best = max(best, 2.0 * side**3 / seconds)
        if seconds > LONG or side >= LARGEST:
            return best
        side *= 2


def _product_seconds(x: Tensor) -> float:
    _synchronize(x.device)
    began = time.perf_counter()
    x @ x
    _synchronize(x.device)
    return max(time.perf_counter() - began, 1e-9)


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def summarize(rows: Iterable[Mapping[str, int | float]]) -> str:
    """Tell the medians of the figures of steps, and the memory; an empty text without any.

    Args:
        rows: rows of a metrics.jsonl.
    """
    steps = [row for row in rows if "samples_per_second" in row]
    if not steps:
        return ""
    pace, share, wait = (
        statistics.median(row[name] for row in steps) for name in ("samples_per_second", "utilization", "data_wait")
    )
    memory = max(row["memory_gib"] for row in steps)
    return (
        f"{pace:.3g} samples/s, {100 * share:.2g} % of the measured peak, {100 * wait:.0f} % of the time waiting "
        f"for data, {memory:.1f} GiB"
    )
