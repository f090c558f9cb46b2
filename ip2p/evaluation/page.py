"""evaluation.html: the page of an evaluation, with everything in it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ip2p.errors import DataError, ImageError
from ip2p.evaluation.beside import LEADING, verdict_of
from ip2p.evaluation.curve import curve_chart
from ip2p.evaluation.measures import MEASURES
from ip2p.evaluation.methods import BOUND, EDITOR, PROMPT_TO_PROMPT, SDEDIT
from ip2p.evaluation.report import Evaluation, describe_curve, describe_faults, describe_undefined
from ip2p.evaluation.results import Result, encode_picture
from ip2p.evaluation.samples import Sample
from ip2p.evaluation.scores import OVERALL, Column, cells, columns_of
from ip2p.measuring.intervals import Difference, Interval
from ip2p.pictures.pages import render_page, thumbnail

TEMPLATE = Path(__file__).with_name("evaluation.html")
THUMBNAIL = 192
RANKED_BY = ("iou", "clip_direction", "clip_image")
"""Measures that samples are ranked by: the first that is there."""
LABELS = {
    "n": "samples", "quick": "quick (--quick)", "clip": "CLIP", "clip_side": "CLIP sees (px)",
    "clip_mean": "CLIP's mean", "clip_std": "CLIP's standard deviation", "clip_range": "CLIP's range",
    "clip_resize": "CLIP's resizing", "dino": "DINO", "asked": "vision model asked",
    "measures": "hash of the measures", "samples": "hash of the samples", "judge_weights": "hash of the judge",
    "clip_weights": "hash of CLIP", "dino_weights": "hash of DINO",
}  # fmt: skip
"""Titles on the page of the facts of a report whose keys are not words."""


FIRST_FACTS = ("editor", "base", "data", "split", "n", "seed", "quick", "judge", "asked", "clip", "device")
"""Facts of a report that stand above its figures; those that only a repetition needs stand below."""


class Shown(NamedTuple):
    """A sample on the page: which one of its kind it is, its figures in words, and its pictures by title, as JPEG."""

    rank: str
    instruction: str
    figures: str
    pictures: list[tuple[str, bytes]]


class Line(NamedTuple):
    """A line of a table: its name, the number of samples, and cells."""

    name: str
    samples: int
    cells: list[str]


def render_evaluation(
    evaluation: Evaluation, samples: Sequence[Sample], results: Mapping[str, Sequence[Result]]
) -> str:
    """Render the page as HTML; equal evaluations give equal pages.

    Args:
        evaluation: what the evaluation came to.
        samples: its samples.
        results: results by method.
    """
    columns = columns_of(evaluation.scores)
    first = next(iter(evaluation.scores))
    kinds = [kind for kind in evaluation.scores[first] if kind != OVERALL]
    differing, by_phrasing = _leading(evaluation.differences), _leading(evaluation.phrasings)
    return render_page(
        TEMPLATE, title=f"Evaluation of {evaluation.about['editor']}", facts=tell_facts(evaluation.about, first=True),
        more_facts=tell_facts(evaluation.about, first=False),
        evaluation=evaluation, columns=columns, first=first,
        overall=[_line(name, each.get(OVERALL, {}), columns) for name, each in evaluation.scores.items()],
        kinds=[
            (kind, [_line(name, each.get(kind, {}), columns) for name, each in evaluation.scores.items()])
            for kind in kinds
        ],
        chart=curve_chart(evaluation.curves) if evaluation.curves else None,
        curves=[describe_curve(each, evaluation.curves[0].name) for each in evaluation.curves],
        failed=describe_faults(evaluation.faults), undefined=describe_undefined(evaluation),
        sheets=list(_sheets(samples, results)), side=THUMBNAIL, shade=_shade,
        thumbnail=lambda picture: thumbnail(picture, THUMBNAIL),
        differing=differing, by_phrasing=by_phrasing, settings_of=_tell_settings,
        differences=[_tell_differences(name, each, differing) for name, each in evaluation.differences.items()],
        phrasings=[_line(words, each, by_phrasing) for words, each in evaluation.phrasings.items()],
        attributes=list(dict.fromkeys(name for row in evaluation.moved.values() for name in row)),
    )  # fmt: skip


def tell_facts(about: Mapping[str, Any], *, first: bool) -> dict[str, str]:
    """Tell the facts of an evaluation by what pages call them; those that there are none of are left out.

    Args:
        about: facts by name.
        first: whether to tell those that stand above the figures, or the others.
    """
    told = {name: _in_words(value) for name, value in about.items() if (name in FIRST_FACTS) is first}
    return {LABELS.get(name, name): value for name, value in told.items() if value not in ("", "none")}


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(f"{each:g}" for each in value) if isinstance(value, list) else str(value)


def _tell_settings(settings: Mapping[str, Any]) -> str:
    """Tell the settings of a method that it has."""
    told = [f"{name.replace('_', ' ')} {_in_words(value)}" for name, value in settings.items() if value is not None]
    return ", ".join(told)


def _leading(found: Mapping[str, Mapping[str, object]]) -> list[Column]:
    """List the leading measures that any line of a table has."""
    return [Column(name, MEASURES[name]) for name in LEADING if any(name in each for each in found.values())]


def _tell_differences(name: str, found: Mapping[str, Difference], columns: Sequence[Column]) -> Line:
    """Make a line of differences from a method, each with a word where it is beyond chance."""
    line = _line(name, {measure: each.interval for measure, each in found.items()}, columns, signed=True)
    words = [f" {verdict_of(found[key])}" if key in found and found[key].beyond_chance else "" for key, _ in columns]
    return line._replace(cells=[cell + word for cell, word in zip(line.cells, words, strict=True)])


def _line(name: str, found: Mapping[str, Interval], columns: Sequence[Column], *, signed: bool = False) -> Line:
    return Line(name, *cells(found, columns, signed=signed))


def _shade(share: float, floor: float) -> str:
    """Colour of a cell of the matrix: the redder, the more an edit moved beyond what the judge misreads."""
    excess = min(1.0, max(0.0, share - floor) / 0.5)
    return "rgb({}, {}, {})".format(*(round(255 - excess * (255 - value)) for value in (235, 120, 105)))


def _sheets(samples: Sequence[Sample], results: Mapping[str, Sequence[Result]]) -> Iterator[tuple[str, list[Shown]]]:
    """Choose the best, median and worst sample of each kind, by the editor's figures."""
    if EDITOR not in results:
        return
    by_name = {sample.name: sample for sample in samples}
    done = [each for each in results[EDITOR] if not each.fault and each.picture]
    measure = next((name for name in RANKED_BY if any(name in each.figures for each in done)), "")
    kinds = sorted({each.kind for each in done})
    pictures = {name: {each.sample: each.picture for each in rows if each.picture} for name, rows in results.items()}
    for kind in kinds:
        ranked = sorted(
            (each for each in done if each.kind == kind and measure in each.figures),
            key=lambda each: (-each.figures[measure], each.sample),
        )
        shown = [
            _show_sample(rank, by_name[each.sample], each, pictures) for rank, each in _choose_ranks(ranked).items()
        ]
        if shown:
            yield kind, shown


