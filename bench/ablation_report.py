"""The report of an ablation: the curves of all editors, a table with intervals, and what came out beyond chance."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ip2p.evaluation.compare import Compared, compare_evaluations
from ip2p.evaluation.curve import TradeOff, curve_chart
from ip2p.evaluation.measures import MEASURES
from ip2p.evaluation.methods import BOUND, COPY, EDITOR
from ip2p.evaluation.page import tell_facts
from ip2p.evaluation.report import Evaluation
from ip2p.evaluation.scores import OVERALL, show
from ip2p.measuring.intervals import Interval
from ip2p.measuring.tables import markdown_table
from ip2p.pictures.pages import render_page
from ip2p.shards import atomic_write

TEMPLATE = Path(__file__).with_name("ablation.html")
SHOWN = ("iou", "accuracy", "nearer", "kept", "success", "preservation", "clip_direction", "clip_image")
"""Measures in the table, of those that an evaluation has."""
ALL = "all"


class Trained(NamedTuple):
    """An editor of an ablation.

    Attributes:
        name, meaning: what it is called, and what it is trained on.
        pairs: number of its training pairs.
        updates: updates of its weights.
        held_out: its last loss of the held-out pairs, which are the same for all; None if it was not measured.
    """

    name: str
    meaning: str
    pairs: int
    updates: int
    held_out: float | None


class Hypothesis(NamedTuple):
    """A hypothesis: one editor is below another in a measure.

    Attributes:
        whose: whose hypothesis it is.
        text: what it says.
        worse, better: names of the editors.
        measure: name of the measure.
    """

    whose: str
    text: str
    worse: str
    better: str
    measure: str


PAPER, OURS = "paper", "ours"
HYPOTHESES = (
    Hypothesis(PAPER, "from 10 % of the pairs, edits go less far", "tenth", ALL, "clip_direction"),
    Hypothesis(PAPER, "from 1 % of the pairs, edits go less far", "hundredth", ALL, "clip_direction"),
    Hypothesis(PAPER, "without the CLIP filter, edits keep less of the picture", "unfiltered", ALL, "clip_image"),
    Hypothesis(OURS, "10 % of the pairs make a worse editor", "tenth", ALL, "iou"),
    Hypothesis(OURS, "1 % of the pairs make a worse editor", "hundredth", ALL, "iou"),
    Hypothesis(OURS, "without the CLIP filter, the editor is worse", "unfiltered", ALL, "iou"),
    Hypothesis(OURS, "the paper's thresholds make a worse editor than calibrated ones", "loose", "calibrated", "iou"),
    Hypothesis(OURS, "without dropped conditions, the editor is worse", "undropped", ALL, "iou"),
)


class Verdict(NamedTuple):
    """Outcome of a hypothesis; `compared` has the better editor first."""

    hypothesis: Hypothesis
    compared: Compared

    @property
    def outcome(self) -> str:
        """Whether it came out beyond chance, or the other way round."""
        found = self.compared.difference
        if not found.beyond_chance:
            return "not beyond chance"
        return "came out beyond chance" if found.interval.value < 0 else "the other way round, beyond chance"

    def __str__(self) -> str:
        measure, found = MEASURES[self.hypothesis.measure], self.compared.difference
        unit = " %" if measure.percent else ""
        return (
            f"{self.hypothesis.text} ({self.hypothesis.whose}): {self.outcome}; {measure.title}{unit} of "
            f"{self.hypothesis.worse} against {self.hypothesis.better}: {show(found.interval, measure)}, "
            f"p {found.adjusted:.3f}, {found.interval.rows} samples"
        )


def judge_hypotheses(reports: Mapping[str, Evaluation]) -> list[Verdict]:
    """Hold the hypotheses whose editors are there against their evaluations, sample by sample.

    Args:
        reports: evaluations by name of the editor, on the same samples.
    """
    pairs = {(each.better, each.worse) for each in HYPOTHESES if {each.better, each.worse} <= reports.keys()}
    compared = {pair: compare_evaluations(reports[pair[0]], reports[pair[1]]) for pair in sorted(pairs)}
    return [
        Verdict(each, found)
        for each in HYPOTHESES
        for found in compared.get((each.better, each.worse), [])
        if (found.method, found.kind, found.measure) == (EDITOR, OVERALL, each.measure)
    ]


def editor_curves(reports: Mapping[str, Evaluation]) -> list[TradeOff]:
    """Return the curve of each editor at its own text scale, under the name of the editor."""
    return [each.curves[0]._replace(name=name, above=None) for name, each in reports.items() if each.curves]


def table_rows(trained: Sequence[Trained], reports: Mapping[str, Evaluation]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table: what each editor was trained on, and its figures with intervals.

    The bound and the copy, which were measured with "all", stand below. A figure that differs from that of "all" beyond
    chance bears a star.
    """
    scores = {name: each.scores[EDITOR][OVERALL] for name, each in reports.items()}
    names = [name for name in SHOWN if any(name in found for found in scores.values())]
    header = ["editor", "trained on", "pairs", "updates", "held-out loss"]
    header += [MEASURES[name].title + (" %" if MEASURES[name].percent else "") for name in names]
    rows = []
    for each in trained:
        differs = _beyond_chance(reports[ALL], reports[each.name]) if each.name != ALL else set()
        cells = [_cell(scores[each.name].get(name), name) + (" *" if name in differs else "") for name in names]
        loss = "-" if each.held_out is None else f"{each.held_out:.4f}"
        rows.append([each.name, each.meaning, str(each.pairs), str(each.updates), loss, *cells])
    for method in (BOUND, COPY):
        if found := reports[ALL].scores.get(method, {}).get(OVERALL):
            rows.append(["-", method, "-", "-", "-", *(_cell(found.get(name), name) for name in names)])
    return header, rows


