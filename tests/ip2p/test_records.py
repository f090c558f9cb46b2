"""Rows are frozen, checked, and named by their content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ip2p.records import PACKED_COLUMNS, Candidate, Caption, Reason, Triple, content_id, in_share

CAPTION = Caption(id="1", text="a red barn", source="storybook")


@given(st.lists(st.lists(st.text(max_size=10), max_size=3), unique_by=tuple, min_size=2))
def test_ids_tell_contents_apart(contents: list[list[str]]) -> None:
    assert len({content_id(*parts) for parts in contents}) == len(contents)


@given(st.lists(st.text(max_size=10)))
def test_ids_are_safe_file_names(parts: list[str]) -> None:
    identity = content_id(*parts)
    assert len(identity) == 16 and set(identity) <= set("0123456789abcdef")
    assert identity == content_id(*parts)


def test_joining_parts_otherwise_gives_another_id() -> None:
    assert content_id("ab", "c") != content_id("a", "bc") != content_id("abc")


def test_rows_do_not_change() -> None:
    with pytest.raises(ValidationError):
        CAPTION.text = "a blue barn"  # type: ignore[misc]


def test_rows_know_no_other_fields() -> None:
    with pytest.raises(ValidationError):
        Caption.model_validate({**CAPTION.model_dump(), "colour": "red"})


def test_reasons_come_from_a_closed_list() -> None:
    triple = {"id": "2", "caption_id": "1", "caption": "a", "instruction": "b", "edited_caption": "c"}
    refused = Triple(**triple, kind="season", writer="rules", status="refused", reason=Reason.NO_RULE)
    assert Triple.model_validate_json(refused.model_dump_json()) == refused
    with pytest.raises(ValidationError):
        Triple.model_validate({**refused.model_dump(), "reason": "bad luck"})


def test_a_candidate_survives_json() -> None:
    candidate = Candidate(id="3", triple_id="2", seed=2**62, p=0.5, cfg=7.5, steps=20, sim_source=0.25)
    assert Candidate.model_validate_json(candidate.model_dump_json()) == candidate


def test_packed_columns_begin_as_the_published_data_set() -> None:
    published = ("original_prompt", "original_image", "edit_prompt", "edited_prompt", "edited_image")
    assert PACKED_COLUMNS[:5] == published


def test_shares_are_random_independent_and_the_same_everywhere() -> None:
    ids = [content_id(str(number)) for number in range(4000)]
    first = {each for each in ids if in_share(each, 0.1, "first")}
    second = {each for each in ids if in_share(each, 0.5, "second")}
    assert 0.08 < len(first) / len(ids) < 0.12
    assert 0.4 < len(first & second) / len(first) < 0.6
    assert not any(in_share(each, 0.0, "first") for each in ids) and all(in_share(each, 1.0, "first") for each in ids)
    assert in_share("ab", 0.156, "first") and not in_share("ab", 0.155, "first"), "a number that never changes"
