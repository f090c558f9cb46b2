"""Inverse pairs: the same pair the other way round, where that is true."""

import io
import json
from typing import Any

import pytest
from PIL import Image

from ip2p.data_gen.config import ChecksConfig, FilterConfig
from ip2p.data_gen.pairs.filter import find_fault
from ip2p.data_gen.pairs.inverse import find_inverse_fault, inverse_row, swap_scores
from ip2p.data_gen.pairs.pack import packed_row
from ip2p.records import PACKED_COLUMNS, Candidate, Reason, Triple

TRIPLE = Triple(
    id="t", caption_id="c", caption="a red barn by a lake", instruction="add a cow", kind="add", writer="rules",
    edited_caption="a red barn by a lake and a cow", inverse="remove the cow",
)  # fmt: skip
CANDIDATE = Candidate(
    id="0f", triple_id="t", seed=3, p=0.4, cfg=4.0, steps=10, sim_source=0.8, sim_edited=0.6, sim_image=0.9,
    sim_direction=0.7, layout=0.1, changed=0.2, shift=0.05,
)  # fmt: skip
OPEN = FilterConfig(source=0.1, edited=0.1, image=0.1, direction=0.1)


def png(color: str) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), color).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def test_the_row_is_the_pair_the_other_way_round() -> None:
    row = packed_row(CANDIDATE, TRIPLE, {"original_image": png("red"), "edited_image": png("blue")}, {})
    back = inverse_row(row, TRIPLE)
    assert tuple(back) == PACKED_COLUMNS
    assert (back["original_prompt"], back["edited_prompt"]) == (TRIPLE.edited_caption, TRIPLE.caption)
    assert (back["original_image"], back["edited_image"]) == (row["edited_image"], row["original_image"])
    assert (back["edit_prompt"], back["kind"], back["inverse_of"]) == ("remove the cow", "remove", "0f")
    assert back["id"] == swap_scores(CANDIDATE).id != row["id"] and row["inverse_of"] == ""
    assert (back["sim_source"], back["sim_edited"]) == (0.6, 0.8)
    same = ("edit_mask", "seed", "p", "cfg", "sim_image", "sim_direction", "layout", "changed", "shift")
    assert all(back[name] == row[name] for name in same)


def test_swapped_scores_are_those_of_swapped_pictures(clip_folder: Any) -> None:
    from ip2p.data_gen.pairs.scores import Scorers, score_candidates
    from ip2p.measuring.clip import ClipScorer
    from ip2p.storybook.edits import evaluation_cases
    from ip2p.storybook.render import render

    scorers = Scorers(ClipScorer.from_pretrained(str(clip_folder), device="cpu"))
    (case,) = evaluation_cases(1, seed=4)
    before, after = (render(scene).resize((64, 64)) for scene in (case.scene, case.target))
    there = TRIPLE.model_copy(update={"caption": "a red barn", "edited_caption": "two cats"})
    back = TRIPLE.model_copy(update={"caption": "two cats", "edited_caption": "a red barn"})
    (one,) = score_candidates([CANDIDATE], [(before, after)], [there], scorers)
    (two,) = score_candidates([CANDIDATE], [(after, before)], [back], scorers)
    for name in ("sim_source", "sim_edited", "sim_image", "sim_direction", "layout", "changed", "shift"):
        assert getattr(swap_scores(one), name) == pytest.approx(getattr(two, name), abs=2e-5), name


@pytest.mark.parametrize(
    ("triple", "bounds", "reason"),
    [
        ({}, {}, Reason.OK),
        ({"inverse": ""}, {}, Reason.NO_INVERSE),
        ({"inverse": "add a horse"}, {}, Reason.DISAGREES),
        ({"inverse": "a red barn by a lake"}, {}, Reason.IS_CAPTION),
        ({}, {"source": 0.7}, Reason.LOW_SOURCE),
        ({}, {"per_kind": {"remove": {"changed_max": 0.1}}}, Reason.HIGH_CHANGED),
        ({}, {"per_kind": {"add": {"changed_max": 0.1}}}, Reason.OK),
        ({}, {"judge_kept_min": 0.1}, Reason.NOT_JUDGED),
        ({}, {"per_kind": {"remove": {"judge_edit_min": 0.1}}}, Reason.NOT_JUDGED),
        ({}, {"per_kind": {"add": {"judge_edit_min": 0.1}}}, Reason.OK),
    ],
)
def test_what_is_not_true_the_other_way_round_has_no_inverse(
    triple: dict[str, Any], bounds: dict[str, Any], reason: Reason
) -> None:
    filtered = OPEN.model_validate(OPEN.model_dump() | bounds)
    assert find_fault(CANDIDATE, OPEN.thresholds("add")) is Reason.OK
    changed = TRIPLE.model_copy(update=triple)
    judged = CANDIDATE.model_copy(update={"judge_edit": 1.0, "judge_kept": 1.0, "judge_clean": 1.0})
    for each in (CANDIDATE, judged):
        assert find_inverse_fault(each, changed, ChecksConfig(), filtered) is reason


def test_a_verdict_is_not_told_of_the_direction_that_the_judge_never_saw() -> None:
    judged = CANDIDATE.model_copy(update={"judge_edit": 1.0, "judge_kept": 0.9, "judge_clean": 0.8})
    pictures = {"original_image": png("red"), "edited_image": png("blue")}
    row = packed_row(judged, TRIPLE, pictures, {"judge": "some model", "clip": "some clip"})
    there, back = (json.loads(each["provenance"]) for each in (row, inverse_row(row, TRIPLE)))
    assert there["judge"] == {"model": "some model", "edit": 1.0, "kept": 0.9, "clean": 0.8}
    assert back == {name: value for name, value in there.items() if name != "judge"} and back["clip"] == "some clip"
