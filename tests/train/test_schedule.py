"""Progress and learning rate: warm-up, decay, and time limit."""

import pytest

from ip2p.train.schedule import MIN_FACTOR, Clock, learning_rate_factor, share_done


def test_progress_is_by_steps_or_by_the_clock_whichever_is_first() -> None:
    assert share_done(50, 100, seconds=1e9, minutes=None) == 0.5
    assert share_done(50, 100, seconds=60.0, minutes=10.0) == 0.5
    assert share_done(50, 100, seconds=540.0, minutes=10.0) == 0.9
    assert share_done(50, 100, seconds=6000.0, minutes=10.0) == 1.0
    assert share_done(50, None, seconds=300.0, minutes=10.0) == 0.5


def test_warm_up_rises_and_linear_falls_to_the_floor() -> None:
    factors = [learning_rate_factor("linear", step=step, warmup=4, done=step / 100) for step in range(101)]
    assert 0 < factors[0] < factors[1] < factors[2] < factors[3]
    assert factors[10] == pytest.approx(0.9)
    assert factors[100] == MIN_FACTOR


def test_constant_stays_and_cosine_is_half_at_half() -> None:
    assert learning_rate_factor("constant", step=7, warmup=0, done=0.99) == 1.0
    assert learning_rate_factor("cosine", step=7, warmup=0, done=0.5) == pytest.approx(0.5)


def test_the_clock_counts_from_its_making() -> None:
    times = iter([100.0, 103.0])
    assert Clock(now=lambda: next(times)).seconds == 3.0
