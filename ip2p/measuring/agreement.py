"""Agreement of a measure's scores with labels of good and bad pictures."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ip2p.measuring.intervals import Interval, bootstrap


class Agreement(NamedTuple):
    """Agreement of a measure with labels.

    Attributes:
        auc: area under the ROC curve with its interval: how often a good picture scores higher than a bad one.
        accuracy: share of pictures that a threshold labels as they are, each picture by the threshold that is best for
            all others, with its interval; NaN without scores.
        unscored: number of pictures without a score.
    """

    auc: Interval
    accuracy: Interval
    unscored: int


def auc(good: npt.ArrayLike, bad: npt.ArrayLike) -> float:
    """Probability that a good picture scores higher than a bad one; equal scores count half, NaN without both."""
    high, low = np.asarray(good, np.float64), np.sort(np.asarray(bad, np.float64))
    if not len(high) or not len(low):
        return math.nan
    above = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(above.sum()) / (2 * len(high) * len(low))


def measure_agreement(scores: Sequence[float], labels: Sequence[bool | int], *, seed: int) -> Agreement:
    """Compare the scores of a measure with labels of the same pictures.

    Args:
        scores: scores, higher for better pictures; NaN for pictures without one, which are left out.
        labels: whether each picture is good.
        seed: seed of the intervals.
    """
    values, good = np.asarray(scores, np.float64), np.asarray(labels, bool)
    known = ~np.isnan(values)
    values, good = values[known], good[known]
    rows = np.stack([values, good.astype(np.float64)], axis=1)
    strata = ["good" if each else "bad" for each in good]
    area = bootstrap(rows, _auc_of_rows, seed=seed, strata=strata)
    return Agreement(area, bootstrap(leave_one_out(values, good), seed=seed), int((~known).sum()))


def paired_auc(good: npt.ArrayLike, bad: npt.ArrayLike, *, seed: int) -> Interval:
    """AUC of a measure at telling pictures from spoiled ones of the same samples, which are resampled together.

    Args:
        good, bad: scores of each sample's good and spoiled picture; samples without both (NaN) are left out.
        seed: seed of the interval.
    """
    rows = np.stack([np.asarray(good, np.float64), np.asarray(bad, np.float64)], axis=1)
    return bootstrap(rows, lambda drawn: np.array([auc(each[:, 0], each[:, 1]) for each in drawn]), seed=seed)


def leave_one_out(scores: npt.NDArray[np.float64], good: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Whether each picture is labeled as it is by the threshold that labels most of the others as they are."""
    return np.array(
        [
            float((scores[row] >= _best_threshold(np.delete(scores, row), np.delete(good, row))) == good[row])
            for row in range(len(scores))
        ]
    )


def _best_threshold(scores: npt.NDArray[np.float64], good: npt.NDArray[np.bool_]) -> float:
    """The threshold with most right labels, halfway between two scores; of equal ones the middle one."""
    if not len(scores):
        return -math.inf
    order = np.unique(scores)
    bounds = np.concatenate([[-np.inf], (order[1:] + order[:-1]) / 2, [np.inf]])
    right = ((scores >= bounds[:, None]) == good).sum(1)
    best = np.flatnonzero(right == right.max())
    return float(bounds[best[len(best) // 2]])


def _auc_of_rows(drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """AUC of resampled rows of score and label."""
    return np.array([auc(each[each[:, 1] > 0.5, 0], each[each[:, 1] < 0.5, 0]) for each in drawn])
