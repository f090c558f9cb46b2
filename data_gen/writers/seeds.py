"""Seed triples, written by hand: the examples that a language model is shown of what is wanted."""

import random
from collections import Counter
from functools import cache
from importlib import resources
from typing import NamedTuple

from pydantic import TypeAdapter

KINDS = (
    "swap", "add", "remove", "color", "style", "season", "weather", "time", "place", "material", "expression",
    "abstract",
)  # fmt: skip
"""Kinds of edit, by what changes. "abstract" is a mood or a concept, such as "make it feel lonely"."""

SEEDS_FILE = "seeds.jsonl"


class SeedTriple(NamedTuple):
    """A triple that shows what is wanted.

    Args:
        caption: before the edit.
        instruction: what to change, in a few words.
        edited_caption: after the edit, in the caption's own words wherever nothing changes.
        kind: one of KINDS.
        inverse: the instruction that leads back, or "" where none is natural.
    """

    caption: str
    instruction: str
    edited_caption: str
    kind: str
    inverse: str


@cache
def load_seeds() -> tuple[SeedTriple, ...]:
    """All seed triples, in the order of the file; read once."""
    lines = (resources.files(__package__) / SEEDS_FILE).read_text(encoding="utf-8").splitlines()
    read = TypeAdapter(SeedTriple).validate_json
    return tuple(read(line) for line in lines)


def draw_shots(count: int, rng: random.Random, *, inverse: bool = False) -> list[SeedTriple]:
    """Different seeds, of kinds as even as can be: no kind comes twice before every kind has come once.

    Args:
        count: seeds wanted; all are drawn where there are fewer.
        rng: source of all randomness.
        inverse: True draws only seeds that can be undone.
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
