"""Comparisons: paired by sample, on equal data only."""

import numpy as np
import pytest

from ip2p.errors import DataError
from ip2p.evaluation.compare import compare_evaluations, comparison_table
from ip2p.evaluation.measures import MEASURES
from ip2p.evaluation.report import Evaluation, MethodReport


def evaluation(gain: float, *, noise: float = 0.0, own_seed: int = 5, **about: object) -> Evaluation:
    """Forty samples of widely different figures, all better by `gain`."""
    rng, own = np.random.default_rng(0), np.random.default_rng(own_seed)
    figures = {f"s-{k}": {"iou": rng.random() / 2 + gain + noise * own.normal()} for k in range(40)}
    return Evaluation(
        about={"data": "storybook", "seed": 1, "clip": "a"} | about,
        samples={name: "season" if k % 2 else "time" for k, name in enumerate(figures)},
        methods={"editor": MethodReport(settings={}, rows=60, figures=figures)}, scores={},
    )  # fmt: skip


def test_a_small_gain_on_every_sample_is_beyond_chance() -> None:
    """The means differ by far less than samples do, so that only pairs can tell."""
    found = compare_evaluations(evaluation(0), evaluation(0.02, noise=0.01))
    assert [(each.kind, each.difference.beyond_chance) for each in found] == [
        ("all", True), ("season", True), ("time", True)
    ]  # fmt: skip
    assert found[0].second - found[0].first == pytest.approx(found[0].difference.interval.value)
    assert "| editor | all" in comparison_table(found)


def test_what_is_beyond_chance_can_be_said_among_all_kinds_and_measures() -> None:
    """Fifteen kinds and ten measures: what chance alone gives seldom enough is asked of enough draws."""
    rng = np.random.default_rng(3)
    names = list(MEASURES)[:10]
    before = {f"s-{k}": {name: rng.random() / 2 for name in names} for k in range(300)}
    after = {sample: {name: value + 0.1 for name, value in each.items()} for sample, each in before.items()}
    first, second = (
        Evaluation(
            about={"data": "storybook", "seed": 1}, samples={name: f"kind {int(name[2:]) % 15}" for name in figures},
            methods={"editor": MethodReport(settings={}, rows=60, figures=figures)}, scores={},
        )
        for figures in (before, after)
    )  # fmt: skip
    found = compare_evaluations(first, second)
    assert len(found) == 16 * len(names) and all(each.difference.beyond_chance for each in found)


def test_noise_is_hardly_ever() -> None:
    """Of forty comparisons of noise, one in twenty may find something."""
    found = [
        compare_evaluations(evaluation(0), evaluation(0.0, noise=0.05, own_seed=seed)) for seed in range(40)
    ]  # fmt: skip
    assert sum(any(each.difference.beyond_chance for each in one) for one in found) <= 5
    assert any(len(comparison_table(one).splitlines()) == 3 for one in found), "over all kinds alone"


def test_other_data_are_refused() -> None:
    with pytest.raises(DataError, match="differ in seed: 1 and 2"):
        compare_evaluations(evaluation(0), evaluation(0, seed=2))
    for name in ("judge_weights", "clip_weights", "measures", "samples"):
        with pytest.raises(DataError, match=rf"differ in {name}: none( \(a\))? and another"):
            compare_evaluations(evaluation(0, **{name: "none"}), evaluation(0, **{name: "another"}))
    one, moved = (evaluation(0, clip=name, clip_weights="0123") for name in ("clip", "elsewhere/clip"))
    assert compare_evaluations(one, moved), "a name says nothing"
    with pytest.raises(DataError, match=r"differ in clip_weights: 0123 \(clip\) and 4567 \(clip\)"):
        compare_evaluations(one, evaluation(0, clip="clip", clip_weights="4567"))
    with pytest.raises(DataError, match="no sample in common"):
        compare_evaluations(evaluation(0), evaluation(0).model_copy(update={"methods": {}}))


def test_what_another_dino_measured_is_left_out() -> None:
    def measured(dino: str) -> Evaluation:
        found = evaluation(0.1, dino="dino", dino_weights=dino)
        figures = {name: each | {"Emu Edit DINO": 0.5} for name, each in found.methods["editor"].figures.items()}
        return found.model_copy(update={"methods": {"editor": MethodReport(settings={}, rows=60, figures=figures)}})

    for dino, measures in (("one", {"iou", "Emu Edit DINO"}), ("other", {"iou"})):
        assert {each.measure for each in compare_evaluations(measured("one"), measured(dino))} == measures
