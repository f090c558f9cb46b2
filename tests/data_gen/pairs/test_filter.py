"""The filter: a pure function of scores."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ip2p.data_gen.config import FilterConfig
from ip2p.data_gen.pairs.filter import decide
from ip2p.records import Candidate, Reason

GOOD = {"sim_source": 0.3, "sim_edited": 0.3, "sim_image": 0.8, "sim_direction": 0.3}


def candidate(number: int, triple: str = "t", **scores: float) -> Candidate:
    """A candidate that passes but for the scores given."""
    values = {"id": f"c{number}", "triple_id": triple, "seed": number, "p": 0.5, "cfg": 4.0, "steps": 3}
    return Candidate.model_validate(values | GOOD | scores)


def reasons(*candidates: Candidate, settings: FilterConfig | None = None, kind: str = "time") -> list[str]:
    """Return the reason of each refusal."""
    decided = decide(candidates, {"t": kind, "u": kind}, settings or FilterConfig(image_max=0.95))
    assert [each.id for each in decided] == [each.id for each in candidates]
    assert all((each.status == "ok") == (each.reason is Reason.OK) for each in decided)
    return [each.reason.value for each in decided]


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({}, ""),
        ({"sim_source": 0.19}, "low_source"),
        ({"sim_edited": 0.19}, "low_edited"),
        ({"sim_image": 0.69}, "low_image"),
        ({"sim_image": 0.96}, "high_image"),
        ({"sim_direction": 0.19}, "low_direction"),
        ({"sim_direction": math.nan}, "low_direction"),
        ({"sim_image": math.nan}, "low_image"),
        ({"sim_source": 0.2, "sim_edited": 0.2, "sim_image": 0.7, "sim_direction": 0.2}, ""),
        ({"sim_source": 0.1, "sim_direction": 0.1}, "low_source"),
    ],
)
def test_each_bound(scores: dict[str, float], reason: str) -> None:
    assert reasons(candidate(1, **scores)) == [reason]


def test_the_best_of_each_triple_by_direction() -> None:
    rows = [candidate(k, "t" if k % 2 else "u", sim_direction=0.3 + k / 100) for k in range(6)]
    assert reasons(*rows, settings=FilterConfig(top_k=2)) == ["not_top_k", "not_top_k", "", "", "", ""]


def test_equal_ones_are_ranked_by_id_not_by_place() -> None:
    one, two = candidate(1), candidate(2)
    assert reasons(one, two, settings=FilterConfig(top_k=1)) == ["", "not_top_k"]
    assert reasons(two, one, settings=FilterConfig(top_k=1)) == ["not_top_k", ""]


def test_of_a_seed_the_best_is_kept() -> None:
    rows = [candidate(k, sim_direction=0.3 + k / 100).model_copy(update={"seed": k // 2}) for k in range(6)]
    assert reasons(*rows, settings=FilterConfig(top_k=2)) == [
        "not_top_k",
        "not_top_k",
        "not_top_k",
        "",
        "not_top_k",
        "",
    ]


def test_what_is_not_stored_takes_no_place() -> None:
    rows = [candidate(k, sim_direction=0.3 + k / 100) for k in range(3)]
    decided = decide(rows, {"t": "time"}, FilterConfig(top_k=1), stored={"c0", "c1"})
    assert [each.reason for each in decided] == [Reason.NOT_TOP_K, Reason.OK, Reason.NOT_STORED]


def test_a_kind_has_its_own_bounds_where_it_names_them() -> None:
    settings = FilterConfig.model_validate({"source": 0.25, "per_kind": {"color": {"direction": 0.05}}})
    weak = candidate(1, sim_direction=0.1)
    assert reasons(weak, settings=settings, kind="color") == [""]
    assert reasons(weak, settings=settings, kind="time") == ["low_direction"]
    assert reasons(candidate(1, sim_source=0.22), settings=settings, kind="color") == ["low_source"]


FURTHER = [
    ("layout_max", "layout", 0.4, "high_layout"), ("changed_min", "changed", 0.6, "low_changed"),
    ("changed_max", "changed", 0.4, "high_changed"), ("shift_max", "shift", 0.4, "high_shift"),
]  # fmt: skip


@pytest.mark.parametrize(("bound", "score", "limit", "reason"), FURTHER)
def test_further_scores_are_bounded_where_it_is_asked(bound: str, score: str, limit: float, reason: str) -> None:
    one, asked = candidate(1, **{score: 0.5}), FilterConfig.model_validate({bound: limit})
    assert reasons(one) == [""] and reasons(one, settings=asked) == [reason]
    assert reasons(candidate(1, **{score: limit}), settings=asked) == [""]
    assert reasons(candidate(1, **{score: math.nan}), settings=asked) == [reason]
    some = FilterConfig.model_validate({"per_kind": {"color": {bound: limit}}})
    assert reasons(one, settings=some, kind="color") == [reason] and reasons(one, settings=some) == [""]


@given(st.lists(st.tuples(st.sampled_from("tu"), st.floats(-1, 1), st.floats(-1, 1)), max_size=20))
def test_deciding_again_decides_the_same(values: list[tuple[str, float, float]]) -> None:
    rows = [candidate(k, t, sim_direction=d, sim_image=i) for k, (t, d, i) in enumerate(values)]
    settings = FilterConfig(top_k=2, image=0, direction=0)
    decided = decide(rows, {"t": "time", "u": "time"}, settings)
    assert decide(decided, {"t": "time", "u": "time"}, settings) == decided
    assert all(sum(each.triple_id == t and each.status == "ok" for each in decided) <= 2 for t in "tu")


JUDGED = FilterConfig(judge_edit_min=0.5, top_k=2)


def marked(number: int, edit: float | None, said: str = "", **scores: float) -> Candidate:
    """A candidate with a mark of the judge, the better the smaller its number."""
    marks = {"judge_edit": edit, "judge_kept": edit, "judge_clean": edit, "judge_said": said}
    return candidate(number, sim_direction=0.9 - number / 10, **scores).model_copy(update=marks)


def test_pairs_count_as_passing_until_the_judge_has_spoken() -> None:
    rows = [marked(0, 0.2), marked(1, None), marked(2, None, "writer_refused"), marked(3, None), marked(4, None)]
    assert reasons(*rows, settings=JUDGED) == ["low_judge_edit", "", "not_judged", "", "not_top_k"]


def test_what_is_not_judged_is_not_kept_where_a_threshold_asks_for_it() -> None:
    def judged(*rows: Candidate, settings: FilterConfig = JUDGED) -> list[str]:
        decided = decide(rows, {"t": "time"}, settings, judged=True)
        return [each.reason.value for each in decided]

    rows = [marked(0, None), marked(1, 0.9), marked(2, None), marked(3, 0.9)]
    assert judged(*rows) == ["not_top_k", "", "not_top_k", ""], "the judged ones are kept before others"
    assert judged(*rows[:3]) == ["not_judged", "", "not_top_k"], "as many as top_k lacks"
    assert judged(*rows, settings=FilterConfig(top_k=2)) == ["", "", "not_top_k", "not_top_k"]
    per_kind = FilterConfig.model_validate({"per_kind": {"time": {"judge_clean_min": 0.95}}})
    assert judged(*rows, settings=per_kind) == ["not_judged", "low_judge_clean", "not_judged", "low_judge_clean"]
    assert judged(marked(0, None, sim_image=0.1))[0] == "low_image", "other thresholds come first"
