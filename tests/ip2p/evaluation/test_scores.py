"""Scores: every method, kind and measure with its interval, and what is not defined left out."""

import math

from ip2p.evaluation.measures import MEASURES
from ip2p.evaluation.results import Result
from ip2p.evaluation.scores import columns_of, kinds_table, overall_table, score_methods, show
from ip2p.measuring.intervals import Interval


def results(method: float, count: int = 30) -> list[Result]:
    return [
        Result(f"s-{k}", ("season", "time", "style")[k % 3], figures={"iou": method + 0.01 * (k % 7), "psnr": 20.0})
        for k in range(count)
    ] + [Result("s-lost", "time", "failed")]


def test_every_kind_has_means_with_intervals() -> None:
    found = score_methods({"editor": results(0.5), "copy": results(0.0)}, seed=0)
    assert {method: list(kinds) for method, kinds in found.items()} == {
        "editor": ["all", "season", "style", "time"], "copy": ["all", "season", "style", "time"]
    }  # fmt: skip
    value, low, high, rows = found["editor"]["all"]["iou"]
    assert rows == 30 and low < value < high and found["editor"]["season"]["iou"].rows == 10
    assert found == score_methods({"editor": results(0.5), "copy": results(0.0)}, seed=0)
    assert [each.name for each in columns_of(found)] == ["iou", "psnr"]


def test_tables_have_all_methods_and_kinds() -> None:
    found = score_methods({"editor": results(0.5), "copy": results(0.0), "lost": [Result("s", "time", "x")]}, seed=0)
    lines = overall_table(found).splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["method", "-" * 8, "editor", "copy", "lost"]
    assert "pixel truth %" in lines[0] and "| 52.8 (" in lines[2] and lines[4].split()[-2] == "-"
    assert [line.split("|")[1].strip() for line in kinds_table(found, "editor").splitlines()[2:]] == [
        "season", "style", "time"
    ]  # fmt: skip


def test_a_measure_of_fewer_samples_says_how_many() -> None:
    rows = [row._replace(figures={"psnr": 20.0}) if k < 3 else row for k, row in enumerate(results(0.5))]
    found = score_methods({"editor": rows}, seed=0)
    (line,) = overall_table(found).splitlines()[2:]
    assert line.split("|")[2].strip() == "30" and line.split("|")[3].strip().endswith("), n 27")
    assert "n 9" in kinds_table(found, "editor") and line.count("n ") == 1


def test_an_interval_that_is_not_there_is_not_shown() -> None:
    assert show(Interval(0.5, math.nan, math.nan, 1), MEASURES["iou"]) == "50.0"
    assert show(None, MEASURES["iou"]) == "-"
