"""Verdicts on pairs: of exact pairs, copies and wrong edits, and edits that are read from captions."""

import random

import pytest

from ip2p.measuring.verdicts import judge_pairs, label_pairs
from ip2p.storybook.edits import apply, edit_between_captions, evaluation_cases, possible_edits
from ip2p.storybook.judge import Judge
from ip2p.storybook.language import caption, edited_caption
from ip2p.storybook.render import render
from ip2p.storybook.scene import sample_scene

CASES = evaluation_cases(32)


@pytest.fixture(scope="module")
def judge() -> Judge:
    """The bundled judge."""
    return Judge.from_pretrained()


def test_exact_pairs_are_fine_and_copies_are_not(judge: Judge) -> None:
    sources, targets = [render(case.scene) for case in CASES], [render(case.target) for case in CASES]
    edits = [case.edit for case in CASES]
    exact = judge_pairs(judge, edits, list(zip(sources, targets, strict=True)))
    copies = judge_pairs(judge, edits, list(zip(sources, sources, strict=True)))
    assert sum(each.fine for each in exact) >= 0.9 * len(CASES)
    assert not any(each.fine or each.happened for each in copies) and all(each.alike == 1 for each in copies)
    assert judge_pairs(judge, [], []) == []


def test_a_further_change_and_another_layout_are_not_fine(judge: Judge) -> None:
    rng = random.Random(0)
    for case in CASES[:8]:
        others = [edit for edit in possible_edits(case.scene.attributes) if edit.attribute == "style"]
        both = apply(case.target, others[0]) if case.edit.attribute != "style" else sample_scene(rng)
        assert not judge_pairs(judge, [case.edit], [(render(case.scene), render(both))])[0].fine


def test_captions_say_what_was_edited(judge: Judge) -> None:
    captions = [(case.caption, case.edited_caption) for case in CASES]
    pairs = [(render(case.scene), render(case.target)) for case in CASES]
    labels = label_pairs(judge, [*captions, ("a cat", "a dog")], [*pairs, pairs[0]])
    assert labels[:-1] == [each.fine for each in judge_pairs(judge, [case.edit for case in CASES], pairs)]
    assert labels[-1] is None


def test_every_edit_is_read_from_its_captions() -> None:
    for number in range(40):
        rng = random.Random(number)
        scene = sample_scene(rng)
        text = caption(scene, rng)
        for edit in possible_edits(scene.attributes, reserved=True):
            assert edit_between_captions(text, edited_caption(text, scene, edit)) == edit
        assert edit_between_captions(text, text) is None
    two = edit_between_captions("a red barn by a lake in summer at night", "a blue castle by a lake in summer at night")
    assert two is None
