"""Edits of scenes, and the cases that editors are measured by."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from ip2p.storybook.edits import Case, apply, edit_to, evaluation_cases, possible_edits
from ip2p.storybook.language import instruction, parse
from ip2p.storybook.phrases import UNSAID
from ip2p.storybook.scene import ATTRIBUTES, EDIT_KINDS, RESERVED, Edit, Vocabulary, is_held_out, sample_scene, values


def test_possible_edits_are_all_there_are() -> None:
    rng = random.Random(0)
    for _ in range(100):
        scene = sample_scene(rng)
        edits = possible_edits(scene.attributes, reserved=True)
        assert len(set(edits)) == len(edits) == sum(len(allowed) - 1 for allowed in values("base").values())
        assert all(edit.value != scene.attributes[edit.attribute] for edit in edits)
        usual = possible_edits(scene.attributes)
        assert usual == [edit for edit in edits if edit.kind != RESERVED.no_triple]
        assert all(edit.value in values("base")[edit.attribute] for edit in edits)


def test_kinds_follow_from_what_changes() -> None:
    rng = random.Random(1)
    attributes = {**sample_scene(rng).attributes, "animal": "none", "sky": "bird", "weather": "rain", "style": "poster"}
    kinds = {(edit.attribute, edit.value): edit.kind for edit in possible_edits(attributes, reserved=True)}
    assert kinds["animal", "fox"] == "add_animal" and kinds["sky", "none"] == "remove_sky"
    assert kinds["sky", "rainbow"] == "swap_sky" == RESERVED.no_triple
    assert kinds["weather", "clear"] == "weather" and kinds["style", "illustration"] == "style"
    assert kinds["clouds", "three" if attributes["clouds"] != "three" else "none"] == "clouds"
    assert kinds["door", "red" if attributes["door"] != "red" else "blue"] == "door"
    edits = possible_edits(attributes | {"animal": "cow", "sky": "none", "color": "red", "building": "barn"})
    kinds = {(edit.attribute, edit.value): edit.kind for edit in edits}
    assert kinds["animal", "fox"] == "swap_animal" and kinds["animal", "none"] == "remove_animal"
    assert kinds["sky", "bird"] == "add_sky" and kinds["color", "blue"] == "recolor"
    assert kinds["building", "castle"] == "swap_building"


def test_vocabularies_open_what_is_reserved() -> None:
    scene = sample_scene(random.Random(2))
    names: tuple[Vocabulary, ...] = ("base", "clip", "all")
    reachable = {name: {edit.value for edit in possible_edits(scene.attributes, name, True)} for name in names}
    assert reachable["clip"] - reachable["base"] == {"mosaic", "neon", "storm"}
    assert reachable["all"] - reachable["clip"] == {"pixel", "glass", "pagoda"}
    assert possible_edits({**scene.attributes, "style": "neon"})  # a scene may have what no edit asks for


def test_an_edit_changes_one_attribute_and_keeps_the_layout() -> None:
    rng = random.Random(3)
    for _ in range(50):
        scene = sample_scene(rng, "all")
        for edit in possible_edits(scene.attributes, "all", reserved=True):
            target = apply(scene, edit)
            assert target.layout == scene.layout and target.attributes[edit.attribute] == edit.value
            assert apply(target, replace(edit, value=scene.attributes[edit.attribute])) == scene


def test_cases_are_right_and_in_the_base_vocabulary() -> None:
    allowed = values("base")
    for case in evaluation_cases(120):
        assert case.target == apply(case.scene, case.edit) != case.scene
        assert UNSAID | parse(case.caption) == case.scene.attributes
        assert UNSAID | parse(case.edited_caption) == case.target.attributes
        for scene in (case.scene, case.target):
            assert all(scene.attributes[name] in allowed[name] for name in ATTRIBUTES)


def test_case_k_follows_from_the_seed_and_k_alone() -> None:
    assert evaluation_cases(30)[:10] == evaluation_cases(10)
    assert not set(evaluation_cases(30)) & set(evaluation_cases(30, seed=1))
    assert len({case.scene for case in evaluation_cases(60)}) == 60
    assert all(edit_to(case.scene, case.edit.attribute, case.edit.value) == case.edit for case in evaluation_cases(30))


@pytest.mark.slow
def test_kinds_and_phrasings_are_even() -> None:
    cases = evaluation_cases(150)
    usual = {kind for kind in EDIT_KINDS if kind != RESERVED.no_triple}
    assert Counter(case.edit.kind for case in cases) == dict.fromkeys(usual, 10)
    assert Counter(case.edit.kind for case in cases if _is_held_out(case)) == dict.fromkeys(usual, 5)
    assert sum(is_held_out(case.scene.attributes) for case in cases) > 5


def _is_held_out(case: Case) -> bool:
    rng = random.Random(0)
    drawn = {instruction(case.edit, case.scene, rng, held_out=True, plain=True) for _ in range(1500)}
    return case.instruction.lower().rstrip(".") in drawn


def test_edits_are_values() -> None:
    assert Edit("season", "season", "winter") == Edit("season", "season", "winter")
    assert len({Edit("season", "season", "winter"), Edit("season", "season", "winter")}) == 1
