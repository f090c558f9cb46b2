"""What became of every row, counted shard by shard: for the card, the report and the last line of a build."""

from collections import Counter
from typing import NamedTuple

from ip2p.data_gen.rows import FilteredShard
from ip2p.records import Reason

BINS = 80
SCORES = ("sim_source", "sim_edited", "sim_image", "sim_direction")


class Bin(NamedTuple):
    """A bar of a histogram: candidates kept and refused whose score lies here."""

    kept: int
    refused: int


class Counts:
    """Counts of a build, shard by shard.

    Attributes:
        triples: by the reason why they were refused; Reason.OK for those that were drawn.
        candidates: by the reason why they were refused; Reason.OK for those that were kept.
        drawn, kept: candidates by kind of edit.
        served: triples with at least one pair kept.
        unet_rows: that drawing the candidates took.
    """

    def __init__(self) -> None:
        self.captions: set[str] = set()
        self.triples: Counter[Reason] = Counter()
        self.candidates: Counter[Reason] = Counter()
        self.drawn: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.served = 0
        self.unet_rows = 0
        self._bars: Counter[tuple[str, int, bool]] = Counter()

    def add(self, shard: FilteredShard) -> None:
        """Count the rows of a shard."""
        self.captions.update(triple.caption_id for triple in shard.triples)
        self.triples.update(triple.reason for triple in shard.triples)
        self.served += len({each.triple_id for each in shard.kept.values()})
        self.unet_rows += shard.unet_rows
        for each in shard.candidates:
            kept = each.id in shard.kept
            self.candidates[each.reason] += 1
            self.drawn[shard.kind(each)] += 1
            self.kept[shard.kind(each)] += kept
            self._bars.update((name, _bin(getattr(each, name)), kept) for name in SCORES)

    @property
    def total(self) -> int:
        """Candidates."""
        return self.candidates.total()

    @property
    def pairs(self) -> int:
        """Candidates that were kept."""
        return self.candidates[Reason.OK]

    @property
    def rows_per_pair(self) -> float:
        """UNet rows that a kept pair cost, those of its refused rivals included."""
        return self.unet_rows / self.pairs if self.pairs else float("inf")

    def histogram(self, score: str) -> list[Bin]:
        """BINS bars of a score from -1 to 1."""
        return [Bin(self._bars[score, bar, True], self._bars[score, bar, False]) for bar in range(BINS)]


def per_cent(part: int, whole: int) -> str:
    """A part in per cent of a whole; "-" of nothing."""
    return f"{part / whole:.1%}" if whole else "-"


def _bin(score: float) -> int:
    """The bar of a score; one that is no number counts as the lowest."""
    return min(max(int((score + 1) / 2 * BINS), 0), BINS - 1) if score == score else 0
