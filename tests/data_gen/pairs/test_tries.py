"""Adaptive sampling: which candidates are drawn next."""

import random

import pytest

from ip2p.data_gen.config import FilterConfig, PairsConfig
from ip2p.data_gen.pairs.draw import plan_candidates
from ip2p.data_gen.pairs.tries import SURE, Tries, is_hopeless
from ip2p.records import Candidate, Triple

BOUNDS = FilterConfig(source=-1, edited=-1, image=-1, direction=0.5)


def triples(count: int) -> list[Triple]:
    """Return triples with the ids t0, t1 and so on."""
    texts = {"caption_id": "c", "caption": "a", "instruction": "b", "edited_caption": "c", "kind": "time"}
    return [Triple.model_validate({"id": f"t{number}", "writer": "rules", **texts}) for number in range(count)]


def run(rates: list[float], **settings: object) -> tuple[dict[str, int], dict[str, int], list[str]]:
    """Draw tries whose pairs pass at these rates; returns tries and passes of each triple, and all ids in order."""
    config = PairsConfig.model_validate(settings)
    planned = plan_candidates(triples(len(rates)), config, 1)
    tries, drawn = Tries(planned, {f"t{number}": "time" for number in range(len(rates))}, config, BOUNDS), list[str]()
    while batch := tries.next_batch():
        assert len(batch) <= config.batch
        scored = []
        for each in (one.candidate for one in batch):
            passes = random.Random(each.id).random() < rates[int(each.triple_id[1:])]
            scored.append(each.model_copy(update={"sim_direction": 0.9 if passes else 0.1}))
        tries.record(scored)
        drawn += [each.id for each in scored]
    assert len(set(drawn)) == len(drawn)
    return tries.tried, {name: tries.passed(name) for name in tries.tried}, drawn


def test_without_a_number_that_is_enough_all_are_drawn_in_order() -> None:
    config = PairsConfig(candidates=5, batch=4)
    tried, _, drawn = run([0.0, 0.5, 1.0], candidates=5, batch=4)
    assert set(tried.values()) == {5}
    assert drawn == [each.candidate.id for each in plan_candidates(triples(3), config, 1)]


def test_a_triple_is_tried_until_it_has_enough() -> None:
    tried, passed, _ = run([0.0, 0.3, 1.0], candidates=20, batch=4, enough=2)
    assert (tried["t0"], passed["t0"]) == (20, 0)
    assert tried["t2"] == passed["t2"] == 2
    assert passed["t1"] == 2 and 2 < tried["t1"] < 20


def test_a_hopeless_triple_is_given_up_and_a_poor_one_is_not() -> None:
    tried, passed, _ = run([0.0, 0.4], candidates=100, batch=8, enough=30, give_up_below=0.1)
    assert (tried["t0"], passed["t0"]) == (28, 0), "0.9 ** 29 < 0.05 <= 0.9 ** 28"
    assert passed["t1"] == 30


@pytest.mark.parametrize(("passed", "tried"), [(0, 0), (0, 1), (0, 13), (2, 9), (5, 5), (3, 40)])
def test_hope_is_the_tail_of_the_posterior(passed: int, tried: int) -> None:
    drawn = random.Random(7)
    rates = [drawn.betavariate(passed + 1, tried - passed + 1) for _ in range(20_000)]
    for rate in (0.0, 0.05, 0.2, 0.5, 0.9):
        above = sum(each > rate for each in rates) / len(rates)
        if abs(above - (1 - SURE)) > 0.01:
            assert is_hopeless(passed, tried, rate) == (above < 1 - SURE)


def test_a_tree_is_one_try() -> None:
    config = PairsConfig(candidates=12, tree=3, batch=8, enough=2)
    planned, names = plan_candidates(triples(2), config, 1), {"t0": "time", "t1": "time"}
    tries, sizes = Tries(planned, names, config, BOUNDS), []
    while batch := tries.next_batch():
        sizes.append(len(batch))
        passes = {"t0": 0.9, "t1": 0.1}
        tries.record([c.model_copy(update={"sim_direction": passes[c.triple_id]}) for c, *_ in batch])
    assert (tries.passed("t0"), tries.tried["t0"]) == (2, 6), "two seeds, and not two pairs of one"
    assert (tries.passed("t1"), tries.tried["t1"]) == (0, 12)
    assert sizes == [6, 6, 3, 3]


def test_refused_triples_are_not_drawn() -> None:
    refused = triples(1)[0].model_copy(update={"status": "refused"})
    assert not Tries(plan_candidates([refused], PairsConfig(), 1), {}, PairsConfig(), BOUNDS).next_batch()


def test_what_passes_depends_on_the_kind() -> None:
    config = PairsConfig(candidates=3, enough=1)
    bounds = FilterConfig.model_validate({**BOUNDS.model_dump(), "per_kind": {"color": {"direction": 0.0}}})
    tries = Tries(plan_candidates(triples(2), config, 1), {"t0": "time", "t1": "color"}, config, bounds)
    batch: list[Candidate] = [each.candidate for each in tries.next_batch()]
    tries.record([each.model_copy(update={"sim_direction": 0.2}) for each in batch])
    assert [each.candidate.triple_id for each in tries.next_batch()] == ["t0"]


def test_a_triple_is_tried_before_it_is_given_up() -> None:
    tried, _, _ = run([1.0], candidates=3, give_up_below=0.99)
    assert tried["t0"] == 1
