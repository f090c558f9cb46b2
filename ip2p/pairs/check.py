"""Check pairs row by row: texts, headers, and every picture decoded, as training would, in threads."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from ip2p.errors import ImageError
from ip2p.pairs.headers import measure
from ip2p.pairs.memory import Checked
from ip2p.pairs.rows import StoredPair
from ip2p.pairs.stored import Stored, read_stored
from ip2p.pictures.read import decode_image

ROWS_A_LINE = 10_000
"""Checked rows between two lines of progress."""
ROWS_AT_ONCE = 64
"""Rows whose pictures are in memory at a time."""


def check_pairs(pairs: Iterable[StoredPair], *, masks: bool, say: Callable[[str], None], name: str) -> list[Checked]:
    """Check pairs, in order.

    Args:
        pairs: pairs as they were read.
        masks: whether a damaged mask makes a pair unusable.
        say: function that prints a line of progress.
        name: name of the data set.
    """
    checked: list[Checked] = []
    rest = iter(pairs)
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="check") as pool:  # decoding releases the GIL
        while rows := list(islice(rest, ROWS_AT_ONCE)):
            before = len(checked) // ROWS_A_LINE
            checked += pool.map(lambda pair: _check(pair, masks), rows)
            if len(checked) // ROWS_A_LINE > before:
                say(f"checking {name}: {len(checked)} rows")
    return checked


def _check(pair: StoredPair, masks: bool) -> Checked:
    """Check texts and pictures of a pair, and let go of the bytes.

    Header and end tell the size and most faults. Only decoding finds that bytes in the middle are damaged.
    """
    faults = [pair.fault] if pair.fault else []
    if not pair.instruction and "instruction" not in pair.fault:
        faults.append("no instruction")
    sizes: dict[str, tuple[int, int]] = {}
    digest = hashlib.blake2b(digest_size=8)
    for side, data in _files(pair, masks, faults):
        digest.update(f"{side} {len(data)} ".encode() + data)
        name = f"the {side} picture" if side != "mask" else "the mask"
        try:
            if side != "mask":
                sizes[side] = measure(data, name)
            decode_image(data, name, frame=0)
        except ImageError as error:
            faults.append(error.what)
    if len(set(sizes.values())) > 1:
        first, second = (f"{width} x {height}" for width, height in sizes.values())
        faults.append(f"the source picture is {first}, the edited one {second}")
    kept = {side: _without_bytes(getattr(pair, side)) for side in ("source", "edited", "mask")}
    size = (0, 0) if faults else sizes["edited"]
    return Checked(StoredPair(**vars(pair) | kept), size, " and ".join(faults), digest.hexdigest())


def _files(pair: StoredPair, masks: bool, faults: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the pictures of a pair; those that cannot be read are faults."""
    for side in ("source", "edited", *(("mask",) if masks else ())):
        stored: Stored | None = getattr(pair, side)
        if stored is not None:
            try:
                data = read_stored(stored, f"the {side} picture" if side != "mask" else "the mask")
            except ImageError as error:
                faults.append(error.what)
            else:
                yield side, data


def _without_bytes(stored: Stored | None) -> Stored | None:
    return None if stored is None else Stored(bytes=None, path=stored["path"])
