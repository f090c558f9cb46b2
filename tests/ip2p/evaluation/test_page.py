"""The page of an evaluation: which samples it shows, and how it tells figures and settings."""

from collections.abc import Callable

import pytest
from PIL import Image

from ip2p.errors import DataError
from ip2p.evaluation.measures import MEASURES
from ip2p.evaluation.methods import EDITOR
from ip2p.evaluation.page import _choose_ranks, _tell_differences, _tell_settings, render_evaluation
from ip2p.evaluation.report import Evaluation
from ip2p.evaluation.results import Result, encode_picture
from ip2p.evaluation.samples import Pictures, Sample
from ip2p.evaluation.scores import Column, score_methods
from ip2p.measuring.intervals import Difference, Interval


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, {}), (1, {"the only one": 0}), (2, {"best": 0, "worst": 1}), (5, {"best": 0, "median": 2, "worst": 4})],
)
def test_the_worst_of_two_is_no_median(count: int, shown: dict[str, int]) -> None:
    ranked = [Result(str(number), "season") for number in range(count)]
    assert {rank: int(each.sample) for rank, each in _choose_ranks(ranked).items()} == shown


def test_settings_are_told_in_words() -> None:
    settings = {"keep_unchanged": True, "resolution": None, "tolerance": 0.0, "scheduler": "dpm"}
    assert _tell_settings(settings) == "keep unchanged yes, tolerance 0, scheduler dpm"


def test_differences_say_what_is_beyond_chance() -> None:
    found = {
        "iou": Difference(Interval(0.2, 0.1, 0.3, 9), 0.01, 0.02, True),
        "clip_image": Difference(Interval(-0.1, -0.2, 0.1, 4), 0.5, 0.6, False),
    }
    columns = [Column(name, MEASURES[name]) for name in ("iou", "product", "clip_image")]
    line = _tell_differences("SDEdit", found, columns)
    assert line.samples == 9
    assert line.cells == ["+20.0 (+10.0 to +30.0) higher", "-", "-0.100 (-0.200 to +0.100), n 4"]


def test_text_json_and_page_tell_the_differences_that_the_report_has() -> None:
    """No method has figures of which they could be computed again."""
    evaluation = Evaluation(
        about={"editor": "an-editor", "data": "pictures", "seed": 1}, samples={}, methods={}, scores={EDITOR: {}},
        differences={"SDEdit 0.5": {"nearer": Difference(Interval(0.2, 0.1, 0.3, 9), 0.01, 0.02, True)}},
        phrasings={"in held-out phrasings": {"iou": Interval(0.4, 0.3, 0.5, 8)}},
    )  # fmt: skip
    assert "editor beside SDEdit 0.5, on the same samples: nearer to the target +20.0 % (" in str(evaluation)
    assert "Instructions in held-out phrasings (n 8): pixel truth 40.0 % (30.0 to 50.0)" in str(evaluation)
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation
    page = render_evaluation(evaluation, [], {EDITOR: []})
    beside, phrased = page.partition("<h2>The editor beside others</h2>")[2].split("<h2>Held-out phrasings</h2>")
    assert "<td>SDEdit 0.5</td>" in beside and "<b>higher</b>" in beside and "pixel truth" not in beside
    assert "<td>in held-out phrasings</td>" in phrased and "(30.0 to 50.0)" in phrased
    assert "Held-out phrasings" not in render_evaluation(evaluation.model_copy(update={"phrasings": {}}), [], {})


@pytest.mark.parametrize(
    ("measure", "explained"),
    [("iou", "dE is how far apart"), ("success", "The judge is"), ("clip_image", "CLIP is a network")],
)
def test_a_page_explains_the_words_of_the_measures_that_it_has(measure: str, explained: str) -> None:
    result = Result("s-0", "dark", figures={measure: 1.0})
    evaluation = Evaluation(
        about={"editor": "an-editor", "data": "pictures", "seed": 1}, samples={"s-0": "dark"}, methods={},
        scores=score_methods({EDITOR: [result]}, 0),
    )  # fmt: skip
    page = render_evaluation(evaluation, [], {EDITOR: []})
    _, told = page.split("<h2>What the measures mean</h2>")
    assert [each in told for each in ("dE is how", "The judge is", "CLIP is a")].count(True) == 1 and explained in told
    assert told.count(MEASURES[measure].meaning) == page.count(MEASURES[measure].meaning) == 1
    assert "evaluation.html says what the measures mean" in str(evaluation)


def test_a_page_is_written_without_an_input_that_is_gone_by_then(make_sample: Callable[..., Sample]) -> None:
    def gone() -> Pictures:
        raise DataError("there is no a.png", "Put it back")

    result = Result("s-0", "dark", figures={"iou": 0.5}, picture=encode_picture(Image.new("RGB", (32, 32))))
    evaluation = Evaluation(
        about={"editor": "an-editor", "data": "pictures", "seed": 1}, samples={"s-0": "dark"}, methods={},
        scores=score_methods({EDITOR: [result]}, 0),
    )  # fmt: skip
    counts = [
        render_evaluation(evaluation, [sample], {EDITOR: [result]}).count("data:image/")
        for sample in (make_sample(0), make_sample(0, load=gone))
    ]
    assert counts == [3, 1]
