"""Report of an evaluation, as JSON and as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ip2p.errors import DataError
from ip2p.evaluation.beside import Differences, Phrasings, describe_others, describe_phrasings
from ip2p.evaluation.changes import UNMEASURED, Matrix
from ip2p.evaluation.curve import TradeOff
from ip2p.evaluation.draw import NO_CAPTIONS, NO_TARGET
from ip2p.evaluation.measures import MEASURES, Figures
from ip2p.evaluation.methods import Method
from ip2p.evaluation.results import Result
from ip2p.evaluation.samples import Sample
from ip2p.evaluation.scores import OVERALL, Scores, columns_of, kinds_table, overall_table, show
from ip2p.measuring.published import LPIPS_NEEDS

HEADLINE = ("iou", "nearer", "kept", "success", "preservation", "product")
"""Measures of the headline where there are exact targets."""
REPORT_FILE, PAGE_FILE, CURVE_FILE, PARTS = "evaluation.json", "evaluation.html", "curve.svg", "parts"


class Fault(BaseModel):
    """A picture that is not there, or could not be measured, and why."""

    model_config = ConfigDict(frozen=True)

    method: str
    sample: str
    reason: str


class MethodReport(BaseModel):
    """A method: its settings, the UNet rows of a picture, and the figures of each sample by name."""

    model_config = ConfigDict(frozen=True)

    settings: dict[str, Any]
    rows: float
    figures: dict[str, Figures]


class Evaluation(BaseModel):
    """The results of an evaluation. As text, it is a headline and tables.

    Attributes:
        about: models, data, seeds, versions, and what CLIP sees.
        samples: kind of edit of each sample by name.
        methods: methods in the order of the tables.
        scores: means with intervals, by method, kind and measure: [mean, low, high, samples].
        curves: trade-off curves, that of the editor first.
        differences: the editor's figures minus those of each other method that draws, by method and measure:
            [[mean, low, high, samples], p, corrected p, beyond chance].
        phrasings: the editor's means by how instructions are phrased, and by measure: [mean, low, high, samples].
        moved: what the editor changed that nobody asked for, by kind and attribute: [share, floor, edits].
        unmeasured: probes of which this says nothing, and why.
        undefined: number of samples that some measures leave out, by reason: no target, no mask, no two captions.
        faults: what failed.
        notes: what a reader has to know.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    about: dict[str, Any]
    samples: dict[str, str]
    methods: dict[str, MethodReport]
    scores: Scores
    curves: list[TradeOff] = []
    differences: Differences = {}
    phrasings: Phrasings = {}
    moved: Matrix = {}
    unmeasured: dict[str, str] = {}
    undefined: dict[str, int] = {}
    faults: list[Fault] = []
    notes: list[str] = []

    @property
    def headline(self) -> str:
        """The figures of the first method in one sentence."""
        name = next(iter(self.scores))
        found = self.scores[name].get(OVERALL, {})
        names = [key for key in HEADLINE if key in found] or [key for key in MEASURES if key in found][:4]
        said = [f"{MEASURES[key].title} {show(found[key], MEASURES[key], unit=True)}" for key in names]
        return f"{name}, {len(self.samples)} samples: " + ", ".join(said) if said else f"{name}: nothing measured"

    def __str__(self) -> str:
        first = next(iter(self.scores))
        chosen = ", ".join(filter(None, (self.about.get("split"), f"seed {self.about['seed']}")))
        parts = [
            f"{self.about['editor']} on {len(self.samples)} samples of {self.about['data']} "
            f"({chosen}). Means with 95 % intervals over samples.{describe_seen(self.about)} "
            f"{PAGE_FILE} says what the measures mean.",
            overall_table(self.scores), f"{first}, by kind of edit", kinds_table(self.scores, first),
            *describe_others(self.differences), *describe_phrasings(self.phrasings),
            *(describe_curve(each, self.curves[0].name) for each in self.curves), *self.notes,
            *describe_undefined(self), *describe_faults(self.faults),
        ]  # fmt: skip
        return "\n\n".join(parts)


def describe_seen(about: Mapping[str, Any]) -> str:
    """Describe the CLIP that measured, and what it is shown; nothing without one."""
    if "clip_side" not in about:
        return ""
    seen = f"{about['clip_side']} px, {about['clip_resize']}, in {about['clip_range']}"
    return f" CLIP: {about['clip']} at {seen}."


