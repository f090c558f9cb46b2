"""Early rejection: pairs whose clean pictures, estimated part of the way, are far below a threshold go no further.

The last word is always that of whole pictures: nothing is kept by an estimate. A random share of the pairs is never
rejected early, so that the report can say how many good ones are lost.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from PIL import Image

from ip2p.data_gen.config import FilterConfig, PairsConfig
from ip2p.data_gen.pairs.draw import PlannedCandidate
from ip2p.data_gen.pairs.scores import Scorers, score_candidates
from ip2p.records import AUDIT, Candidate, Triple, in_share

Verdict = Literal["", "hopeful", "hopeless"]
"""Verdict of the estimate of a candidate; "" if there was none."""


class EarlyRejection:
    """Decides from estimated pictures which pairs of a batch go no further.

    Args:
        triples: triples of the candidates, by id.
        settings: settings of the stage.
        bounds: thresholds by which a pair passes.
        scorers: networks that score.

    Attributes:
        verdicts: verdict of each candidate so far, by id.
    """

    def __init__(
        self, triples: Mapping[str, Triple], settings: PairsConfig, bounds: FilterConfig, scorers: Scorers
    ) -> None:
        self.triples, self.settings, self.bounds, self.scorers = triples, settings, bounds, scorers
        self.verdicts: dict[str, Verdict] = {}

    def __call__(
        self, planned: Sequence[PlannedCandidate], pictures: Sequence[tuple[Image.Image, Image.Image]]
    ) -> list[bool]:
        """Return for each candidate whether it is rejected.

        Args:
            planned: candidates of a batch.
            pictures: estimates of the clean source and edited picture of each.
        """
        candidates = [each.candidate for each in planned]
        triples = [self.triples[each.triple_id] for each in candidates]
        scored = score_candidates(candidates, pictures, triples, self.scorers)
        hopeless = [self._is_hopeless(each, triple.kind) for each, triple in zip(scored, triples, strict=True)]
        self.verdicts |= {each.id: "hopeless" if bad else "hopeful" for each, bad in zip(scored, hopeless, strict=True)}
        return [
            bad and not in_share(each.id, self.settings.early_audit, AUDIT)
            for each, bad in zip(scored, hopeless, strict=True)
        ]

    def _is_hopeless(self, candidate: Candidate, kind: str) -> bool:
        """Return whether a score that hardly falls any more is far below its threshold."""
        bounds, margin = self.bounds.thresholds(kind), self.settings.early_margin
        return (
            candidate.sim_source < bounds.source - margin
            or candidate.sim_edited < bounds.edited - margin
            or candidate.sim_direction < bounds.direction - margin
        )
