"""The figures of an evaluation for the README: a curve that is a picture of its own, and a sentence."""

import importlib.util
import xml.etree.ElementTree as Xml
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


def interval(value: float) -> Interval:
    return Interval(value, value - 0.01, value + 0.01, 40)


def evaluation(**more: object) -> Evaluation:
    """An evaluation with known figures."""
    values = {EDITOR: 0.412, BOUND: 0.934, "SDEdit 0.3": 0.05, "SDEdit 0.5": 0.07}
    given: dict[str, object] = {
        "about": {"editor": "an-editor", "data": "held-out scenes", "seed": 1}, "samples": {"s-0": "season"},
        "methods": {EDITOR: MethodReport(settings={}, rows=1, figures={})},
        "scores": {name: {"all": {"iou": interval(value), "kept": interval(0.9)}} for name, value in values.items()},
    }  # fmt: skip
    return Evaluation.model_validate(given | more)


def test_the_sentence_has_the_figures_of_the_file(tmp_path: Path) -> None:
    points = [TradeOffPoint(f"s_I {k}", interval(0.1 * k), interval(1 - 0.1 * k)) for k in (1, 2)]
    made = evaluation(curves=[TradeOff("editor", 9, points, interval(0.2))])
    (tmp_path / "evaluation.json").write_text(made.model_dump_json())
    picture, said = figures.write_figures(tmp_path, tmp_path).split("\n\n")
    assert said == (
        "On 1 sample of held-out scenes, an-editor reaches 41.2 % (40.2 to 42.2) pixel truth (93.4 % for the exact "
        "target through the autoencoder, 7.0 % for SDEdit 0.5), 90.0 % (89.0 to 91.0) pixels kept; 95 % "
        "intervals over samples in brackets."
    )
    assert picture.endswith("(docs/curve.svg)")
    drawing = Xml.parse(tmp_path / "curve.svg").getroot()  # noqa: S314  (we wrote it)
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"


def test_without_an_editor_there_is_nothing_to_say(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no figures of an editor"):
        figures.sentence(evaluation(scores={BOUND: {"all": {"iou": interval(0.9)}}}))
