"""Costs of drawing each triple, before it is begun: candidates, UNet rows and stored pictures."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from diffusers import PNDMScheduler

from ip2p.data_gen.config import DatasetConfig, PairsConfig
from ip2p.data_gen.kinds import OTHER
from ip2p.data_gen.pairs.draw import plan_tree
from ip2p.data_gen.pairs.tries import is_hopeless
from ip2p.diffusion.prompt_to_prompt import SharedRows
from ip2p.diffusion.sampling import make_scheduler, steps_of_calls
from ip2p.records import Triple

SAMPLED_TRIPLES = 50
"""Triples whose candidates are planned to see how many rows trees share."""


class Sampler(NamedTuple):
    """Properties of a base model that decide how many UNet rows a picture takes.

    Attributes:
        scheduler: scheduler that came with the model.
        takes_scale: whether the UNet is told the guidance scale, as in LCM, and computes nothing without text.
    """

    scheduler: Any
    takes_scale: bool = False


def sampler_of_sd1() -> Sampler:
    """Return the sampler of Stable Diffusion 1, for models that are not here."""
    schedule: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return Sampler(PNDMScheduler(**schedule, skip_prk_steps=True, steps_offset=1))


class Call(NamedTuple):
    """A call of the UNet.

    Attributes:
        step: denoising step that it belongs to, from 0.
        branches: guidance conditions that are computed: two where one without text is, too.
    """

    step: int
    branches: int


class Scenario(NamedTuple):
    """Possible outcome of the candidates of a triple.

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


def list_scenarios(config: DatasetConfig, sampler: Sampler) -> list[Scenario]:
    """List what may become of the candidates of a triple: what takes the most, and what the least.

    How many edits of each kind there will be is not known before the triples are written. Where UNet rows differ by
    kind, by its ranges of p in trees or by a scale that is no guidance, all edits may be of any kind.

    Args:
        config: config of the build.
        sampler: what its base model says of UNet rows.

    Raises:
        ConfigError: the scheduler does not take so many steps, or does not know the model's noise schedule.
    """
    kinds = (*config.pairs.per_kind, OTHER)
    tries = {kind: rows_of_tries(config.pairs, config.seed, sampler, kind) for kind in kinds}
    totals = {kind: sum(rows) for kind, rows in tries.items()}
    least = min(reversed(kinds), key=lambda kind: totals[kind])
    most = max(reversed(kinds), key=lambda kind: totals[kind])
    scenarios = _list_scenarios(config, sampler, most, tries[most])
    if totals[least] != totals[most]:
        name = f"{scenarios[0].name}, of edits in the ranges of {most}, or of {least}, which take less"
        less = _list_scenarios(config, sampler, least, tries[least])
        scenarios = [scenarios[0]._replace(name=name), *scenarios[1:], *less]
    return scenarios


def _list_scenarios(config: DatasetConfig, sampler: Sampler, kind: str, tries: Sequence[float]) -> list[Scenario]:
    """List what may become of the candidates of a triple of a kind, whose tries take so many UNet rows each."""
    pairs = config.pairs
    counts = [min(pairs.tree, pairs.candidates - first) for first in range(0, pairs.candidates, pairs.tree)]

    def scenario(name: str, taken: int, kept: int, rejected: float = 0.0) -> Scenario:
        """So many tries are drawn, so many pairs kept, and a share of the rest is rejected early."""
        drawn = sum(counts[:taken])
        refused = pairs.store_refused * (drawn - kept)
        preferred = 2 * refused if config.pack.preferences and kept else 0.0  # both pictures of both siblings
        rows = (1 - rejected) * sum(tries[:taken]) + rejected * sum(early[:taken])
        return Scenario(name, float(drawn), rows, 2 * kept + refused + preferred)

    early = rows_of_tries(pairs, config.seed, sampler, kind, until=pairs.early_step)
    rejected = 1 - pairs.early_audit if pairs.early_step else 0.0
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


def rows_of_tries(
    settings: PairsConfig, seed: int, sampler: Sampler, kind: str = OTHER, *, until: int | None = None
) -> list[float]:
    """Return the UNet rows of the trees of a triple on average: of candidates, if they do not share any.

    Args:
        settings: settings of the stage.
        seed: seed of the run.
        sampler: what the base model says of UNet rows.
        kind: kind of edit of the triple.
        until: denoising step before which they end; None for all steps.

    Raises:
        ConfigError: the scheduler does not take so many steps, or does not know the model's noise schedule.
    """
    triples, settings = [stand_in(f"{number}", "", kind) for number in range(SAMPLED_TRIPLES)], settings.for_kind(kind)
    calls = [each for each in plan_calls(settings, sampler) if until is None or each.step < until]
    tries = []
    for number in range(0, settings.candidates, settings.tree):
        trees = [plan_tree(each, number, settings, seed)[: settings.candidates - number] for each in triples]
        shares = [[each.candidate.p for each in tree] for tree in trees]
        tries.append(sum(rows_of_tree(each, calls, settings.steps) for each in shares) / len(shares))
    return tries


def plan_calls(settings: PairsConfig, sampler: Sampler) -> list[Call]:
    """Plan the UNet calls of a picture. Without text is computed where guidance is on, by the timesteps of the
    scheduler; there every so many calls; and nowhere if no scale is any guidance.

    Args:
        settings: settings of the stage, with the ranges of the kind of edit.
        sampler: what the base model says of UNet rows.

    Raises:
        ConfigError: the scheduler does not take so many steps, or does not know the model's noise schedule.
    """
    scheduler = make_scheduler(sampler.scheduler, settings.scheduler)
    steps = steps_of_calls(scheduler, settings.steps)  # which sets the timesteps
    is_plain = sampler.takes_scale or settings.cfg_min == settings.cfg_max in (0, 1)
    calls, guided = [], 0
    for step, timestep in zip(steps, scheduler.timesteps.tolist(), strict=True):
        share = 1 - timestep / sampler.scheduler.config.num_train_timesteps
        inside = settings.guidance_start <= share <= settings.guidance_stop and not is_plain
        calls.append(Call(step, 2 if inside and guided % settings.text_every == 0 else 1))
        guided += inside
    return calls


def rows_of_tree(shares: Sequence[float], calls: Iterable[Call], steps: int) -> int:
    """Return the UNet rows of candidates that differ in p alone: at each call those of the different pictures.

    Args:
        shares: p of each candidate.
        calls: UNet calls of a picture, or the first of them.
        steps: number of denoising steps.
    """
    sharing, total = SharedRows(shares, steps, [0] * len(shares)), 0
    for number, call in enumerate(calls):
        if number:
            sharing.at(call.step)
        total += sum(row == first for row, first in enumerate(sharing.same_in_batch(call.branches)))
    return total


def most_kept(config: DatasetConfig) -> int:
    """Return how many pairs of a triple are kept at most: one of each tree."""
    return min(config.filter.top_k, math.ceil(config.pairs.candidates / config.pairs.tree))


def stand_in(name: str, text: str, kind: str = OTHER) -> Triple:
    """Return a triple of which nothing but its caption and its kind of edit matters."""
    return Triple(
        id=name, caption_id=name, caption=text, instruction=text, edited_caption=text, kind=kind, writer="none"
    )
