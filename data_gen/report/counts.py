"""Counts of the rows of a build, shard by shard, for the card, the report and the last line of a build."""

from collections import Counter
from typing import NamedTuple

from ip2p import records
from ip2p.data_gen.rows import FilteredShard
from ip2p.plurals import counted
from ip2p.records import AUDIT, JUDGE_SCORES, Reason, in_share

BINS = 80
SCORES = (*(name for name in records.SCORES if name != "shift"), *JUDGE_SCORES)
"""Scores in [-1, 1], which have histograms."""


P_BINS = 10


class Bin(NamedTuple):
    """A bar of a histogram: numbers of kept and refused candidates with a score in its range."""

    kept: int
    refused: int


class Counts:
    """Counts of a build, shard by shard.

    Args:
        audited: share of the candidates that are never rejected early.

    Attributes:
        captions: ids of the captions.
        writers: numbers of drawn triples by writer.
        triples: numbers of triples by reason of refusal; Reason.OK for those that were drawn.
        candidates: numbers of candidates by reason of refusal; Reason.OK for those that were kept.
        drawn: numbers of candidates by kind of edit.
        kept: numbers of kept candidates by kind of edit.
        drawn_at, kept_at: the same by share p, in P_BINS bins from 0 to 1.
        served: number of triples with at least one kept pair.
        judged: number of candidates with a verdict of the judge.
        unet_rows: UNet rows of all candidates.
        hopeful, hopeless: numbers of kept candidates that are audited, by what their early estimates said.
    """

    def __init__(self, audited: float = 0.0) -> None:
        self._audited = audited
        self.hopeful = self.hopeless = 0
        self.captions: set[str] = set()
        self.writers: Counter[str] = Counter()
        self.triples: Counter[Reason] = Counter()
        self.candidates: Counter[Reason] = Counter()
        self.drawn: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.drawn_at: Counter[int] = Counter()
        self.kept_at: Counter[int] = Counter()
        self.served = self.judged = 0
        self.unet_rows = 0
        self._bars: Counter[tuple[str, int, bool]] = Counter()

    def add(self, shard: FilteredShard) -> None:
        """Count the rows of a shard."""
        self.captions.update(triple.caption_id for triple in shard.triples)
        self.writers.update(triple.writer for triple in shard.triples if triple.status == "ok")
        self.triples.update(triple.reason for triple in shard.triples)
        self.served += len({each.triple_id for each in shard.kept.values()})
        self.unet_rows += shard.unet_rows
        for each in shard.candidates:
            kept = each.id in shard.kept
            self.candidates[each.reason] += 1
            self.drawn[shard.kind(each)] += 1
            self.kept[shard.kind(each)] += kept
            share = min(int(each.p * P_BINS), P_BINS - 1)
            self.drawn_at[share] += 1
            self.kept_at[share] += kept
            if kept and in_share(each.id, self._audited, AUDIT):
                self.hopeful += shard.verdicts[each.id] == "hopeful"
                self.hopeless += shard.verdicts[each.id] == "hopeless"
            self.judged += each.judge_edit is not None
            scores = {name: getattr(each, name) for name in SCORES}
            self._bars.update((name, _bin(score), kept) for name, score in scores.items() if score is not None)

    @property
    def total(self) -> int:
        """Number of candidates."""
        return self.candidates.total()

    @property
    def pairs(self) -> int:
        """Number of kept candidates."""
        return self.candidates[Reason.OK]

    @property
    def rows_per_pair(self) -> float:
        """UNet rows for each kept pair, including those of refused candidates."""
        return self.unet_rows / self.pairs if self.pairs else float("inf")

    def describe_early(self) -> str:
        """Describe early rejection, and how many good candidates it loses by the share that is audited."""
        rejected, audited = self.candidates[Reason.REJECTED_EARLY], self.hopeful + self.hopeless
        recall = f"it would have let pass {self.hopeful} of {audited} audited pairs that were kept"
        if not audited:
            recall = "how many good ones this loses is unknown: none was audited"
        return f"{counted(rejected, 'candidate')} ({per_cent(rejected, self.total)}); {recall}"

    def histogram(self, score: str) -> list[Bin]:
        """Return the histogram of a score: BINS bars from -1 to 1."""
        return [Bin(self._bars[score, bar, True], self._bars[score, bar, False]) for bar in range(BINS)]


def per_cent(part: int, whole: int) -> str:
    """Format a part as percentage of a whole; "-" if the whole is 0."""
    return f"{part / whole:.1%}" if whole else "-"


def _bin(score: float) -> int:
    """Return the index of a score's bar; NaN counts as the lowest score."""
    return min(max(int((score + 1) / 2 * BINS), 0), BINS - 1) if score == score else 0
