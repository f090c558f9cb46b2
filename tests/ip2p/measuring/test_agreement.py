"""AUC and accuracy of measures: against counting, on labels that are clear, and on labels that are chance."""

import math

import numpy as np
import pytest

from ip2p.measuring.agreement import auc, leave_one_out, measure_agreement, paired_auc


def test_auc_counts_the_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    good, bad = rng.integers(0, 9, 30), rng.integers(0, 7, 20)
    counted = np.mean([(a > b) + (a == b) / 2 for a in good for b in bad])
    assert auc(good, bad) == pytest.approx(counted)
    assert auc([2, 3], [0, 1]) == 1 and auc([0], [1]) == 0 and auc([1, 1], [1]) == 0.5
    assert math.isnan(auc([], [1]))


def test_a_measure_that_knows_agrees_wholly() -> None:
    labels = [0, 1] * 20
    found = measure_agreement([label + 0.1 * k / 40 for k, label in enumerate(labels)], labels, seed=0)
    assert found.auc.value == found.auc.low == 1 and found.accuracy.value == 1 and found.unscored == 0


def test_a_measure_that_guesses_agrees_by_chance() -> None:
    rng = np.random.default_rng(1)
    labels = [bool(each) for each in rng.integers(0, 2, 200)]
    found = measure_agreement(rng.random(200).tolist(), labels, seed=0)
    assert found.auc.low < 0.5 < found.auc.high and found.accuracy.value < 0.6


def test_the_picture_itself_does_not_choose_its_threshold() -> None:
    scores, good = np.array([0.0, 1.0, 2.0, 9.0]), np.array([False, False, True, False])
    assert leave_one_out(scores, good).tolist() == [1, 1, 0, 0]


def test_pictures_without_a_score_are_left_out() -> None:
    found = measure_agreement([math.nan, 0.1, 0.9, 0.2, 0.8], [1, 0, 1, 0, 1], seed=0)
    assert found.unscored == 1 and found.auc.rows == 4 and found.auc.value == 1
    spoiled = paired_auc([1.0, math.nan, 1.0], [0.5, 0.0, 1.0], seed=0)
    assert spoiled.rows == 2 and spoiled.value == 0.75


def test_without_any_score_there_is_no_agreement() -> None:
    found = measure_agreement([math.nan] * 3, [1, 0, 1], seed=0)
    assert found.unscored == 3 and found.auc.rows == found.accuracy.rows == 0
    assert math.isnan(found.auc.value) and math.isnan(found.accuracy.value)


def test_scores_need_not_be_spread_alike() -> None:
    labels = [0, 1] * 30
    values = [label + 0.3 * (k % 7) for k, label in enumerate(labels)]
    plain, bent = (measure_agreement(each, labels, seed=3) for each in (values, np.exp(values).tolist()))
    assert plain.auc == bent.auc
