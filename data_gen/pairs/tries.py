"""Adaptive sampling: more tries for triples that have no good pair yet, none for those that have enough.

A triple is given up once its tries say, at 95 %, that pairs of it pass too rarely. With a uniform prior, the acceptance
rate after k of n tries have passed has the posterior Beta(k + 1, n - k + 1), whose tail is a sum of binomial terms.
"""

import math
from collections.abc import Mapping, Sequence

from ip2p.data_gen.config import FilterConfig, PairsConfig
from ip2p.data_gen.pairs.draw import PlannedCandidate, split_into_batches
from ip2p.data_gen.pairs.filter import find_fault
from ip2p.records import Candidate, Reason

SURE = 0.95


class Tries:
    """Chooses which candidates of a shard are drawn next, from the scores of those before.

    The choice depends on nothing but the scores, so that a resumed run makes the same ones.

    Args:
        planned: all candidates of the shard that may be drawn, those of each triple in order.
        kinds: kind of edit of each triple, by the triple's id.
        settings: settings of the stage.
        bounds: thresholds by which a pair passes.
    """

    def __init__(
        self, planned: Sequence[PlannedCandidate], kinds: Mapping[str, str], settings: PairsConfig, bounds: FilterConfig
    ) -> None:
        self._left: dict[str, list[PlannedCandidate]] = {}
        for each in planned:
            self._left.setdefault(each.candidate.triple_id, []).append(each)
        self._kinds, self._settings, self._bounds = kinds, settings, bounds
        self._round: list[list[PlannedCandidate]] = []
        self.tried = dict.fromkeys(self._left, 0)
        self._good: dict[str, set[int]] = {name: set() for name in self._left}

    @property
    def must_know(self) -> bool:
        """Whether the next batch depends on the scores of all before."""
        return not self._round

    def next_batch(self) -> list[PlannedCandidate]:
        """Return the candidates to draw next, at most a batch; none if all is drawn that is worth it."""
        if not self._round:
            chosen = [each for name in self._left for each in self._next_of(name)]
            self._round = list(split_into_batches(chosen, self._settings.batch))
        return self._round.pop(0) if self._round else []

    def passed(self, name: str) -> int:
        """Return the number of seeds of a triple with a pair that passed; more of a seed are not kept."""
        return len(self._good[name])

    def record(self, candidates: Sequence[Candidate]) -> None:
        """Count the scored candidates of a batch."""
        for each in candidates:
            bounds = self._bounds.thresholds(self._kinds[each.triple_id])
            self.tried[each.triple_id] += 1
            if find_fault(each, bounds) is Reason.OK:
                self._good[each.triple_id].add(each.seed)

    def _next_of(self, name: str) -> list[PlannedCandidate]:
        """Take the candidates of a triple for one round: all of them, or one seed's where the scores decide."""
        settings, left = self._settings, self._left[name]
        tried, passed = self.tried[name], self.passed(name)
        if settings.enough and passed >= settings.enough:
            return []
        if tried and is_hopeless(passed, tried, settings.give_up_below):
            return []
        count = settings.tree if settings.enough or settings.give_up_below else len(left)
        taken, self._left[name] = left[:count], left[count:]
        return taken


def is_hopeless(passed: int, tried: int, rate: float) -> bool:
    """Return whether the acceptance rate is below `rate` with a probability of 95 %, given a uniform prior.

    Args:
        passed: number of tries that passed.
        tried: number of tries.
        rate: acceptance rate, 0 to 1; 0 is never missed.
    """
    # P(Beta(k + 1, n - k + 1) > r) = P(Binomial(n + 1, r) <= k)
    above = sum(
        math.comb(tried + 1, count) * rate**count * (1 - rate) ** (tried + 1 - count) for count in range(passed + 1)
    )
    return above < 1 - SURE
