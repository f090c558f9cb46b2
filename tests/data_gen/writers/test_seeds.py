"""The hand-written seed triples, and how examples are drawn from them."""

import random
from collections import Counter

import pytest

from ip2p.data_gen.config import ChecksConfig
from ip2p.data_gen.kinds import KINDS
from ip2p.data_gen.triples.checks import TripleSet, find_fault
from ip2p.data_gen.triples.proposals import Proposal
from ip2p.data_gen.writers.seeds import SeedTriple, draw_shots, load_seeds
from ip2p.records import Reason


def test_every_kind_has_its_share() -> None:
    seeds = load_seeds()
    assert len(seeds) >= 160
    counts = Counter(seed.kind for seed in seeds)
    assert set(counts) == set(KINDS) and min(counts.values()) >= 12
    assert len({seed.caption for seed in seeds}) == len({seed.edited_caption for seed in seeds}) == len(seeds)
    assert all(text == " ".join(text.split()) for seed in seeds for text in seed)


@pytest.mark.parametrize("seed", load_seeds(), ids=lambda seed: seed.instruction)
def test_a_seed_passes_the_checks(seed: SeedTriple) -> None:
    proposal = Proposal(seed.instruction, seed.edited_caption, seed.kind)
    assert find_fault(seed.caption, proposal, ChecksConfig()) is Reason.OK
    if seed.inverse:
        back = Proposal(seed.inverse, seed.caption, seed.kind)
        assert find_fault(seed.edited_caption, back, ChecksConfig()) is Reason.OK, seed.inverse


def test_seeds_and_their_inverses_are_all_different_triples() -> None:
    kept = TripleSet(ChecksConfig())
    for seed in load_seeds():
        for caption, proposal in (
            (seed.caption, Proposal(seed.instruction, seed.edited_caption, seed.kind)),
            (seed.edited_caption, Proposal(seed.inverse, seed.caption, seed.kind)),
        ):
            assert kept.fault(caption, proposal) is Reason.OK, proposal
            kept.add(caption, proposal)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("count", [0, 1, 6, 12, 13, 30, 10_000])
def test_shots_are_different_and_even_by_kind(count: int, inverse: bool) -> None:
    shots = draw_shots(count, random.Random(count), inverse=inverse)
    most = sum(bool(seed.inverse) or not inverse for seed in load_seeds())
    assert len(shots) == len(set(shots)) == min(count, most)
    assert not inverse or all(shot.inverse for shot in shots)
    if count <= 96:  # every kind has at least eight that can be undone
        counts = Counter(shot.kind for shot in shots)
        assert max(counts.values(), default=0) - min((counts[kind] for kind in KINDS), default=0) <= 1
    for start in range(0, min(count, 96), len(KINDS)):
        kinds = [shot.kind for shot in shots[start : start + len(KINDS)]]
        assert len(kinds) == len(set(kinds))


def test_shots_follow_from_the_generator() -> None:
    one, same, other = (draw_shots(6, random.Random(seed)) for seed in (1, 1, 2))
    assert one == same != other
    assert len({shot for seed in range(200) for shot in draw_shots(6, random.Random(seed))}) > 150
