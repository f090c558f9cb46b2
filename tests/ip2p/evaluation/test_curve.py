"""Trade-off curves: areas, which lies above, and intervals of the same samples."""

import numpy as np
import pytest

from ip2p.evaluation.curve import COLORS, curve_chart, leave_out_failed, trade_offs
from ip2p.evaluation.results import Result


def results(x: float, y: float, count: int = 40, spread: float = 0.01) -> list[Result]:
    """Samples whose figures lie around a point."""
    rng = np.random.default_rng(1)
    return [
        Result(
            f"s-{k}", "season",
            figures={"clip_direction": x + spread * rng.normal(), "clip_image": y + spread * rng.normal()},
        )
        for k in range(count)
    ]  # fmt: skip


def test_the_area_is_what_lies_below_the_lines_between_points() -> None:
    (curve,) = trade_offs({"editor": {"a": results(0.2, 0.9, spread=0), "b": results(0.6, 0.5, spread=0)}}, seed=0)
    assert curve.area.value == pytest.approx(0.2 * 0.9 + 0.4 * 0.7)
    assert [(point.x.value, point.y.value) for point in curve.points] == [
        (pytest.approx(0.2), pytest.approx(0.9)), (pytest.approx(0.6), pytest.approx(0.5))
    ]  # fmt: skip


def test_neither_more_points_of_a_line_nor_a_turn_back_change_a_curve() -> None:
    line = {str(x): results(x, 0.9 - x / 2, spread=0) for x in (0.2, 0.3, 0.4, 0.5, 0.6)}
    few = {name: line[name] for name in ("0.2", "0.6")}
    turned = {"first": results(0.3, 0.5, spread=0), **few}
    areas = [trade_offs({"editor": each}, seed=0)[0].area.value for each in (line, few, turned)]
    assert areas[1:] == [pytest.approx(areas[0])] * 2
    _, other = trade_offs({"editor": turned, "SDEdit": line}, seed=0)
    assert other.above is not None and other.above.value == pytest.approx(0, abs=1e-6)


def test_a_point_that_another_exceeds_adds_nothing() -> None:
    one = trade_offs({"editor": {"a": results(0.4, 0.8)}}, seed=0)[0]
    two = trade_offs({"editor": {"a": results(0.4, 0.8), "b": results(0.3, 0.5)}}, seed=0)[0]
    assert one.area == two.area and one.area.low <= one.area.value <= one.area.high


def test_the_higher_curve_is_above_where_both_reach() -> None:
    upper = {str(x): results(x, 0.9 - x / 2) for x in (0.2, 0.4, 0.6)}
    lower = {str(x): results(x, 0.8 - x / 2) for x in (0.4, 0.5, 0.8)}
    far = {str(x): results(x, 0.5) for x in (0.8, 0.9)}
    first, second, third = trade_offs({"editor": upper, "SDEdit": lower, "far": far}, seed=0)
    assert first.above is None and third.above is None
    assert second.above is not None and second.above.value == pytest.approx(0.1, abs=0.01) and second.above.low > 0


def test_only_samples_with_both_measures_everywhere_count() -> None:
    short = results(0.5, 0.5)[:30]
    short[0] = short[0]._replace(figures={"clip_image": 0.1})
    found = trade_offs({"editor": {"a": results(0.2, 0.9), "b": short}}, seed=0)
    assert found[0].samples == 29
    assert trade_offs({"editor": {"a": results(0.4, 0.8, count=1)}}, seed=0) == [], "one sample has no interval"


def test_a_point_that_failed_everywhere_is_left_out_and_named() -> None:
    failed = [Result("s-1", "season", "failed")]
    points = {"editor": {"s 1": results(0.2, 0.9), "s 2": failed}, "SDEdit": {"0.5": failed}}
    whole, notes = leave_out_failed(points)
    assert {name: list(curve) for name, curve in whole.items()} == {"editor": ["s 1"]}
    assert ["editor at s 2" in notes[0], "SDEdit at 0.5" in notes[1]] == [True, True]
    assert leave_out_failed({"editor": {"s 1": results(0.2, 0.9)}})[1] == []


def test_the_chart_has_every_curve_with_its_intervals() -> None:
    curves = trade_offs(
        {
            name: {"s 1": results(x, 0.8), "s 2": results(x + 0.2, 0.6)}
            for name, x in (("editor", 0.2), ("SDEdit", 0.3))
        },
        seed=0,
    )
    text = curve_chart(curves).__html__()
    assert text.count("<polygon") == 4 and text.count('opacity="0.12"') == 2, "one band for each curve"
    assert ">editor, s 1 to 2</text>" in text and ">SDEdit, s 1 to 2</text>" in text
    assert text.lstrip().startswith("<svg xmlns")


def test_every_editor_of_an_ablation_has_a_colour_of_its_own() -> None:
    curves = trade_offs({f"editor {number}": {"s 1": results(0.2, 0.8)} for number in range(7)}, seed=0)
    assert len({color for _, color in curve_chart(curves).legend}) == 7 == len(set(COLORS))
