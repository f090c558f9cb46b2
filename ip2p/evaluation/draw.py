"""The run itself: every method on every sample, batch by batch, resumed where it was stopped."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from ip2p.errors import Ip2pError, one_line
from ip2p.evaluation.measures import Batch, Measured, Measurer
from ip2p.evaluation.methods import Method, counted_rows
from ip2p.evaluation.results import Result, ResultFolder, encode_picture
from ip2p.evaluation.samples import Pictures, Sample
from ip2p.progress import StageProgress
from ip2p.shards import fingerprint

BATCH_SIZE = 16
NO_CAPTIONS, NO_TARGET = "captions are empty or equal", "there is no exact target"


class Work(NamedTuple):
    """A batch of a method.

    Attributes:
        method: method.
        number: number of the batch.
        samples: its samples.
        mark: fingerprint of all that its results depend on.
    """

    method: Method
    number: int
    samples: Sequence[Sample]
    mark: str


def plan_work(methods: Sequence[Method], samples: Sequence[Sample], about: Mapping[str, Any]) -> list[Work]:
    """List all batches of all methods, batch by batch.

    Args:
        methods: methods.
        samples: samples.
        about: what all results depend on: models, judge, CLIP.
    """
    plan = []
    described = [each.describe() for each in samples]
    for number, start in enumerate(range(0, len(samples), BATCH_SIZE)):
        for method in methods:
            chosen = samples[: method.limit][start : start + BATCH_SIZE]
            if chosen:
                key = {
                    "about": dict(about), "method": method.name, "settings": dict(method.settings),
                    "samples": described[start : start + len(chosen)], "whole": method.tabled,
                }  # fmt: skip
                plan.append(Work(method, number, chosen, fingerprint(key)))
    return plan


def run_plan(
    plan: Sequence[Work],
    measurer: Measurer,
    folder: ResultFolder,
    *,
    unets: Sequence[torch.nn.Module],
    say: Callable[[str], None],
) -> None:
    """Do what is not done yet. A sample on which a method fails is recorded with its fault, and ends nothing.

    Args:
        plan: batches of all methods, see `plan_work`.
        measurer: measures the pictures.
        folder: where results are written, batch by batch.
        unets: UNets whose rows are counted.
        say: function that prints a line.
    """
    left = [each for each in plan if not folder.is_done(each.method.slug, each.number, each.mark)]
    total, open_ = (sum(len(each.samples) for each in works) for works in (plan, left))
    with StageProgress("evaluate", "pictures", total=total, done=total - open_, say=say) as progress:
        prepared: tuple[int, _Loaded] | None = None
        for work in left:
            if prepared is None or prepared[0] != work.number:
                # Over all works, done or not: how many are embedded together moves the last digits of embeddings.
                longest = max((each.samples for each in plan if each.number == work.number), key=len)
                prepared = work.number, _load(longest, measurer)
            results = _do(work, prepared[1], measurer, unets)
            folder.write(work.method.slug, work.number, results, work.mark)
            faults = [each.fault for each in results if each.fault and each.fault not in (NO_CAPTIONS, NO_TARGET)]
            if faults:
                say(f"{work.method.name}: {len(faults)} of {len(results)} failed, the first with: {faults[0]}")
            progress.advance(len(results), work.method.name)


class _Loaded(NamedTuple):
    """A batch whose pictures could be read, the places of its rows by name, and faults of the others by name."""

    batch: Batch
    places: dict[str, int]
    faults: dict[str, str]


def _load(samples: Sequence[Sample], measurer: Measurer) -> _Loaded:
    """Load the pictures of a batch."""
    good: list[tuple[Sample, Pictures]] = []
    faults = {}
    for sample in samples:
        try:
            good.append((sample, sample.load()))
        except Exception as error:  # whatever is wrong with one picture, the others can be measured
            faults[sample.name] = _describe(error)
    batch, failed = _prepare(good, measurer)
    return _Loaded(batch, {sample.name: row for row, sample in enumerate(batch.samples)}, faults | failed)


def _prepare(good: Sequence[tuple[Sample, Pictures]], measurer: Measurer) -> tuple[Batch, dict[str, str]]:
    """Prepare samples, one by one if they fail together; with faults by name."""
    try:
        return measurer.prepare([sample for sample, _ in good], [pictures for _, pictures in good]), {}
    except Exception:  # which of them it was is found below
        alone, faults = [], {}
    for sample, pictures in good:
        try:
            alone.append(measurer.prepare([sample], [pictures]))
        except Exception as error:
            faults[sample.name] = f"not measured: {_describe(error)}"
    return Batch.join(alone), faults


def _do(work: Work, loaded: _Loaded, measurer: Measurer, unets: Sequence[torch.nn.Module]) -> list[Result]:
    """Draw and measure a batch of a method."""
    faults = {each.name: loaded.faults.get(each.name) or _lack(work.method, each, loaded) for each in work.samples}
    rows = [loaded.places[each.name] for each in work.samples if not faults[each.name]]
    batch = loaded.batch.take(rows)
    drawn, failed, count = _draw(work.method, batch, unets)
    faults |= failed
    done = [row for row, each in enumerate(batch.samples) if not faults[each.name]]
    measured, failed = _measure(measurer, batch, {row: drawn[row] for row in done}, clip_only=not work.method.tabled)
    faults |= failed
    found = {
        batch.samples[row].name: Result(
            batch.samples[row].name, batch.samples[row].kind, figures=each.figures, read=each.read, lacks=each.lacks,
            rows=count / len(rows), picture=encode_picture(drawn[row]) if work.method.tabled else None,
        )
        for row, each in measured.items()
    }  # fmt: skip
    return [found.get(each.name) or _failed(each, faults[each.name], loaded) for each in work.samples]


def _failed(sample: Sample, fault: str, loaded: _Loaded) -> Result:
    """A result without figures; what its pictures lack is told where they could be read."""
    place = loaded.places.get(sample.name)
    return Result(sample.name, sample.kind, fault, lacks=() if place is None else loaded.batch.pictures[place].lacks)


def _lack(method: Method, sample: Sample, loaded: _Loaded) -> str:
    """Say which input of a method a sample lacks; empty if none."""
    if method.need == "captions" and not sample.has_direction:
        return NO_CAPTIONS
    pictures = loaded.batch.pictures[loaded.places[sample.name]]
    return NO_TARGET if method.need == "target" and pictures.target is None else ""


def _draw(
    method: Method, batch: Batch, unets: Sequence[torch.nn.Module]
) -> tuple[dict[int, Image.Image], dict[str, str], int]:
    """Draw the pictures of a batch by row, one by one if they fail together; with faults by name, and UNet rows."""
    count = len(batch.samples)
    if not count:
        return {}, {}, 0
    with counted_rows(*unets) as rows:
        try:
            made = method.draw(batch)
            assert len(made) == count, f"{method.name} drew {len(made)} pictures of {count}"
            return dict(enumerate(made)), {}, rows()
        except Exception:  # which of them it was is found below
            drawn, faults = {}, {}
    with counted_rows(*unets) as rows:
        for row, sample in enumerate(batch.samples):
            try:
                (drawn[row],) = method.draw(batch.take([row]))
            except Exception as error:
                faults[sample.name] = _describe(error)
        return drawn, faults, rows()


def _measure(
    measurer: Measurer, batch: Batch, drawn: Mapping[int, Image.Image], *, clip_only: bool
) -> tuple[dict[int, Measured], dict[str, str]]:
    """Measure the drawn pictures of a batch by row, one by one if they fail together; with faults by name."""
    try:
        measured = measurer.measure(batch.take(list(drawn)), list(drawn.values()), clip_only=clip_only)
        return dict(zip(drawn, measured, strict=True)), {}
    except Exception:  # which of them it was is found below
        found, faults = {}, {}
    for row, image in drawn.items():
        try:
            (found[row],) = measurer.measure(batch.take([row]), [image], clip_only=clip_only)
        except Exception as error:
            faults[batch.samples[row].name] = f"not measured: {_describe(error)}"
    return found, faults


def _describe(error: Exception) -> str:
    """Describe an error in one line, with its place if it is not an expected one."""
    if isinstance(error, Ip2pError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {one_line(error)}{place}"