def _choose_ranks(ranked: Sequence[Result]) -> dict[str, Result]:
    """Choose the best, the median and the worst of ranked results, as far as there are so many."""
    if len(ranked) < 2:
        return dict(zip(["the only one"], ranked, strict=False))
    median = {"median": ranked[len(ranked) // 2]} if len(ranked) > 2 else {}
    return {"best": ranked[0]} | median | {"worst": ranked[-1]}


def _show_sample(
    rank: str, sample: Sample, result: Result, pictures: Mapping[str, Mapping[str, bytes | None]]
) -> Shown:
    """Collect the pictures of a sample: input, editor, exact target, and the baselines that drew it."""
    shown = [(EDITOR, result.picture or b"")]
    try:
        before = sample.load()
    except (DataError, ImageError, OSError):  # pictures that were measured, and are gone by now
        before = None
    if before:
        shown.insert(0, ("input", encode_picture(before.source)))
    if before and before.target:
        shown.append(("exact target", encode_picture(before.target)))
    for name, found in pictures.items():
        picture = found.get(sample.name)
        if picture and name != BOUND and name.startswith((SDEDIT, PROMPT_TO_PROMPT)):
            shown.append((name, picture))
    names = [name for name in ("iou", "success", "clip_direction", "clip_image") if name in result.figures]
    figures = ", ".join(f"{MEASURES[name].title} {_figure(name, result.figures[name])}" for name in names)
    return Shown(rank, sample.instruction, figures, shown)


def _figure(measure: str, value: float) -> str:
    return f"{100 * value:.0f} %" if MEASURES[measure].percent else f"{value:.2f}"
