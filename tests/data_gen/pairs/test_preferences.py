"""Preference pairs: which siblings belong together."""

from ip2p.data_gen.pairs.preferences import pair_siblings
from ip2p.records import Candidate, Reason


def candidate(
    name: str, triple: str, reason: Reason = Reason.OK, *, seed: int = 0, direction: float = 0.5
) -> Candidate:
    """Make a decided candidate."""
    status = "refused" if reason else "ok"
    values = {"id": name, "triple_id": triple, "seed": seed, "p": 0.5, "cfg": 4.0, "steps": 3, "status": status}
    return Candidate.model_validate(values | {"reason": reason, "sim_direction": direction})


def paired(*candidates: Candidate) -> list[str]:
    """Return the ids of the pairs."""
    return [f"{pair.chosen.id}>{pair.rejected.id}" for pair in pair_siblings(candidates)]


def test_refused_ones_go_with_the_best_sibling_or_with_one_of_the_same_noise() -> None:
    kept = [candidate("a", "t", seed=1), candidate("b", "t", seed=2, direction=0.9), candidate("c", "u", seed=3)]
    low = Reason.LOW_DIRECTION
    assert paired(*kept, candidate("x", "t", low, seed=4), candidate("y", "t", low, seed=1)) == ["b>x", "a>y"]
    assert paired(candidate("x", "v", low), *kept) == []


def test_refusals_that_say_nothing_about_the_edit_are_left_out() -> None:
    kept = candidate("a", "t")
    assert paired(kept, candidate("x", "t", Reason.UNSAFE), candidate("y", "t", Reason.NOT_TOP_K)) == []
