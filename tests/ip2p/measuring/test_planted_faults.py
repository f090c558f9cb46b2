"""Planted faults are what they are called, and measures are told apart by which of them they see."""

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from ip2p.measuring.pixel_truth import pixel_truth
from ip2p.measuring.planted_faults import EXACT, FAULTS, Trial, judge_measure, plant_faults, score_each
from ip2p.pictures.tensors import to_tensor
from ip2p.storybook.render import render

COUNT = 4


@pytest.fixture(scope="module")
def planted() -> dict[str, list[Trial]]:
    return plant_faults(COUNT, seed=3)


def difference(trial: Trial) -> float:
    return float(np.abs(np.asarray(trial.edited, np.float64) - np.asarray(trial.target, np.float64)).mean())


def test_every_fault_changes_the_exact_target(planted: dict[str, list[Trial]]) -> None:
    assert list(planted) == [EXACT, *FAULTS]
    for name, trials in planted.items():
        for row, trial in enumerate(trials):
            assert (trial.source, trial.target) == (planted[EXACT][row].source, planted[EXACT][row].target)
            assert trial.edited.size == trial.target.size
            assert (difference(trial) == 0) == (name == EXACT), (name, row)


def test_faults_are_what_they_are_called(planted: dict[str, list[Trial]]) -> None:
    for trial in planted["nothing done"]:
        assert trial.edited == trial.source
    for trial in planted["wrong value"]:
        assert trial.edited not in (trial.target, trial.source)
    moved, target = (np.asarray(each) for each in (planted["shift"][0].edited, planted["shift"][0].target))
    assert (moved[:, 2:] == target[:, :-2]).all() and (moved[:, :2] == target[:, :1]).all()
    for trial in planted["half done"]:
        middle = (np.asarray(trial.source, np.float64) + np.asarray(trial.target)) / 2
        assert np.abs(np.asarray(trial.edited) - middle).max() <= 1
    assert render(planted[EXACT][0].case.target) == planted[EXACT][0].edited


def test_the_first_rows_do_not_depend_on_the_number(planted: dict[str, list[Trial]]) -> None:
    fewer = plant_faults(2, seed=3)
    assert all(fewer[name][row].edited == planted[name][row].edited for name in fewer for row in range(2))


def test_pixel_truth_tells_every_fault(planted: dict[str, list[Trial]]) -> None:
    def score(trials: Sequence[Trial]) -> list[float]:
        sources, targets, edited = (
            to_tensor([getattr(each, side).resize((128, 128), Image.Resampling.BOX) for each in trials]) / 2 + 0.5
            for side in ("source", "target", "edited")
        )
        return [float(each) for each in pixel_truth(sources, targets, edited, thresholds=(2.0, 6.0)).score]

    found = judge_measure(score, planted, seed=0)
    assert all(interval.value > 0.9 for interval in found.values())


def test_a_measure_that_looks_at_the_input_alone_is_blind(planted: dict[str, list[Trial]]) -> None:
    blind = score_each(lambda source, _target, _edited, instruction: sum(source.histogram()[:90]) + len(instruction))
    some = {name: planted[name] for name in (EXACT, "nothing done", "mush")}
    assert all(interval.value == 0.5 for interval in judge_measure(blind, some, seed=0).values())
    likes_copies = score_each(lambda source, _target, edited, _text: -difference(Trial(source, source, edited, case)))
    case = planted[EXACT][0].case
    found = judge_measure(likes_copies, some, seed=0)
    assert found["nothing done"].value == 0
