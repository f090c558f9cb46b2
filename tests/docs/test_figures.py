"""The figures of an evaluation for the README: a curve that is a picture of its own, and what to say."""

import importlib.util
import xml.etree.ElementTree as Xml
from collections.abc import Sequence
from pathlib import Path

import pytest

from ip2p.errors import DataError
from ip2p.evaluation.curve import TradeOff, TradeOffPoint
from ip2p.evaluation.methods import BOUND, EDITOR
from ip2p.evaluation.report import Evaluation, MethodReport
from ip2p.measuring.intervals import Interval

spec = importlib.util.spec_from_file_location("docs_figures", Path(__file__).parents[2] / "docs" / "figures.py")
assert spec and spec.loader
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)


VALUES = {EDITOR: 0.412, BOUND: 0.934, "SDEdit 0.3": 0.05, "SDEdit 0.5": 0.07}
SAMPLES = [f"s-{number}" for number in range(6)]


def interval(value: float, rows: int = 6) -> Interval:
    return Interval(value, value - 0.01, value + 0.01, rows)


def evaluation(drawn: Sequence[str] = SAMPLES, **more: object) -> Evaluation:
    """An evaluation with known figures; `drawn` are the samples that SDEdit was measured on."""
    measured = {name: drawn if "SDEdit" in name else SAMPLES for name in VALUES}
    given: dict[str, object] = {
        "about": {"editor": "an-editor", "data": "held-out scenes", "seed": 1},
        "samples": dict.fromkeys(SAMPLES, "season"),
        "methods": {
            name: MethodReport(settings={}, rows=1, figures={each: {"iou": VALUES[name]} for each in measured[name]})
            for name in VALUES
        },
        "scores": {
            name: {"all": {"iou": interval(value, len(measured[name])), "kept": interval(0.9)}}
            for name, value in VALUES.items()
        },
    }  # fmt: skip
    return Evaluation.model_validate(given | more)


def test_the_summary_has_the_figures_of_the_file(tmp_path: Path) -> None:
    points = [TradeOffPoint(f"s_I {k}", interval(0.1 * k), interval(1 - 0.1 * k)) for k in (1, 2)]
    made = evaluation(curves=[TradeOff("editor", 9, points, interval(0.2))])
    (tmp_path / "evaluation.json").write_text(made.model_dump_json())
    picture, said, table = figures.write_figures(tmp_path, tmp_path).split("\n\n")
    assert said == "an-editor on 6 samples of held-out scenes, with 95 % intervals over samples in brackets:"
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert lines[0] == ["method", "n", "pixel truth %", "pixels kept %"]
    assert lines[2:] == [
        ["editor", "6", "41.2 (40.2 to 42.2)", "90.0 (89.0 to 91.0)"],
        [BOUND, "6", "93.4 (92.4 to 94.4)", "90.0 (89.0 to 91.0)"],
        ["SDEdit 0.5", "6", "7.0 (6.0 to 8.0)", "90.0 (89.0 to 91.0)"],
    ]
    assert picture.endswith("(docs/curve.svg)")
    drawing = Xml.parse(tmp_path / "curve.svg").getroot()  # noqa: S314  (we wrote it)
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(("drawn", "told"), [(SAMPLES[:3], "the first 3"), (SAMPLES[1:3], "2 of them")])
def test_a_baseline_on_fewer_samples_says_on_which(drawn: Sequence[str], told: str) -> None:
    said = figures.summary(evaluation(drawn))
    assert f"| SDEdit 0.5, {told} " in said.splitlines()[-1]


def test_without_an_editor_there_is_nothing_to_say(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no figures of an editor"):
        figures.summary(evaluation(scores={BOUND: {"all": {"iou": interval(0.9)}}}))