def _beyond_chance(first: Evaluation, second: Evaluation) -> set[str]:
    found = compare_evaluations(first, second)
    return {
        each.measure
        for each in found
        if each.method == EDITOR and each.kind == OVERALL and each.difference.beyond_chance
    }


def _cell(found: Interval | None, measure: str) -> str:
    return show(found, MEASURES[measure])


def name_path(value: Any) -> Any:
    """Name an absolute path for readers elsewhere: from the working directory if it is inside, or by its own name.

    Other values stay.
    """
    path, here = Path(str(value)), Path.cwd()
    if not path.is_absolute():
        return value
    return str(path.relative_to(here)) if here in path.parents else path.name


def write_ablation(
    out: Path,
    trained: Sequence[Trained],
    reports: Mapping[str, Evaluation],
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Path:
    """Write ablation.html and ablation.json, and say the table and what came out; returns the path of the page.

    Args:
        out: folder to write to.
        trained: editors in the order of the table, "all" among them.
        reports: their evaluations by name.
        about: what all editors have in common; absolute paths are shortened, see `name_path`.
        say: function that prints a line.
    """
    verdicts, curves = judge_hypotheses(reports), editor_curves(reports)
    header, rows = table_rows(trained, reports)
    facts = {name: name_path(each) for name, each in {**about, **reports[ALL].about}.items() if name != "editor"}
    page = render_page(
        TEMPLATE, title="Ablation", facts=tell_facts(facts, first=True), more_facts=tell_facts(facts, first=False),
        verdicts=[str(each) for each in verdicts], header=header, rows=rows,
        chart=curve_chart(curves) if curves else None, curves=curves,
    )  # fmt: skip
    atomic_write(out / "ablation.html", page.encode())
    figures = {
        "about": {name: name_path(each) for name, each in about.items()},
        "editors": [each._asdict() for each in trained],
        "scores": {name: each.scores[EDITOR][OVERALL] for name, each in reports.items()},
        "hypotheses": [
            {**each.hypothesis._asdict(), "outcome": each.outcome, "difference": each.compared.difference}
            for each in verdicts
        ],
    }  # fmt: skip
    atomic_write(out / "ablation.json", (json.dumps(figures, indent=1) + "\n").encode())
    say(markdown_table(header, rows, names=2))
    for verdict in verdicts:
        say(str(verdict))
    say(f"report {out / 'ablation.html'}")
    return out / "ablation.html"
