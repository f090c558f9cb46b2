"""What a build will take, before it is begun: rows of the UNet, hours, bytes on disk, and money for the writer."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from ip2p.data_gen.api.prices import price_of, tokens_about
from ip2p.data_gen.api.server import writing_server
from ip2p.data_gen.captions.read import read_build_captions
from ip2p.data_gen.config import DatasetConfig, PairsConfig
from ip2p.data_gen.pairs.judge import price_of_judging
from ip2p.data_gen.writers.prompts import ask
from ip2p.models.bundled import BUNDLED_NAMES
from ip2p.records import Caption, Triple

ASSUMED_ROWS = 250.0
"""UNet rows a second at 512 pixels: Stable Diffusion 1 takes 0.8 TFLOP a row, and an H100 does 200 TFLOP/s of that."""
ASSUMED_BYTES = 1.7
"""Bytes of a pixel of a photograph as PNG."""
ASSUMED_SIDE = 512
MEASURED_STEPS = 10
"""Most denoising steps of the candidates that are drawn to measure."""
SAMPLED_CAPTIONS = 200
"""Captions whose questions are counted in tokens; the others are as long on average."""
TOKENS_PER_EDIT = 60
"""Tokens of the answer for each edit."""


@dataclass(frozen=True)
class Rates:
    """How fast pairs are drawn, and how large they are.

    Attributes:
        rows: UNet rows a second of one process.
        candidate_bytes: bytes of both pictures of a candidate.
        source: where this is from.
    """

    rows: float
    candidate_bytes: float
    source: str


@dataclass(frozen=True)
class Estimate:
    """What a whole build will take, at most.

    Attributes:
        captions: number of captions.
        triples: number of triples, if none is refused.
        candidates: number of candidates.
        rows: UNet rows of all candidates.
        rates: rates that hours and bytes are from.
        workers: processes that draw.
        packed: pairs of the packed data set, if all triples keep as many as they may.
        writer: what the writer costs, in words.
        judge: what the judge of pairs costs, in words.
        free: free bytes on the disk of the folder.
        out: folder of the build.
    """

    captions: int
    triples: int
    candidates: int
    rows: int
    rates: Rates
    workers: int
    packed: int
    writer: str
    judge: str
    free: int
    out: Path

    @property
    def hours(self) -> float:
        """Hours of all workers, in which nothing but the UNet is counted."""
        return self.rows / self.rates.rows / self.workers / 3600

    @property
    def peak_bytes(self) -> float:
        """Bytes on disk at the end: all candidates, and the packed pairs beside them."""
        return (self.candidates + self.packed) * self.rates.candidate_bytes

    def __str__(self) -> str:
        enough = "enough" if self.peak_bytes < self.free else "NOT ENOUGH: give another folder by out=..."
        return (
            f"at most {self.triples} triples of {self.captions} captions, and {self.candidates} candidates\n"
            f"UNet: {self.rows} rows, {self.hours:.3g} hours of {self.workers} workers, "
            f"each {self.rates.rows:.3g} rows a second\n"
            f"disk: {_readable(self.peak_bytes)} at the peak, {_readable(self.rates.candidate_bytes)} a candidate; "
            f"{_readable(self.free)} free for {self.out}, {enough}\n"
            f"rates: {self.rates.source}\n"
            f"writer: {self.writer}\n"
            f"judge: {self.judge}\n"
            "nothing was written"
        )


def estimate(config: DatasetConfig, *, workers: int = 1) -> Estimate:
    """Estimate what a build will take, from the number of captions and from measured or assumed rates.

    Args:
        config: config of the build.
        workers: processes that draw.

    Raises:
        ConfigError: the scheduler does not take so many steps.
        DataError: captions cannot be read.
        ModelError: the base model is here and cannot be loaded.
    """
    captions, settings = read_build_captions(config), config.triples
    triples = len(captions) * settings.per_caption * settings.turns * (2 if settings.inverse else 1)
    candidates = triples * config.pairs.candidates
    folder = Path(config.out).absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return Estimate(
        len(captions), triples, candidates, round(candidates * rows_of_candidate(config.pairs)),
        measure_rates(config, captions), workers, triples * min(config.filter.top_k, config.pairs.candidates),
        price_of_triples(config, captions), price_of_judging(config, triples), shutil.disk_usage(there).free, folder,
    )  # fmt: skip


def rows_of_candidate(settings: PairsConfig) -> float:
    """Return the UNet rows of a candidate: two pictures a step, and as many without text where guidance is computed."""
    calls = settings.steps * (2 if settings.scheduler == "heun" else 1) - (settings.scheduler == "heun")
    guided = max(0.0, settings.guidance_stop - settings.guidance_start) / settings.text_every
    return 2 * calls * (1 + guided)


def measure_rates(config: DatasetConfig, captions: Sequence[Caption]) -> Rates:
    """Measure how fast this machine draws with the base model, if that is here; assume the rates of others if not."""
    from ip2p.device import best_device

    settings, device = config.pairs, best_device()
    here = settings.model in BUNDLED_NAMES or Path(settings.model).is_dir()
    try:
        here = here or isinstance(try_to_load_from_cache(settings.model, "model_index.json"), str)
    except ValueError:  # no name of the hub
        here = False
    if here and not (device.type == "cpu" and settings.precision == "fp16"):
        return _draw_some(config, captions[0].text, 1 if device.type == "cpu" else settings.batch)
    area = ((settings.size or ASSUMED_SIDE) / ASSUMED_SIDE) ** 2
    source = (
        f"assumed, since {settings.model} {'cannot be drawn with' if here else 'is not'} here: Stable Diffusion 1 in "
        f"fp16 on an H100, photographs as PNG"
    )
    return Rates(ASSUMED_ROWS / area, 2 * ASSUMED_BYTES * area * ASSUMED_SIDE**2, source)


def _draw_some(config: DatasetConfig, text: str, count: int) -> Rates:
    """Draw some candidates of a caption, and measure the second time."""
    from ip2p.data_gen.pairs.draw import PairMaker, plan_candidates
    from ip2p.data_gen.rows import to_png
    from ip2p.device import best_device, cpu_threads
    from ip2p.models.inference import load_for_inference

    device = best_device()
    settings = config.pairs.model_copy(update={"steps": min(config.pairs.steps, MEASURED_STEPS), "candidates": count})
    backbone = load_for_inference(
        settings.model, device=device, precision=settings.precision, want="base", safety_checker=False
    )
    triple = Triple(
        id="estimate", caption_id="estimate", caption=text, instruction=text, edited_caption=text, kind="other",
        writer="none",
    )  # fmt: skip
    planned = plan_candidates([triple], settings, config.seed)
    with cpu_threads(settings.threads):
        for _ in range(2):  # the first time chooses kernels and fills caches
            began = time.monotonic()
            pairs = list(PairMaker(backbone, settings).draw(planned))
            seconds = time.monotonic() - began
    stored = sum(len(to_png(picture)["bytes"]) for pair in pairs for picture in (pair.source, pair.edited))
    name = f"{device.type} of this machine, {count} at a time and {settings.steps} steps"
    return Rates(sum(pair.unet_rows for pair in pairs) / seconds, stored / count, f"measured on the {name}")


def price_of_triples(config: DatasetConfig, captions: Sequence[Caption]) -> str:
    """Say what the writer of triples will cost, if it is a server."""
    settings = config.triples
    if not settings.writer.startswith("openai"):
        return f"{settings.writer}, 0 USD"
    price = price_of(replace(writing_server(settings), max_usd=0.0), settings.model)
    sample = captions[:SAMPLED_CAPTIONS]
    turns = [turn for each in sample for turn in ask(each, settings.per_caption, settings, config.seed)]
    share = len(captions) / len(sample)
    read = round(share * sum(tokens_about(turn["content"]) for turn in turns))
    written = TOKENS_PER_EDIT * settings.per_caption * len(captions)
    usd = "USD unknown" if price.source == "not known" else f"{price.of(read, written).usd:.2f} USD"
    name = settings.model or settings.base_url
    tokens = f"about {read} tokens read and {written} written, without reasoning"
    return f"{name}, {usd} for {tokens} (price: {price.source})"


def _readable(size: int | float) -> str:
    """Format a number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
