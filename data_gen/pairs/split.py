"""Train and test split, by groups of captions that are near duplicates, so that no test pair is all but trained on."""

import hashlib
import re
from collections.abc import Iterable

from ip2p.data_gen.triples.near_duplicates import NearIndex, hash64
from ip2p.records import Caption

SPLITS = ("train", "test")
SIMILARITY = 0.7
"""Jaccard similarity of the words of two captions from which they belong to one group."""


def group_captions(captions: Iterable[Caption]) -> dict[str, str]:
    """Group captions by their words: near duplicates, and near duplicates of these, belong together.

    Returns:
        The name of the group of each caption, by ids: the smallest id in the group.
    """
    index, ids, groups = NearIndex(SIMILARITY), list[str](), dict[str, str]()

    def root(name: str) -> str:
        while groups[name] != name:
            name = groups[name]
        return name

    for caption in captions:
        words = frozenset(hash64(word) for word in re.findall(r"\w+", caption.text.casefold()))
        groups.setdefault(caption.id, caption.id)
        for near in index.near(words):
            first, last = sorted((root(ids[near]), root(caption.id)))
            groups[last] = first
        index.add(words)
        ids.append(caption.id)
    return {name: root(name) for name in groups}


def split_of(group: str, share: float) -> str:
    """Return the split of a group of captions, so that all its pairs are in the same one.

    Args:
        group: name of the group, from `group_captions`.
        share: share of the groups that go to the test split, 0 to 1.
    """
    place = int.from_bytes(hashlib.sha256(f"split {group}".encode()).digest()[:8], "big") / 2**64
    return "test" if place < share else "train"
