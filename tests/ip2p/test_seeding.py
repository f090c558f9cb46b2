"""Sample k depends on its own seed alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ip2p.seeding import derive_seed, generator, randn

names = st.text(max_size=20)
seeds = st.integers(0, 2**63)


@given(seeds, names, names, st.integers(0, 1000))
def test_derived_seeds_fit_a_generator_and_repeat(seed: int, stage: str, record: str, index: int) -> None:
    derived = derive_seed(seed, stage, record, index)
    assert 0 <= derived < 2**63
    assert derived == derive_seed(seed, stage, record, index)


@given(st.lists(st.tuples(seeds, names, names, st.integers(0, 9)), unique=True, min_size=2, max_size=8))
def test_other_arguments_give_other_seeds(keys: list[tuple[int, str, str, int]]) -> None:
    assert len({derive_seed(*key) for key in keys}) == len(keys)


def test_the_derivation_never_changes() -> None:
    assert derive_seed(0, "pairs", "abc", 1) == 8480948354430366431


def test_rows_do_not_depend_on_their_neighbours() -> None:
    together = randn((4, 3, 5), [generator(7, "test", str(k)) for k in range(3)])
    alone = [randn((4, 3, 5), [generator(7, "test", str(k))]) for k in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert not torch.equal(together[0], together[1])


def test_precision_rounds_the_same_noise() -> None:
    exact = randn((2, 8), [generator(1, "test", "a")])
    rounded = randn((2, 8), [generator(1, "test", "a")], torch.bfloat16)
    assert torch.equal(exact.bfloat16(), rounded)


def test_no_generators_give_no_rows() -> None:
    assert randn((4, 2), []).shape == (0, 4, 2)
