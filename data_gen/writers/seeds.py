"""Seed triples, written by hand, which serve as examples for language models."""

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import resources

from pydantic import TypeAdapter

from ip2p.data_gen.kinds import KINDS as KINDS
from ip2p.data_gen.writers.files import SeedTriple as SeedTriple
from ip2p.data_gen.writers.files import read_triple_file

SEEDS_FILE = "seeds.jsonl"


@cache
def load_seeds() -> tuple[SeedTriple, ...]:
    """Load all seed triples of ip2p, in the order of the file; cached."""
    lines = (resources.files(__package__) / SEEDS_FILE).read_text(encoding="utf-8").splitlines()
    read = TypeAdapter(SeedTriple).validate_json
    return tuple(read(line) for line in lines)


@lru_cache(maxsize=8)
def open_seeds(path: str) -> tuple[SeedTriple, ...]:
    """Return the seed triples of a file, or those of ip2p for ""; cached.

    Raises:
        DataError: the file is missing or not as it should be.
    """
    return read_triple_file(path) if path else load_seeds()


def draw_shots(
    count: int, rng: random.Random, *, inverse: bool = False, seeds: Sequence[SeedTriple] | None = None
) -> list[SeedTriple]:
    """Draw different seed triples, with their kinds as even as possible.

    Args:
        count: number of seeds; all are drawn if there are fewer.
        rng: random generator.
        inverse: whether to draw only seeds with an inverse instruction.
        seeds: seeds to draw from; None for those of ip2p.
    """
    pool = [seed for seed in (load_seeds() if seeds is None else seeds) if seed.inverse or not inverse]
    rng.shuffle(pool)
    round_of: Counter[str] = Counter()
    rounds: list[tuple[int, SeedTriple]] = []
    for seed in pool:
        rounds.append((round_of[seed.kind], seed))
        round_of[seed.kind] += 1
    rounds.sort(key=lambda each: each[0])
    return [seed for _, seed in rounds[:count]]