def describe_curve(curve: TradeOff, first: str) -> str:
    """Describe a curve in one line: its area, and how much higher the first of all curves lies."""
    area = f"{curve.area.value:.3f} ({curve.area.low:.3f} to {curve.area.high:.3f})"
    text = f"Curve of {curve.name}, {curve.samples} samples: area {area}"
    if curve.above is None:
        return text if curve.name == first else f"{text}; the curve of {first} reaches none of its directions"
    above, low, high = curve.above[:3]
    verdict = "above it" if low > 0 else "below it" if high < 0 else "neither above nor below it beyond chance"
    return f"{text}; where both reach, the curve of {first} is {verdict}: {above:+.3f} ({low:+.3f} to {high:+.3f})"


def describe_undefined(evaluation: Evaluation) -> list[str]:
    """Describe how many samples some measures leave out, a line for each reason."""
    total = len(evaluation.samples)
    return [f"{count} of {total} samples: {why}" for why, count in evaluation.undefined.items()]


def describe_faults(faults: Sequence[Fault]) -> list[str]:
    """Describe how many pictures failed, by method, with the first reason of each."""
    found: dict[str, list[Fault]] = {}
    for each in faults:
        found.setdefault(each.method, []).append(each)
    return [f"{name}: {len(each)} failed, the first ({each[0].sample}) with: {each[0].reason}"
            for name, each in found.items()]  # fmt: skip


def report_methods(
    methods: Sequence[Method], results: Mapping[str, Sequence[Result]]
) -> tuple[dict[str, MethodReport], list[Fault]]:
    """Make the reports of methods, and list what failed.

    Args:
        methods: methods in the order of the tables.
        results: results by method.
    """
    reports, faults = {}, []
    for method in methods:
        rows = results[method.name]
        faults += [
            Fault(method=method.name, sample=each.sample, reason=each.fault)
            for each in rows if each.fault and each.fault not in (NO_CAPTIONS, NO_TARGET)
        ]  # fmt: skip
        if method.tabled:
            drawn = [each.rows for each in rows if not each.fault]
            reports[method.name] = MethodReport(
                settings=dict(method.settings), rows=round(sum(drawn) / max(1, len(drawn)), 2),
                figures={each.sample: each.figures for each in rows if not each.fault},
            )  # fmt: skip
    return reports, faults


def count_undefined(samples: Sequence[Sample], results: Mapping[str, Sequence[Result]]) -> dict[str, int]:
    """Count the samples that some measures leave out by reason, each once, whatever the methods.

    Args:
        samples: samples.
        results: results by method.
    """
    undirected = sum(not each.has_direction for each in samples)
    lacks = {(why, each.sample) for rows in results.values() for each in rows for why in each.lacks}
    counts = Counter(why for why, _ in lacks)
    found = {"without two different captions, which have no direction": undirected} if undirected else {}
    return found | {why: counts[why] for why in sorted(counts)}


def lpips_notes(scores: Scores) -> list[str]:
    """Tell that a measure of PIE-Bench is missing beside its others."""
    names = {each.name for each in columns_of(scores)}
    if "PIE-Bench MSE" not in names or "PIE-Bench LPIPS" in names:
        return []
    needs = " and ".join(LPIPS_NEEDS)
    return [f"PIE-Bench LPIPS is not measured, for it needs {needs}: `pip install {' '.join(LPIPS_NEEDS)}`"]


def unmeasured_probes(is_storybook: bool) -> dict[str, str]:
    """Name the probes of which an evaluation says nothing."""
    return UNMEASURED if is_storybook else {}


def read_report(path: Path) -> Evaluation:
    """Read an evaluation.json.

    Raises:
        DataError: it is missing, or not one.
    """
    file = path / REPORT_FILE if path.is_dir() else path
    try:
        return Evaluation.model_validate_json(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read", "Give an evaluation.json that `ip2p evaluate` wrote") from error
    except ValidationError as error:
        fix = "Give one that this version of `ip2p evaluate` wrote, or evaluate again"
        raise DataError(f"{file} is no evaluation", fix) from error
