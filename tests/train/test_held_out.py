"""The held-out loss over a run: its lowest point, its rise, and what is kept of it in a card."""

import json
import math
from pathlib import Path

from ip2p.train.held_out import HeldOutCurve, Point


def curve(*losses: float) -> HeldOutCurve:
    return HeldOutCurve(tuple(Point(10 * number, loss) for number, loss in enumerate(losses)))


def test_the_lowest_point_and_the_validations_since() -> None:
    assert curve(0.5, 0.4, 0.45, 0.4).lowest == Point(10, 0.4)
    assert [curve(*losses).stale for losses in [(), (0.5,), (0.5, 0.4), (0.5, 0.4, 0.45), (0.5, 0.4, 0.5, 0.4)]] == [
        0, 0, 0, 1, 2,
    ]  # fmt: skip


def test_a_loss_that_is_no_number_is_never_the_lowest() -> None:
    assert curve(math.nan, 0.5, math.nan).lowest == Point(10, 0.5)
    assert not curve(0.5, math.nan).is_lowest and curve(math.nan).lowest is None and curve(math.nan).stale == 1


def test_a_rise_is_told_once_after_a_steep_step_or_two_flat_ones() -> None:
    losses = [0.5, 0.45, 0.6, 0.7, 0.44, 0.441, 0.442, 0.443]
    told = [count - 1 for count in range(1, len(losses) + 1) if curve(*losses[:count]).turned]
    assert told == [2, 6]


def test_a_curve_is_read_from_the_metrics_and_one_step_counts_once(tmp_path: Path) -> None:
    rows = [{"step": 0, "held_out_loss": 0.5}, {"step": 1, "loss": 1.0}, {"step": 2, "held_out_loss": 0.4}]
    rows.append({"step": 2, "held_out_loss": 0.3})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = HeldOutCurve.read(tmp_path / "metrics.jsonl")
    assert found.points == (Point(0, 0.5), Point(2, 0.3)) and found.add(2, 0.1).points[-1] == Point(2, 0.1)
    assert found.has(2) and not found.has(1)
    assert HeldOutCurve.read(tmp_path / "metrics.jsonl", pairs=7) == found  # older rows do not say of which pairs
    assert found.tell() == "0.5000 before the first step, 0.3000 at step 2"


def test_a_card_gets_the_first_the_lowest_and_the_last_point() -> None:
    losses = [1.0] * 100
    losses[37] = 0.5
    thin = curve(*losses).thinned(12)
    steps = [point.step for point in thin]
    assert len(thin) <= 12 and {0, 370, 990} <= set(steps) and steps == sorted(steps)
    assert curve(0.5, 0.4).thinned(12) == list(curve(0.5, 0.4).points)
