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

from ip2p.data_gen.pairs.edit_mask import changed_pixels
from ip2p.errors import ImageError
from ip2p.measuring.alignment import find_shift
from ip2p.ownership import write_new
from ip2p.pairs.rows import PairRow
from ip2p.pictures.color import to_rgb, to_srgb
from ip2p.pictures.read import check_shape, open_guarded
from ip2p.plurals import counted

MIN_SHIFT, MIN_AGREEMENT = 0.3, 0.08
"""Shift in pixels that is told, if the pictures agree at least this much: docs/decisions.md."""
MIN_DRIFT, MAX_DRIFT, DRIFT_SPREAD, DRIFT_SHARE = 2.0, 16.0, 4.0, 0.4
"""Gray levels by which a colour drifts, since more of them are an edit, and the share of the pixels that have to differ
by as many, give or take a few."""
MIN_BORDER, MAX_BORDER, BORDER_EVENNESS, BORDER_STEP, BORDER_SHARE = 2, 0.2, 14, 20, 0.8
"""Lines of a border, its largest share of a side, the gray levels within it, those at its inner edge, and the share of
the pixels of a line that have to obey."""
MIN_CHANGE = 0.001
"""Share of pixels that an edit changes at least."""
THUMBNAIL, MAX_DISTANCE = 16, 6
"""Side of the thumbnails by which rows are compared, and the gray levels by which all of their pixels may differ."""
OFFSETS = (0.0, 5.5, 11.0)
MIN_REPEATS, MAX_SHARE = 10, 0.05
"""An instruction of at least this many rows, and more than this share of all, is told as repeated."""

Pixels = npt.NDArray[np.float32]
COLUMNS = ("row", "fault", "detail")
"""Columns of the list of faults."""


class Fault(StrEnum):
    """What may be wrong with a row."""

    UNREADABLE = "unreadable"
    UNEQUAL_SIZES = "unequal sizes"
    SHIFT = "shift"
    BORDER = "border growth"
    DRIFT = "colour drift"
    NEAR_COPY = "near copy"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near duplicate"
    NO_INSTRUCTION = "empty instruction"
    REPEATED = "repeated instruction"


class Finding(NamedTuple):
    """A fault of a row, and the figures behind it."""

    place: str
    fault: Fault
    detail: str


class Checked(NamedTuple):
    """The outcome: number of rows, and all findings in the order of the rows."""

    rows: int
    findings: list[Finding]

    def __str__(self) -> str:
        bad = len({each.place for each in self.findings})
        lines = [f"{counted(self.rows, 'pair')}, {bad} with a fault"]
        counts = Counter(each.fault for each in self.findings)
        for fault in Fault:
            first = next((each for each in self.findings if each.fault is fault), None)
            lines += [f"  {fault.value}: {counts[fault]}, such as {first.place} ({first.detail})"] if first else []
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
    return Checked(count, findings)


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
    if fault := earlier.find(row.place, before, after):
        yield fault
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
    share = float(changed_pixels(before, after).mean())
    if share < MIN_CHANGE:
        yield Fault.NEAR_COPY, f"{share:.2%} of the pixels changed"
        return
    shift = find_shift(before, after)
    if shift.length >= MIN_SHIFT and shift.agreement >= MIN_AGREEMENT:
        yield Fault.SHIFT, f"{shift.x:+.2f} pixels to the right, {shift.y:+.2f} down"
    if grown := _grown_borders(first, second):
        yield Fault.BORDER, ", ".join(f"{side} {lines} pixels" for side, lines in grown.items())
    drift = np.median((second - first).reshape(-1, 3), axis=0)
    drifted = float((np.abs(second - first - drift).max(-1) <= DRIFT_SPREAD).mean())
    if MIN_DRIFT <= np.abs(drift).max() <= MAX_DRIFT and drifted >= DRIFT_SHARE:
        levels = ", ".join(f"{name} {value:+.0f}" for name, value in zip(("red", "green", "blue"), drift, strict=True))
        yield Fault.DRIFT, f"{levels} in {drifted:.0%} of the pixels"


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
    """Finds rows whose two pictures are equal to those of an earlier row, or nearly so."""

    def __init__(self) -> None:
        self._exact: dict[bytes, str] = {}
        self._near: defaultdict[bytes, list[tuple[npt.NDArray[np.uint8], str]]] = defaultdict(list)

    def find(self, place: str, before: Image.Image, after: Image.Image) -> tuple[Fault, str] | None:
        """Return the fault of a row that repeats an earlier one, and remember the row."""
        pixels = hashlib.sha256(before.tobytes() + b"|" + after.tobytes()).digest()
        if pixels in self._exact:
            return Fault.DUPLICATE, f"of {self._exact[pixels]}"
        self._exact[pixels] = place
        small = np.concatenate([np.asarray(_shrink(each, THUMBNAIL)).ravel() for each in (before, after)])
        keys = list(_keys(small))
        for key in keys:
            for other, where in self._near[key]:
                if np.abs(other.astype(np.int16) - small).max() <= MAX_DISTANCE:
                    return Fault.NEAR_DUPLICATE, f"of {where}"
        for key in keys:
            self._near[key].append((small, place))
        return None


def _shrink(image: Image.Image, side: int) -> Image.Image:
    return image.convert("L").resize((side, side), Image.Resampling.BOX)


def _keys(small: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    """Yield keys of which near duplicates share at least one: means of eight parts, rounded in three ways."""
    means = small.reshape(8, -1).mean(axis=1)
    for offset in OFFSETS:
        yield bytes([int(offset)]) + np.floor((means + offset) / 16).astype(np.uint8).tobytes()
