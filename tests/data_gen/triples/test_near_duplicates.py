"""MinHash: the estimate, found and missed duplicates, and the same hashes in all processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ip2p.data_gen.triples.near_duplicates import BANDS, MAX_ROWS, NearIndex, hash64, jaccard, shingles, signature

SETS = st.frozensets(st.integers(0, 2**64 - 1), max_size=40)


def overlapping(shared: int, own: int, start: int = 0) -> tuple[frozenset[int], frozenset[int]]:
    """Two sets of hashes with `shared` members in common and `own` each besides."""
    names = [hash64(f"{start} {number}") for number in range(shared + 2 * own)]
    return frozenset(names[: shared + own]), frozenset(names[:shared] + names[shared + own :])


def test_shingles_are_runs_of_words() -> None:
    assert shingles(["red", "barn"], 2) == {" red", "red barn", "barn "} and shingles([], 2) == {" "}
    assert [sum(word in each for each in shingles("a1 b2 c3 d4".split())) for word in ("a1", "b2", "d4")] == [3, 3, 3]


@pytest.mark.parametrize(("shared", "own"), [(0, 20), (10, 20), (20, 10), (45, 5), (90, 5), (30, 0)])
def test_equal_places_estimate_jaccard(shared: int, own: int) -> None:
    equal, true = [], shared / (shared + 2 * own)
    for start in range(60):
        a, b = overlapping(shared, own, start)
        assert jaccard(a, b) == pytest.approx(true)
        equal.append(np.mean(signature(a) == signature(b)))
    # 60 signatures of 64 places: a standard deviation of at most 0.0081
    assert np.mean(equal) == pytest.approx(true, abs=0.035)


@given(SETS, SETS)
@settings(deadline=None)
def test_the_index_finds_what_it_was_given_and_nothing_unlike(a: frozenset[int], b: frozenset[int]) -> None:
    index = NearIndex(0.9)
    assert a not in index
    index.add(a)
    assert a in index and len(index) == 1
    assert b not in index or jaccard(a, b) >= 0.9
    assert signature(a).shape == (BANDS * MAX_ROWS,)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9, 1.0])
def test_pairs_at_the_threshold_are_found_and_those_below_are_not(threshold: float) -> None:
    index, asked_above, asked_below = NearIndex(threshold), [], []
    own = round(100 * (1 - threshold) / (1 + threshold))
    for start in range(200):
        a, above = overlapping(100 - own, max(0, own - 1), start)
        b, below = overlapping(100 - own, own + 3, start + 1000)
        index.add(a), index.add(b)
        asked_above.append(above), asked_below.append(below)
    assert sum(each in index for each in asked_above) >= 194
    assert not any(each in index for each in asked_below)


def test_sets_are_found_among_many() -> None:
    index = NearIndex(0.9)
    pairs = [overlapping(40, 1, start) for start in range(2000)]
    for a, _ in pairs:
        index.add(a)
    assert len(index) == 2000
    assert sum(b in index for _, b in pairs) >= 1990
    assert not any(overlapping(40, 1, start)[0] in index for start in range(2000, 2200))


def test_all_processes_agree() -> None:
    code = """
from ip2p.data_gen.triples.near_duplicates import NearIndex, hash64, signature
numbers = frozenset(hash64(f"word {n}") for n in range(30))
index = NearIndex(0.9)
index.add(numbers)
print(signature(numbers).tolist(), index._buckets(numbers), numbers in index)
"""
    output = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(output) == 1 and b"True" in output.pop()
