"""The editor beside other methods on the samples of both, and its edits by phrasing."""

import numpy as np

from ip2p.evaluation.beside import compare_others, describe_others, describe_phrasings, score_phrasings
from ip2p.evaluation.results import Result
from ip2p.evaluation.samples import Sample, storybook_samples


def test_the_editor_is_held_against_every_other_method_on_the_samples_of_both() -> None:
    rng = np.random.default_rng(1)
    ours = {f"s-{k}": {"iou": rng.random() / 2, "nearer": rng.random(), "sharpness": 1.0} for k in range(60)}
    names = list(ours)
    better = {name: {"iou": ours[name]["iou"] - 0.1, "nearer": ours[name]["nearer"] + 0.2} for name in names[:30]}
    alike = {name: {"iou": ours[name]["iou"] + 0.1 * rng.normal()} for name in names[20:]} | {"s-99": {"iou": 0.0}}
    figures = {"editor": ours, "copy of the input": better, "SDEdit 0.5": better, "SDEdit 0.9": alike, "text": {}}
    differences = compare_others(figures)
    assert {name: list(each) for name, each in differences.items()} == {
        "SDEdit 0.5": ["iou", "nearer"], "SDEdit 0.9": ["iou"]
    }  # fmt: skip
    first, second = describe_others(differences)
    assert first.startswith("editor beside SDEdit 0.5, on the same samples: pixel truth +10.0 % (")
    assert ", n 30, higher; nearer to the target -20.0 % (" in first and first.endswith("lower")
    assert second.startswith("editor beside SDEdit 0.9") and second.endswith(", n 40, not beyond chance")
    assert compare_others({"editor": ours}) == compare_others({}) == {} and describe_others({}) == []
    assert compare_others({name: each for name, each in figures.items() if name != "editor"}) == {}


def test_held_out_phrasings_are_told_apart_from_those_of_the_training() -> None:
    samples = storybook_samples(60, seed=3)
    rephrased = [each.case.is_rephrased for each in samples if each.case]
    assert len(rephrased) == 60 and sum(rephrased) == 30
    results = [
        Result(sample.name, sample.kind, figures={"iou": 0.1 if held_out else 0.4})
        for sample, held_out in zip(samples, rephrased, strict=True)
    ]
    (line,) = describe_phrasings(score_phrasings(samples, results, seed=0))
    assert line == (
        "Instructions phrased as in training (n 30): pixel truth 40.0 % (40.0 to 40.0); "
        "in held-out phrasings (n 30): pixel truth 10.0 % (10.0 to 10.0)"
    )
    others = [Sample(each.name, each.kind, each.instruction, each.seed, each.load) for each in samples]
    assert score_phrasings(others, results, seed=0) == score_phrasings(samples[:15], results, seed=0) == {}
    assert describe_phrasings({}) == []
