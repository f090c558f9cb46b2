"""Check anybody's pairs, row by row: `ip2p dataset check`.

Nothing here knows what an instruction asks for. So each check looks for what no edit does: a picture moves by half a
pixel, all of its colours by the same little, a border appears, nothing changes, a row comes twice.
"""

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ip2p.editing.changes import visible_share
from ip2p.errors import ImageError
from ip2p.measuring.alignment import Shift, find_shift
from ip2p.measuring.near_copies import NearCopies
from ip2p.ownership import write_new
from ip2p.pairs.rows import PairRow
from ip2p.pictures.color import to_rgb, to_srgb
from ip2p.pictures.read import check_shape, open_guarded
from ip2p.plurals import counted

MIN_SHIFT, MIN_AGREEMENT = 0.3, 0.06
"""Shift in pixels that is told, if the pictures agree at least this much: docs/decisions.md."""
MIN_DRIFT, MAX_DRIFT, DRIFT_SPREAD, DRIFT_SHARE = 2.0, 16.0, 4.0, 0.4
"""Gray levels by which a colour drifts, since more of them are an edit, and the share of the pixels that have to differ
by as many, give or take a few."""
MIN_BORDER, MAX_BORDER, BORDER_EVENNESS, BORDER_STEP, BORDER_SHARE = 2, 0.2, 14, 20, 0.8
"""Lines of a border, its largest share of a side, the gray levels within it, those at its inner edge, and the share of
the pixels of a line that have to obey."""
MIN_CHANGE = 0.001
"""Share of pixels that an edit changes at least."""
MIN_SIDE = 64
"""Side in pixels below which shifts are not looked for: too few edges tell them from chance."""
MIN_REPEATS, MAX_SHARE = 10, 0.05
"""An instruction of at least this many rows, and more than this share of all, is told as repeated."""

Pixels = npt.NDArray[np.float32]
COLUMNS = ("row", "fault", "detail")
"""Columns of the list of faults."""


class Fault(StrEnum):
    """Faults that a row may have."""

    UNREADABLE = "unreadable"
    UNEQUAL_SIZES = "unequal sizes"
    SHIFT = "shift"
    BORDER = "border growth"
    DRIFT = "colour drift"
    NEAR_COPY = "near copy"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near duplicate"
    NEAR_SOURCE = "source nearly that of another row"
    SAME_EDITED = "edited picture of another row"
    NO_INSTRUCTION = "empty instruction"
    REPEATED = "repeated instruction"


class Finding(NamedTuple):
    """A fault of a row, and the figures behind it."""

    place: str
    fault: Fault
    detail: str


class Checked(NamedTuple):
    """The outcome: number of rows, all findings in the order of the rows, and rows too small to be checked for shifts.

    What was not checked is no fault, but is said.
    """

    rows: int
    findings: list[Finding]
    small: int = 0

    def __str__(self) -> str:
        bad = len({each.place for each in self.findings})
        lines = [f"{counted(self.rows, 'pair')}, {bad} with a fault"]
        counts = Counter(each.fault for each in self.findings)
        for fault in Fault:
            first = next((each for each in self.findings if each.fault is fault), None)
            lines += [f"  {fault.value}: {counts[fault]}, such as {first.place} ({first.detail})"] if first else []
        if self.small:
            lines.append(f"  not checked for a shift: {self.small}, whose pictures are smaller than {MIN_SIDE} pixels")
        return "\n".join(lines)


def check_pairs(rows: Iterable[PairRow]) -> Checked:
    """Check pairs one by one, and against each other."""
    findings: list[Finding] = []
    earlier = _Earlier()
    instructions: defaultdict[str, list[str]] = defaultdict(list)
    count = 0
    for row in rows:
        count += 1
        found = list(_check_row(row, earlier))
        findings += [Finding(row.place, fault, detail) for fault, detail in found]
        if row.instruction:
            instructions[" ".join(row.instruction.casefold().split())].append(row.place)
    for text, places in instructions.items():
        if len(places) >= MIN_REPEATS and len(places) > MAX_SHARE * count:
            detail = f"{text!r}, {len(places)} times"
            findings += [Finding(place, Fault.REPEATED, detail) for place in places]
    return Checked(count, findings, earlier.small)


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write all findings as CSV, one a line.

    Raises:
        DataError: a file is there that is not such a list.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((each.place, each.fault.value, each.detail) for each in findings)
    write_new(path, stream.getvalue().encode("utf-8", "replace"), beginning=f"{','.join(COLUMNS)}\n".encode())


def _check_row(row: PairRow, earlier: "_Earlier") -> Iterator[tuple[Fault, str]]:
    """Yield the faults of one row."""
    if row.fault:
        yield Fault.UNREADABLE, row.fault
    elif not row.source:
        yield Fault.UNREADABLE, "no source picture"
    if row.fault and not (row.source or row.edited):
        return
    if not row.instruction:
        yield Fault.NO_INSTRUCTION, "no text"
    if not (row.source and row.edited):
        return
    try:
        before, after = (decode(data, name) for data, name in ((row.source, "source"), (row.edited, "edited")))
    except ImageError as error:
        yield Fault.UNREADABLE, error.what
        return
    yield from earlier.find(row.place, before, after)
    if before.size != after.size:
        yield Fault.UNEQUAL_SIZES, f"{before.width} x {before.height} and {after.width} x {after.height}"
        return
    yield from compare(before, after)


