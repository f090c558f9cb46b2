"""Segments of a JPEG: its size and the number of its scans, without decoding it."""

import re
from collections.abc import Iterator

MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed byte nor a restart marker
END, SCAN = 0xD9, 0xDA
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def count_scans(data: bytes) -> int:
    """Count the scans of a JPEG. A progressive one has about ten; a thousand take minutes to decode."""
    return sum(code == SCAN for code, _ in _segments(data))


def read_size(data: bytes) -> tuple[int, int] | None:
    """Read the width and the height that a JPEG declares; None if it declares none."""
    for code, segment in _segments(data):
        if code in FRAMES and len(segment) >= 7:
            return int.from_bytes(segment[5:7]), int.from_bytes(segment[3:5])
    return None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the code and the bytes after the marker of each segment, up to the end of the picture."""
    place = 2
    while (found := MARKER.search(data, place)) and found[0][1] != END:
        length = int.from_bytes(data[found.end() : found.end() + 2])
        yield found[0][1], data[found.end() : found.end() + length]
        place = found.end() + length
