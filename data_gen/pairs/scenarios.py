"""What drawing will take for each triple, before it is begun: candidates, UNet rows and stored pictures."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from ip2p.data_gen.config import DatasetConfig, PairsConfig
from ip2p.data_gen.kinds import OTHER
from ip2p.data_gen.pairs.draw import plan_tree
from ip2p.data_gen.pairs.tries import is_hopeless
from ip2p.diffusion.prompt_to_prompt import SharedRows
from ip2p.records import Triple

SAMPLED_TRIPLES = 50
"""Triples whose candidates are planned to see how many rows trees share."""


class Scenario(NamedTuple):
    """What may become of the candidates of a triple.

    Attributes:
        name: description.
        candidates: candidates that are drawn.
        rows: UNet rows of these.
        stored: pairs of pictures that are stored of them, with those of the packed data set.
    """

    name: str
    candidates: float
    rows: float
    stored: float

    @property
    def figures(self) -> tuple[float, float, float]:
        """The numbers alone."""
        return self.candidates, self.rows, self.stored


def list_scenarios(config: DatasetConfig) -> list[Scenario]:
    """List what may become of the candidates of a triple: what takes the most, and what the least.

    How many edits of each kind there will be is not known before the triples are written. Where UNet rows differ by
    kind, by its ranges of p in trees or by a scale that is no guidance, all edits may be of any kind.
    """
    kinds = {tuple(rows_of_tries(config.pairs, config.seed, kind)): kind for kind in (*config.pairs.per_kind, OTHER)}
    least, most = min(kinds, key=sum), max(kinds, key=sum)
    scenarios = _list_scenarios(config, most)
    if least != most:
        name = f"{scenarios[0].name}, of edits in the ranges of {kinds[most]}, or of {kinds[least]}, which take less"
        scenarios = [scenarios[0]._replace(name=name), *scenarios[1:], *_list_scenarios(config, least)]
    return scenarios


def _list_scenarios(config: DatasetConfig, tries: Sequence[float]) -> list[Scenario]:
    """List what may become of the candidates of a triple whose tries take so many UNet rows each."""
    pairs = config.pairs
    counts = [min(pairs.tree, pairs.candidates - first) for first in range(0, pairs.candidates, pairs.tree)]

    def scenario(name: str, taken: int, kept: int, rejected: float = 0.0) -> Scenario:
        """So many tries are drawn, so many pairs kept, and a share of the rest is rejected early."""
        drawn = sum(counts[:taken])
        refused = pairs.store_refused * (drawn - kept)
        preferred = 2 * refused if config.pack.preferences and kept else 0.0  # both pictures of both siblings
        early = max(1, round(pairs.early_at * pairs.steps)) / pairs.steps
        rows = sum(tries[:taken]) * (1 - rejected * (1 - early))
        return Scenario(name, float(drawn), rows, 2 * kept + refused + preferred)

    rejected = 1 - pairs.early_audit if pairs.early_at else 0.0
    scenarios = [scenario("every candidate is drawn to its end", len(tries), most_kept(config))]
    if pairs.enough and pairs.enough < len(tries):
        taken, kept = pairs.enough, min(config.filter.top_k, pairs.enough)
        scenarios.append(scenario(f"or every try passes, and {taken} of a triple are enough", taken, kept))
    if pairs.give_up_below:
        tried = itertools.accumulate(counts)
        given_up = (n for n, count in enumerate(tried, 1) if is_hopeless(0, count, pairs.give_up_below))
        taken = next(given_up, len(tries))
        scenarios.append(scenario(f"or none passes, and a triple is given up after {taken}", taken, 0, rejected))
    elif rejected:
        scenarios.append(scenario("or all but the audited ones are rejected early", len(tries), 0, rejected))
    return scenarios


def rows_of_tries(settings: PairsConfig, seed: int, kind: str = OTHER) -> list[float]:
    """Return the UNet rows of the trees of a triple on average: of candidates, if they do not share any.

    Args:
        settings: settings of the stage.
        seed: seed of the run.
        kind: kind of edit of the triple.
    """
    triples, settings = [stand_in(f"{number}", "", kind) for number in range(SAMPLED_TRIPLES)], settings.for_kind(kind)
    tries = []
    for number in range(0, settings.candidates, settings.tree):
        trees = [plan_tree(each, number, settings, seed)[: settings.candidates - number] for each in triples]
        tries.append(sum(rows_of_tree([each.candidate.p for each in tree], settings) for tree in trees) / len(trees))
    return tries


def rows_of_tree(shares: Sequence[float], settings: PairsConfig) -> float:
    """Return the UNet rows of candidates that differ in p alone: at each step those of the different pictures, and as
    many without text where guidance is computed, unless no scale is any guidance; at the first call one of these.

    Args:
        shares: p of each candidate.
        settings: settings of the stage.
    """
    sharing, steps = SharedRows(shares, settings.steps, [0] * len(shares)), settings.steps
    guided, total = not (settings.cfg_min == settings.cfg_max in (0, 1)), 0.0
    for step in range(steps):
        if step:
            sharing.at(step)
        different, both = (
            sum(row == first for row, first in enumerate(sharing.same_in_batch(branches))) for branches in (1, 2)
        )
        inside = min(settings.guidance_stop, (step + 1) / steps) - max(settings.guidance_start, step / steps)
        calls = 2 if settings.scheduler == "heun" and step + 1 < steps else 1
        without_text = guided * max(0.0, inside * steps) / settings.text_every
        total += different * calls * (1 + without_text) - (2 * different - both) * without_text
    return total


def most_kept(config: DatasetConfig) -> int:
    """Return how many pairs of a triple are kept at most: one of each tree."""
    return min(config.filter.top_k, math.ceil(config.pairs.candidates / config.pairs.tree))


def stand_in(name: str, text: str, kind: str = OTHER) -> Triple:
    """Return a triple of which nothing but its caption and its kind of edit matters."""
    return Triple(
        id=name, caption_id=name, caption=text, instruction=text, edited_caption=text, kind=kind, writer="none"
    )
