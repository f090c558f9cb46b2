"""Packing of a kept pair: its row, the inverse pair where one is asked for, or nothing of a near copy."""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pairs.inverse import find_inverse_fault, inverse_row
from ip2p.data_gen.pairs.pack import packed_row
from ip2p.measuring.near_copies import NearCopies
from ip2p.records import Candidate, Reason, Triple

PACKING_FILE = "packing.json"
"""Name of the file in a packed data set that has the counts."""


@dataclass
class PackingCounts:
    """Counts of what was packed.

    Attributes:
        inverses: kept pairs by the reason why they have no inverse one; "" for those that have one. Empty if no inverse
            pairs were asked for.
        originals, edited: ids of pairs whose original or edited picture is a near copy of that of a pair of another
            triple, with the id of that pair.
        both: the same of pairs both of whose pictures are near copies of those of one other pair.
        refused: ids of those that were not packed.
    """

    inverses: Counter[str] = field(default_factory=Counter)
    originals: dict[str, str] = field(default_factory=dict)
    edited: dict[str, str] = field(default_factory=dict)
    both: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, str]:
        """Describe in words what there is to tell."""
        told = {}
        if self.inverses:
            lacking = ", ".join(f"{reason} {count}" for reason, count in sorted(self.inverses.items()) if reason)
            without = f"; none for {self.inverses.total() - self.inverses['']} ({lacking})" if lacking else ""
            if self.inverses[Reason.NOT_JUDGED.value]:
                without += (
                    ": where filter.judge_* hold, there is none, for the judge has seen pairs one way round alone"
                )
            told["inverse pairs"] = f"{self.inverses['']}, in addition to the pairs kept{without}"
        if self.originals or self.edited:
            left = "not packed" if self.refused else "packed all the same"
            told["near copies"] = (
                f"originals {len(self.originals)}, edited pictures {len(self.edited)}, both {len(self.both)} ({left}); "
                "of pairs of other triples"
            )
        return told

    def pairs(self, kept: int) -> int:
        """Return how many of so many kept pairs are packed, without inverse ones."""
        return kept - len(self.refused)

    def levels(self, pairs: int) -> dict[str, Counter[Reason]]:
        """Return how many rows packing packed and refused, by reason, where it may refuse any.

        Args:
            pairs: number of kept pairs.
        """
        found = {}
        if self.refused:
            found["kept pairs"] = Counter({Reason.OK: self.pairs(pairs), Reason.NEAR_COPY: len(self.refused)})
        if self.inverses:
            found["inverse pairs"] = Counter({Reason(name): count for name, count in self.inverses.items()})
        return found

    def to_json(self) -> str:
        """Write the counts as JSON."""
        return json.dumps(vars(self), indent=1) + "\n"


def read_packing(folder: Path) -> PackingCounts:
    """Read the counts of a packed data set; empty ones if it has none, or none that can be read any more."""
    try:
        stored = json.loads((folder / PACKING_FILE).read_text())
        counts = PackingCounts(**stored | {"inverses": Counter(stored["inverses"])})
        counts.levels(0)  # of reasons that there are
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return PackingCounts()
    return counts


class Packing:
    """Makes packed rows of kept pairs, one after another, and counts.

    Args:
        config: config of the build.
        provenance: models, versions and settings that made the pairs.
    """

    def __init__(self, config: DatasetConfig, provenance: Mapping[str, Any]) -> None:
        self.config, self.provenance, self.counts = config, provenance, PackingCounts()
        self._originals, self._edited = NearCopies(), NearCopies()
        self._triples: dict[str, str] = {}
        self._pairs: dict[tuple[str, ...], str] = {}

    def rows(self, candidate: Candidate, triple: Triple, images: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the row of a kept pair and that of its inverse pair, as far as they are packed.

        Args:
            candidate: kept candidate.
            triple: its triple.
            images: its stored pictures, by column.
        """
        self._compare(candidate, images)
        if candidate.id in self.counts.both and self.config.pack.near_copies == "refuse":
            self.counts.refused.append(candidate.id)
            return
        row = packed_row(candidate, triple, images, self.provenance)
        yield row
        if self.config.pack.inverse:
            fault = find_inverse_fault(candidate, triple, self.config.triples.checks, self.config.filter)
            self.counts.inverses[fault.value] += 1
            if not fault:
                yield inverse_row(row, triple)

    def _compare(self, candidate: Candidate, images: Mapping[str, Any]) -> None:
        """Compare a pair with all before, and count what is a near copy of another triple's."""
        counts, name = self.counts, candidate.id
        self._triples[name] = candidate.triple_id
        firsts = []
        for column, earlier, found in (
            ("original_image", self._originals, counts.originals),
            ("edited_image", self._edited, counts.edited),
        ):
            picture = Image.open(io.BytesIO(images[column]["bytes"]), formats=["PNG"]).convert("RGB")
            firsts.append(earlier.find(picture, name) or name)
            self._count(found, name, firsts[-1])
        self._count(counts.both, name, self._pairs.setdefault(tuple(firsts), name))

    def _count(self, found: dict[str, str], name: str, first: str) -> None:
        """Count a near copy, unless both are pairs of one triple."""
        if self._triples[first] != self._triples[name]:
            found[name] = first
