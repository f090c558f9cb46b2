"""Costs of a build, before it is begun: rows of the UNet, hours, bytes on disk, and money for the writer."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import try_to_load_from_cache

from ip2p.data_gen.captions.read import read_build_captions
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pairs.draw import PairMaker, plan_candidates
from ip2p.data_gen.pairs.judge import price_of_judging
from ip2p.data_gen.pairs.scenarios import Sampler, list_scenarios, most_kept, sampler_of_sd1, stand_in
from ip2p.data_gen.scale.partition import Partition
from ip2p.data_gen.servers import writing_server
from ip2p.data_gen.writers.prompts import ask
from ip2p.errors import DataError, settings_of
from ip2p.models.bundled import BUNDLED_NAMES, bundled_path
from ip2p.models.folder import read_scheduler
from ip2p.models.folder_checks import read_object
from ip2p.plurals import counted
from ip2p.records import Caption, content_id
from ip2p.remote.prices import price_of, tokens_about

ASSUMED_ROWS = 250.0
"""UNet rows a second at 512 pixels: Stable Diffusion 1 takes 0.8 TFLOP a row, and an H100 does 200 TFLOP/s of that."""
ASSUMED_BYTES = 1.7
"""Bytes of a pixel of a photograph as PNG."""
ASSUMED_SIDE = 512
MEASURED_STEPS = 10
"""Most denoising steps of the candidates that are drawn to measure."""
STAND_IN = "a woman in a red coat walks a small dog along a wet street past an old bakery"
"""A caption as long as most, where none are here yet."""
SAMPLED_CAPTIONS = 200
"""Captions whose questions are counted in tokens; the others are as long on average."""
TOKENS_PER_EDIT = 60
"""Tokens of the answer for each edit."""


@dataclass(frozen=True)
class Rates:
    """Speed at which pairs are drawn, and their size.

    Attributes:
        rows: UNet rows a second of one process.
        candidate_bytes: bytes of both pictures of a candidate.
        source: where this is from.
    """

    rows: float
    candidate_bytes: float
    source: str


class Span(NamedTuple):
    """A figure that is not known before, from the least to the most."""

    least: float
    most: float

    def __mul__(self, factor: object) -> "Span":
        assert isinstance(factor, int | float)
        return Span(self.least * factor, self.most * factor)

    def show(self, write: Callable[[float], str]) -> str:
        """Write the figure, once if it is known."""
        least, most = write(self.least), write(self.most)
        return most if least == most else f"{least} to {most}"


@dataclass(frozen=True)
class Estimate:
    """Costs of a whole build, or of a share of it.

    Attributes:
        source: where the number of captions is from.
        captions: number of captions.
        triples: number of triples, if none is refused.
        candidates: number of candidates.
        rows: UNet rows of all candidates.
        stored: pictures of candidates on disk at the end, in pairs, with those of the packed data set.
        assumed: what the least and the most are.
        rates: rates that hours and bytes are from.
        workers: processes that draw.
        packed: pairs of the packed data set at most, if all triples keep as many as they may.
        writer: what the writer costs, in words.
        judge: what the judge of pairs costs, in words.
        free: free bytes on the disk of the folder.
        out: folder of the build.
    """

    source: str
    captions: int
    triples: int
    candidates: Span
    rows: Span
    stored: Span
    assumed: str
    rates: Rates
    workers: int
    packed: int
    writer: str
    judge: str
    free: int
    out: Path

    @property
    def hours(self) -> Span:
        """Hours of all workers, in which nothing but the UNet is counted."""
        return self.rows * (1 / self.rates.rows / self.workers / 3600)

    @property
    def peak_bytes(self) -> Span:
        """Bytes on disk at the end: the stored candidates, and the packed pairs beside them."""
        return self.stored * self.rates.candidate_bytes

    def __str__(self) -> str:
        enough = "enough" if self.peak_bytes.most < self.free else "NOT ENOUGH: give another folder by out=..."
        rows, each = self.rows.show(lambda value: f"{value:.0f}"), _readable(self.rates.candidate_bytes)
        return (
            f"captions: {self.source}\n"
            f"at most {counted(self.triples, 'triple')} of {counted(self.captions, 'caption')}, and "
            f"{self.candidates.show(lambda value: f'{value:.0f}')} candidates\n"
            f"UNet: {rows} rows, {self.hours.show(lambda value: f'{value:.3g}')} hours of "
            f"{counted(self.workers, 'worker')}{', each' if self.workers > 1 else ', at'} {self.rates.rows:.3g} rows a "
            f"second\n"
            f"assumed: {self.assumed}\n"
            f"disk: {self.peak_bytes.show(_readable)} at the peak, {each} a candidate; "
            f"{_readable(self.free)} free for {self.out}, {enough}\n"
            f"rates: {self.rates.source}\n"
            f"writer: {self.writer}\n"
            f"judge: {self.judge}\n"
            "nothing was written"
        )


def estimate(config: DatasetConfig, *, workers: int = 1, partition: Partition | None = None) -> Estimate:
    """Estimate what a build will take, from the number of captions and from measured or assumed rates.

    Args:
        config: config of the build.
        workers: processes that draw.
        partition: share of the shards that is meant; None for all.

    Raises:
        ConfigError: the scheduler does not take so many steps.
        DataError: captions are there and cannot be read.
        ModelError: the base model is here and cannot be loaded.
    """
    captions, total, source = _count_captions(config)
    settings, share = config.triples, total
    if partition:
        sizes = [min(config.shard_size, total - start) for start in range(0, total, config.shard_size)]
        share = sum(sizes[index] for index in partition.shards(len(sizes)))
        source += f"; {partition} has {share} of them"
    triples = share * settings.per_caption * settings.turns * (2 if settings.inverse else 1)
    with settings_of("pairs"):
        scenarios = list_scenarios(config, find_sampler(config.pairs.model))
    figures = zip(*(each.figures for each in scenarios), strict=True)
    candidates, rows, stored = (Span(min(values), max(values)) * triples for values in figures)
    folder = Path(config.out).absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    writer = price_of_triples(config, captions, total)
    if partition:
        writer = f"paid for by the run that writes the triples, not by this one ({writer})"
    return Estimate(
        source, share, triples, candidates, rows, stored, "; ".join(dict.fromkeys(each.name for each in scenarios)),
        measure_rates(config, captions), workers, triples * most_kept(config), writer,
        price_of_judging(config, triples), shutil.disk_usage(there).free, folder,
    )  # fmt: skip


def _count_captions(config: DatasetConfig) -> tuple[list[Caption], int, str]:
    """Return the captions, their number, and where it is from; a stand-in and the number asked for if none are here.

    Raises:
        DataError: captions are there and cannot be read.
    """
    source, count = config.captions.source, config.captions.count
    try:
        captions = read_build_captions(config)
    except DataError as error:
        if config.triples.file or Path(source).exists():
            raise
        said = f"{error.what}: {count} are assumed, as captions.count says, of {len(STAND_IN.split())} words each"
        return [Caption(id=content_id(STAND_IN), text=STAND_IN, source="assumed")], count, said
    return captions, len(captions), f"{len(captions)} of {config.triples.file or source}"


def find_model(name: str) -> Path | None:
    """Return the folder of a model that is here: bundled, a folder, or downloaded from the hub; None for others."""
    if name in BUNDLED_NAMES:
        return bundled_path(name)
    if Path(name).is_dir():
        return Path(name)
    try:
        index = try_to_load_from_cache(name, "model_index.json")
    except ValueError:  # no name of the hub
        return None
    return Path(index).parent if isinstance(index, str) else None


def find_sampler(model: str) -> Sampler:
    """Return what a base model says of UNet rows; if it is not here, what Stable Diffusion 1 does.

    Raises:
        ModelError: the model is here, and is damaged or of another kind.
    """
    folder = find_model(model)
    if not folder:
        return sampler_of_sd1()
    unet = read_object(folder / "unet" / "config.json", f"the unet of the model {folder}")
    return Sampler(read_scheduler(folder), bool(unet.get("time_cond_proj_dim")))


def measure_rates(config: DatasetConfig, captions: Sequence[Caption]) -> Rates:
    """Measure how fast this machine draws with the base model, if that is here; assume the rates of others if not."""
    from ip2p.device import best_device

    settings, device = config.pairs, best_device()
    here = find_model(settings.model) is not None
    if here and not (device.type == "cpu" and settings.precision == "fp16"):
        with settings_of("pairs"):
            return _draw_some(config, captions[0].text, 1 if device.type == "cpu" else settings.batch)
    area = ((settings.size or ASSUMED_SIDE) / ASSUMED_SIDE) ** 2
    source = (
        f"assumed, since {settings.model} {'cannot be drawn with' if here else 'is not'} here: Stable Diffusion 1 in "
        f"fp16 on an H100, photographs as PNG"
    )
    return Rates(ASSUMED_ROWS / area, 2 * ASSUMED_BYTES * area * ASSUMED_SIDE**2, source)


def _draw_some(config: DatasetConfig, text: str, count: int) -> Rates:
    """Draw some candidates of a caption, and measure the second time."""
    from ip2p.data_gen.rows import to_png
    from ip2p.device import best_device, cpu_threads
    from ip2p.models.inference import load_for_inference
    from ip2p.models.lora import Lora

    device = best_device()
    fewer = {"steps": min(config.pairs.steps, MEASURED_STEPS), "candidates": count, "tree": 1}
    settings = config.pairs.model_copy(update=fewer)
    backbone = load_for_inference(
        settings.model, device=device, precision=settings.precision, want="base", safety_checker=False,
        vae=settings.vae or None, loras=[Lora.parse(text) for text in settings.loras],
    )  # fmt: skip
    planned = plan_candidates([stand_in("estimate", text)], settings, config.seed)
    with cpu_threads(settings.threads):
        for _ in range(2):  # the first time chooses kernels and fills caches
            began = time.monotonic()
            pairs = list(PairMaker(backbone, settings).draw(planned))
            seconds = time.monotonic() - began
    stored = sum(len(to_png(picture)["bytes"]) for pair in pairs for picture in (pair.source, pair.edited))
    name = f"{device.type} of this machine, {count} at a time and {settings.steps} steps"
    return Rates(sum(pair.unet_rows for pair in pairs) / seconds, stored / count, f"measured on the {name}")


def price_of_triples(config: DatasetConfig, captions: Sequence[Caption], count: int | None = None) -> str:
    """Say what the writer of triples will cost, if it is a server.

    Args:
        config: config of the build.
        captions: captions, or some of them.
        count: number of captions; None for that of `captions`.
    """
    settings = config.triples
    if not settings.writer.startswith("openai"):
        return f"{settings.writer}, 0 USD"
    price = price_of(replace(writing_server(settings), max_usd=0.0), settings.model)
    sample = captions[:SAMPLED_CAPTIONS]
    turns = [turn for each in sample for turn in ask(each, settings.per_caption, settings, config.seed)]
    count = len(captions) if count is None else count
    share = count / len(sample)
    read = round(share * sum(tokens_about(turn["content"]) for turn in turns))
    written = TOKENS_PER_EDIT * settings.per_caption * count
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
