"""review.html: a page on which a person marks pairs as good or bad with two keys, and saves the marks as CSV.

The page shows neither scores nor whether a pair was kept, so that marks depend on the pictures alone.
"""

import functools
import hashlib
import heapq
from collections.abc import Iterable, Sequence
from pathlib import Path

from ip2p.data_gen.report.pairs_page import ShownPair
from ip2p.data_gen.rows import FilteredShard
from ip2p.pictures.pages import render_page, thumbnail

THUMBNAIL = 384
TEMPLATE = Path(__file__).with_name("review.html")


def choose_for_review(shards: Iterable[FilteredShard], count: int) -> list[str]:
    """Choose candidates, half of them kept and half refused, at random but the same in every run.

    Args:
        shards: all filtered shards.
        count: number of candidates; fewer if there are not as many.

    Returns:
        Ids in random order.
    """
    kept, refused = list[str](), list[str]()
    for shard in shards:
        for each in shard.seen:
            (kept if each.status == "ok" else refused).append(each.id)
    half = count // 2
    most = max(half, count - len(refused)), max(count - half, count - len(kept))
    chosen = [heapq.nsmallest(number, ids, key=_order) for number, ids in zip(most, (kept, refused), strict=True)]
    return sorted(chosen[0] + chosen[1], key=_order)


def render_review(pairs: Sequence[ShownPair], fingerprint: str) -> str:
    """Render the page as HTML.

    Args:
        pairs: pairs to show, in order.
        fingerprint: fingerprint of the settings, under which the browser keeps the marks.
    """
    return render_page(
        TEMPLATE, title="Review of pairs", facts={}, pairs=pairs, ids=[each.candidate.id for each in pairs],
        fingerprint=fingerprint, thumbnail=functools.partial(thumbnail, side=THUMBNAIL),
    )  # fmt: skip


def _order(name: str) -> str:
    """Return the place of an id in an order that nothing else depends on."""
    return hashlib.sha256(f"review {name}".encode()).hexdigest()
