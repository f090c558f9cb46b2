"""Comparisons: paired by sample, on equal data only."""

import numpy as np
import pytest

from ip2p.errors import DataError
from ip2p.evaluation.compare import compare_evaluations, comparison_table, describe_others, describe_phrasings
from ip2p.evaluation.measures import MEASURES
from ip2p.evaluation.report import Evaluation, MethodReport
from ip2p.evaluation.results import Result
from ip2p.evaluation.samples import Sample, storybook_samples


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


def test_the_editor_is_held_against_every_other_method_on_the_samples_of_both() -> None:
    rng = np.random.default_rng(1)
    ours = {f"s-{k}": {"iou": rng.random() / 2, "nearer": rng.random(), "sharpness": 1.0} for k in range(60)}
    names = list(ours)
    better = {name: {"iou": ours[name]["iou"] - 0.1, "nearer": ours[name]["nearer"] + 0.2} for name in names[:30]}
    alike = {name: {"iou": ours[name]["iou"] + 0.1 * rng.normal()} for name in names[20:]} | {"s-99": {"iou": 0.0}}
    figures = {"editor": ours, "copy of the input": better, "SDEdit 0.5": better, "SDEdit 0.9": alike, "text": {}}
    methods = {name: MethodReport(settings={}, rows=0, figures=each) for name, each in figures.items()}
    first, second = describe_others(methods)
    assert first.startswith("editor beside SDEdit 0.5, on the same samples: pixel truth +10.0 % (")
    assert ", n 30, higher; nearer to the target -20.0 % (" in first and first.endswith("lower")
    assert second.startswith("editor beside SDEdit 0.9") and second.endswith(", n 40, not beyond chance")
    assert describe_others({"editor": methods["editor"]}) == describe_others({}) == []
    assert describe_others({name: each for name, each in methods.items() if name != "editor"}) == []


def test_held_out_phrasings_are_told_apart_from_those_of_the_training() -> None:
    samples = storybook_samples(60, seed=3)
    rephrased = [each.case.is_rephrased for each in samples if each.case]
    assert len(rephrased) == 60 and sum(rephrased) == 30
    results = [
        Result(sample.name, sample.kind, figures={"iou": 0.1 if held_out else 0.4})
        for sample, held_out in zip(samples, rephrased, strict=True)
    ]
    (line,) = describe_phrasings(samples, results, seed=0)
    assert line == (
        "Instructions phrased as in training (n 30): pixel truth 40.0 % (40.0 to 40.0); "
        "in held-out phrasings (n 30): pixel truth 10.0 % (10.0 to 10.0)"
    )
    others = [Sample(each.name, each.kind, each.instruction, each.seed, each.load) for each in samples]
    assert describe_phrasings(others, results, seed=0) == describe_phrasings(samples[:15], results, seed=0) == []
