"""Train and test split, by groups of captions that are near duplicates, so that no test pair is all but trained on."""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from ip2p.data_gen.triples.near_duplicates import shingles
from ip2p.records import Caption

SPLITS = ("train", "test")
SIMILARITY = 0.6
"""Jaccard similarity of the runs of three words in two captions from which they belong to one group: the similarity of
two captions of ten words one of which differs."""

Runs = frozenset[str]
"""All runs of three words in a caption."""


def group_captions(captions: Iterable[Caption]) -> dict[str, str]:
    """Group captions by their runs of words: near duplicates, and near duplicates of these, belong together.

    Returns:
        The name of the group of each caption, by ids: the smallest id in the group.
    """
    same: defaultdict[Runs, list[str]] = defaultdict(list)
    for caption in captions:
        same[frozenset(shingles(re.findall(r"\w+", caption.text.casefold())))].append(caption.id)
    parents = {runs: runs for runs in same}

    def root(runs: Runs) -> Runs:
        while parents[runs] is not runs:
            parents[runs] = runs = parents[parents[runs]]
        return runs

    for first, second in near_pairs(same, SIMILARITY):
        parents[root(second)] = root(first)
    members: defaultdict[Runs, list[str]] = defaultdict(list)
    for runs, ids in same.items():
        members[root(runs)] += ids
    return {each: min(ids) for ids in members.values() for each in ids}


def near_pairs(sets: Iterable[Runs], threshold: float) -> Iterator[tuple[Runs, Runs]]:
    """Yield all pairs of different sets whose Jaccard similarity is at least the threshold, each pair once.

    With the members of all sets in one order, two such sets share one of their first |set| - threshold |set| + 1
    members; with the rarest first, few others do (prefix filtering; Chaudhuri, Ganti and Kaushik, A primitive operator
    for similarity joins in data cleaning, 2006).

    Args:
        sets: sets of runs, all different.
        threshold: Jaccard similarity, above 0 and at most 1.
    """
    found = list(sets)
    counts = Counter(run for runs in found for run in runs)
    beginning_with: defaultdict[str, list[Runs]] = defaultdict(list)
    for runs in found:
        length = len(runs) - math.ceil(threshold * len(runs)) + 1
        first = sorted(runs, key=lambda run: (counts[run], run))[:length]
        for other in {each for run in first for each in beginning_with[run]}:
            both = len(runs & other)
            if both >= threshold * (len(runs) + len(other) - both):
                yield other, runs
        for run in first:
            beginning_with[run].append(runs)


def split_of(group: str, share: float) -> str:
    """Return the split of a group of captions, so that all its pairs are in the same one.

    Args:
        group: name of the group, from `group_captions`.
        share: share of the groups that go to the test split, 0 to 1.
    """
    place = int.from_bytes(hashlib.sha256(f"split {group}".encode()).digest()[:8], "big") / 2**64
    return "test" if place < share else "train"
