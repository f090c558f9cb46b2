"""Intervals cover the truth as often as they say, pairs are compared as pairs, and chance is not taken for a gain."""

import math

import numpy as np
import pytest

from ip2p.measuring.intervals import bootstrap, compare, holm, paired_difference, share_interval, sign_flip_chance

TRIALS = 1500
"""So many that chance moves the share that is covered by half a percent."""


@pytest.mark.parametrize("shape", ["normal", "skewed", "shares"])
def test_intervals_cover_the_truth(shape: str) -> None:
    rng, covered = np.random.default_rng(0), 0
    draws = {
        "normal": (lambda: rng.normal(1, 2, 50), 1.0),
        "skewed": (lambda: rng.gamma(2, 1, 50), 2.0),
        "shares": (lambda: rng.beta(2, 5, 50), 2 / 7),
    }
    draw, truth = draws[shape]
    for trial in range(TRIALS):
        found = bootstrap(draw(), seed=trial, resamples=400)
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / TRIALS <= 0.97


@pytest.mark.parametrize(("truth", "count"), [(0.9, 13), (0.95, 13), (0.97, 33), (0.8, 200), (0.5, 13)])
def test_shares_of_yes_and_no_are_covered_even_where_nearly_all_say_yes(truth: float, count: int) -> None:
    """Counts are whole numbers, so that the coverage of any interval jumps about what it says."""
    rng = np.random.default_rng(0)
    found = [share_interval(rng.random(count) < truth) for _ in range(TRIALS)]
    assert 0.92 <= np.mean([each.low <= truth <= each.high for each in found]) <= 0.99
    every = share_interval([1.0] * 13)
    assert (every.value, every.high, every.rows) == (1, 1, 13) and 0.7 < every.low < 0.8
    assert share_interval([0.0, math.nan]).rows == 1 and math.isnan(share_interval([]).value)


def test_differences_of_pairs_are_covered_too() -> None:
    rng, covered = np.random.default_rng(1), 0
    for trial in range(600):
        first = rng.normal(0, 3, 40)
        found = paired_difference(first, first + rng.normal(0.2, 1, 40), seed=trial, resamples=300)
        covered += found.interval.low <= 0.2 <= found.interval.high
    assert 0.93 <= covered / 600 <= 0.97


def test_ten_rows_are_covered_as_often_as_many() -> None:
    rng = np.random.default_rng(8)
    found = [bootstrap(rng.normal(0, 1, 10), seed=trial, resamples=400) for trial in range(TRIALS)]
    assert 0.93 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.97


def test_strata_are_resampled_within_themselves() -> None:
    rng = np.random.default_rng(2)
    strata = ["easy"] * 50 + ["hard"] * 50
    values = np.concatenate([rng.normal(10, 1, 50), rng.normal(0, 1, 50)])
    plain, split = bootstrap(values, seed=0), bootstrap(values, seed=0, strata=strata)
    assert plain.value == split.value
    assert split.high - split.low < 0.3 * (plain.high - plain.low)
    one_each = bootstrap([1.0, 2.0, 3.0], seed=0, strata=["a", "b", "c"])
    assert one_each.low == one_each.high == 2.0


def test_any_statistic_of_rows() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal([1, 2], [0.1, 0.1], (200, 2))
    found = bootstrap(rows, lambda x: x[..., 1].mean(1) / x[..., 0].mean(1), seed=0)
    assert found.value == pytest.approx(2, abs=0.03) and found.low < found.value < found.high
    assert found.high - found.low < 0.1
    median = bootstrap(rng.normal(5, 1, 101), lambda x: np.median(x, axis=1), seed=0)
    assert median.low < 5 < median.high


def test_rows_without_figures_are_left_out() -> None:
    nan = math.nan
    assert bootstrap([1.0, nan, 2.0, 4.0], seed=1, strata=list("abab")) == bootstrap(
        [1.0, 2.0, 4.0], seed=1, strata=list("aab")
    )
    empty, single = bootstrap([nan], seed=0), bootstrap([3.0], seed=0)
    assert empty.rows == 0 and all(math.isnan(each) for each in empty[:3])
    assert single.rows == 1 and single.value == 3 and math.isnan(single.low)
    both = paired_difference([1.0, nan, 2.0], [2.0, 5.0, nan], seed=0)
    assert both.interval.rows == 1 and both.interval.value == 1
    none = paired_difference([nan], [1.0], seed=0)
    assert none.p == 1 and not none.beyond_chance


def test_equal_seeds_give_equal_intervals_in_any_number_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).random(40)
    found = bootstrap(values, seed=7), paired_difference(values, values**2, seed=7)
    assert found == (bootstrap(values, seed=7), paired_difference(values, values**2, seed=7))
    assert bootstrap(values, seed=8) != found[0]
    monkeypatch.setattr("ip2p.measuring.intervals.ROWS_AT_ONCE", 4000)
    assert bootstrap(values, seed=7) == found[0]


def test_a_constant_has_no_width() -> None:
    found = bootstrap([0.5] * 20, seed=0)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_pairs_see_what_two_intervals_do_not() -> None:
    rng = np.random.default_rng(5)
    first = rng.normal(0, 10, 100)
    second = first + rng.normal(0.5, 1, 100)
    one, other = bootstrap(first, seed=0), bootstrap(second, seed=0)
    assert one.high > other.low
    found = paired_difference(first, second, seed=0)
    assert found.beyond_chance and found.interval.low > 0


def test_signs_that_are_chance_are_not_beyond_it() -> None:
    rng = np.random.default_rng(6)
    chances = [sign_flip_chance(rng.standard_exponential(30) * rng.choice([-1, 1], 30), seed=k, resamples=300)
               for k in range(400)]  # fmt: skip
    assert 0.02 <= np.mean(np.array(chances) < 0.05) <= 0.08
    assert sign_flip_chance(np.ones(6), seed=0, resamples=20000) == pytest.approx(2 / 64, abs=0.004)
    assert sign_flip_chance([0.0, 0.0], seed=0) == 1


def test_holm_corrects_for_many_measures() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []
    assert holm([0.04]) == [0.04]
    corrected = holm([0.02, math.nan])
    assert corrected[0] == 0.02 and math.isnan(corrected[1])


def test_among_many_measures_chance_alone_finds_nothing() -> None:
    rng, found, plain = np.random.default_rng(7), 0, 0
    for trial in range(40):
        measures = {str(k): (rng.normal(size=40), rng.normal(size=40)) for k in range(15)}
        differences = compare(measures, seed=trial, resamples=600).values()
        found += any(each.beyond_chance for each in differences)
        plain += any(each.p < 0.05 for each in differences)
    assert found <= 6 and plain >= 12
