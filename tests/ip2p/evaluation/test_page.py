"""The page of an evaluation: which samples it shows, and how it tells figures and settings."""

import pytest

from ip2p.evaluation.page import _choose_ranks, _tell_differences, _tell_settings
from ip2p.evaluation.results import Result
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
    line = _tell_differences("SDEdit", found, ["iou", "product", "clip_image"])
    assert line.samples == 9
    assert line.cells == ["+20.0 (+10.0 to +30.0) higher", "-", "-0.100 (-0.200 to +0.100), n 4"]
