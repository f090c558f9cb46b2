"""Seed triples, written by hand, which serve as examples for language models."""

import random
from collections import Counter
from functools import cache
from importlib import resources
from typing import NamedTuple

from pydantic import TypeAdapter

SEEDS_FILE = "seeds.jsonl"


class SeedTriple(NamedTuple):
    """A seed triple.

    Args:
        caption: caption before the edit.
        instruction: instruction, in a few words.
        edited_caption: caption after the edit, in the caption's own words where nothing changes.
        kind: kind of edit, see `ip2p.data_gen.kinds`.
        inverse: instruction of the inverse edit; "" if there is no natural one.
    """

    caption: str
    instruction: str
    edited_caption: str
    kind: str
    inverse: str


@cache
def load_seeds() -> tuple[SeedTriple, ...]:
    """Load all seed triples, in the order of the file; cached."""
    lines = (resources.files(__package__) / SEEDS_FILE).read_text(encoding="utf-8").splitlines()
    read = TypeAdapter(SeedTriple).validate_json
    return tuple(read(line) for line in lines)


def draw_shots(count: int, rng: random.Random, *, inverse: bool = False) -> list[SeedTriple]:
    """Draw different seed triples, with their kinds as even as possible.

    Args:
        count: number of seeds; all are drawn if there are fewer.
        rng: random generator.
        inverse: whether to draw only seeds with an inverse instruction.
    """
    pool = [seed for seed in load_seeds() if seed.inverse or not inverse]
    rng.shuffle(pool)
    round_of: Counter[str] = Counter()
    rounds: list[tuple[int, SeedTriple]] = []
    for seed in pool:
        rounds.append((round_of[seed.kind], seed))
        round_of[seed.kind] += 1
    rounds.sort(key=lambda each: each[0])
    return [seed for _, seed in rounds[:count]]
