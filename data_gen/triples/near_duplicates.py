"""Near duplicates among many texts: MinHash signatures, sorted into buckets, and looked at closely where they meet.

The share of equal places in two signatures estimates the Jaccard similarity of the two sets (Broder, On the resemblance
and containment of documents, 1997). Here signatures only find the pairs worth a look, which is then exact.
"""

import random
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

BANDS, MOST_ROWS = 8, 8
FOUND = 0.99
"""Least probability that two sets exactly as similar as the threshold share a bucket."""

_DRAWN = random.Random(1997)
_NOISE = np.array([_DRAWN.getrandbits(64) for _ in range(BANDS * MOST_ROWS)], np.uint64)
_ODD = np.array([_DRAWN.getrandbits(64) | 1 for _ in range(BANDS * MOST_ROWS)], np.uint64)
_HALF = np.uint64(32)


def shingles(words: Sequence[str], size: int = 3) -> set[str]:
    """All runs of `size` words, with blanks before the first and after the last: each word is in as many runs."""
    blanks = [""] * (size - 1)
    padded = [*blanks, *words, *blanks]
    return {" ".join(padded[start : start + size]) for start in range(len(padded) - size + 1)}


def hash64(text: str) -> int:
    """A number in [0, 2^64) for a text: the same in every process, unlike Python's own hash."""
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest())


def signature(numbers: frozenset[int], length: int = BANDS * MOST_ROWS) -> npt.NDArray[np.uint64]:
    """The least of the numbers under each of `length` random orders, at most BANDS * MOST_ROWS.

    Args:
        numbers: numbers of a set's members, from `hash64`; an empty set has the signature of {0}.
        length: length of the signature, at most 64.
    """
    seen = np.fromiter(numbers or (0,), np.uint64)
    mixed = (seen ^ _NOISE[:length, None]) * _ODD[:length, None]
    least: npt.NDArray[np.uint64] = ((mixed ^ (mixed >> _HALF)) * _ODD[0]).min(axis=1)
    return least


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """Jaccard similarity of two sets, 0 to 1; two empty sets are equal."""
    return len(a & b) / len(a | b) if a or b else 1.0


class NearIndex:
    """Sets that can be asked for one like another.

    Memory for each set: about 1,100 bytes, and 8 for each of its members.

    Args:
        threshold: Jaccard similarity, above 0 and at most 1, from which two sets are alike. From 0.45 on, of
            sets exactly this similar one in a hundred is missed at most; below, six in a hundred at 0.3.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.rows = max(rows for rows in range(1, MOST_ROWS + 1) if rows == 1 or _found(threshold, rows) >= FOUND)
        self._latest: dict[int, int] = {}  # by bucket, the number of the set that came last
        self._earlier = array("q")  # BANDS places for each set: the set before it in the same bucket, or -1
        self._members = array("Q")
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __contains__(self, numbers: frozenset[int]) -> bool:
        """Whether a set like this one was added."""
        met = {each for band, key in enumerate(self._buckets(numbers)) for each in self._chain(band, key)}
        return any(jaccard(numbers, self._set(each)) >= self.threshold for each in sorted(met))

    def add(self, numbers: frozenset[int]) -> None:
        """Add a set, alike or not."""
        number = len(self)
        for key in self._buckets(numbers):
            self._earlier.append(self._latest.get(key, -1))
            self._latest[key] = number
        self._members.extend(sorted(numbers))
        self._ends.append(len(self._members))

    def _chain(self, band: int, key: int) -> Iterator[int]:
        """All sets in a bucket, the latest first."""
        number = self._latest.get(key, -1)
        while number >= 0:
            yield number
            number = self._earlier[number * BANDS + band]

    def _buckets(self, numbers: frozenset[int]) -> tuple[int, ...]:
        return _buckets(numbers, self.rows)

    def _set(self, number: int) -> frozenset[int]:
        return frozenset(self._members[self._ends[number] : self._ends[number + 1]])


def _found(similarity: float, rows: int) -> float:
    """The probability that two sets agree in all rows of at least one band."""
    return 1 - (1 - similarity**rows) ** BANDS


@lru_cache(maxsize=4)
def _buckets(numbers: frozenset[int], rows: int) -> tuple[int, ...]:
    """The bucket of each band; those of different bands differ. Remembered, as who asks often adds then."""
    parts = signature(numbers, BANDS * rows).reshape(BANDS, rows)
    weights = _ODD[: BANDS * rows].reshape(BANDS, rows)
    return tuple(((parts ^ (parts >> _HALF)) * weights).sum(axis=1).tolist())