def decode(data: bytes, name: str) -> Image.Image:
    """Decode a picture to RGB.

    Args:
        data: bytes of a picture file.
        name: name of the picture, for errors.

    Raises:
        ImageError: it is no picture, damaged, or beyond the limits of `ip2p.pictures.read`.
    """
    with open_guarded(data, name) as image:
        check_shape(image.size, name)
        image.load()
        return to_rgb(to_srgb(image))


def compare(before: Image.Image, after: Image.Image) -> Iterator[tuple[Fault, str]]:
    """Yield the faults of a pair of pictures of one size, in RGB."""
    first, second = (np.asarray(each, np.float32) for each in (before, after))
    share = visible_share(before, after)
    if share < MIN_CHANGE:
        yield Fault.NEAR_COPY, f"{share:.2%} of the pixels changed"
        return
    shift = find_shift(before, after) if min(before.size) >= MIN_SIDE else Shift(0, 0, 0)
    if shift.length >= MIN_SHIFT and shift.agreement >= MIN_AGREEMENT:
        yield Fault.SHIFT, _moved(shift)
    if grown := _grown_borders(first, second):
        yield Fault.BORDER, ", ".join(f"{side} {lines} pixels" for side, lines in grown.items())
    drift = np.median((second - first).reshape(-1, 3), axis=0)
    drifted = float((np.abs(second - first - drift).max(-1) <= DRIFT_SPREAD).mean())
    if MIN_DRIFT <= np.abs(drift).max() <= MAX_DRIFT and drifted >= DRIFT_SHARE:
        levels = ", ".join(f"{name} {value:+.0f}" for name, value in zip(("red", "green", "blue"), drift, strict=True))
        yield Fault.DRIFT, f"{levels} in {drifted:.0%} of the pixels"


def _moved(shift: Shift) -> str:
    """Return where the edited picture has moved to, such as "0.91 pixels up", in hundredths of a pixel."""
    ways = ((shift.x, "to the right", "to the left"), (shift.y, "down", "up"))
    moves = [f"{abs(by):.2f} pixels {plus if by > 0 else minus}" for by, plus, minus in ways if abs(by) >= 0.005]
    return " and ".join(moves)


def _grown_borders(before: Pixels, after: Pixels) -> dict[str, int]:
    """Return the sides on which an even border has appeared or grown, with its width."""
    sides = {"left": (1, 0, 2), "top": (0, 1, 2), "right": (1, 0, 2), "bottom": (0, 1, 2)}
    grown = {}
    for side, axes in sides.items():
        step = -1 if side in ("right", "bottom") else 1
        old, new = (_border(each.transpose(axes)[::step]) for each in (before, after))
        if new - old >= MIN_BORDER:
            grown[side] = new
    return grown


def _border(lines: Pixels) -> int:
    """Count the lines of an even border before the first line that is different all along; 0 for none, as in a sky."""
    most = int(MAX_BORDER * len(lines))
    color = np.median(lines[0], axis=0)
    differences = np.abs(lines[: most + 2] - color).max(-1)
    even = (differences <= BORDER_EVENNESS).mean(axis=1) >= BORDER_SHARE
    width = int(even.argmin())
    return width if width <= most and (differences[width] >= BORDER_STEP).mean() >= BORDER_SHARE else 0


class _Earlier:
    """Finds rows whose pictures are equal to those of an earlier row, or nearly so.

    Attributes:
        small: number of rows with pictures that are too small to be checked for shifts.
    """

    def __init__(self) -> None:
        self.small = 0
        self._pairs: dict[bytes, str] = {}
        self._near_pairs: dict[tuple[str, str], str] = {}
        self._exact_sources: set[bytes] = set()
        self._sources, self._edited = NearCopies(), NearCopies()

    def find(self, place: str, before: Image.Image, after: Image.Image) -> Iterator[tuple[Fault, str]]:
        """Yield the faults of a row that repeats an earlier one, and remember the row.

        Rows may share their source exactly, as several edits of one picture do, and an edit may lead back to a source.
        """
        self.small += min(before.size) < MIN_SIDE
        source, edited = (_hash(each) for each in (before, after))
        if (first := self._pairs.setdefault(source + edited, place)) is not place:
            yield Fault.DUPLICATE, f"of {first}"
            return
        copied, repeated = self._sources.find(before, place), self._edited.find(after, place)
        leads_back = edited in self._exact_sources
        first = self._near_pairs.setdefault((copied or place, repeated or place), place)
        if first is not place:
            yield Fault.NEAR_DUPLICATE, f"of {first}"
        elif copied and source not in self._exact_sources:
            yield Fault.NEAR_SOURCE, f"of {copied}"
        elif repeated and not leads_back:
            yield Fault.SAME_EDITED, f"that of {repeated}"
        self._exact_sources.add(source)


def _hash(image: Image.Image) -> bytes:
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
