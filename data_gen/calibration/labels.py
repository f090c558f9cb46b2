"""Labels of candidates: a person's marks from the review page, or what a function says about their pictures."""

import csv
import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ip2p.data_gen.build_folder import BuildFolder
from ip2p.data_gen.calibration.search import Examples
from ip2p.data_gen.rows import FilteredShard, from_png, read_pictures
from ip2p.errors import DataError, reason
from ip2p.records import JUDGE_SCORES, NOT_SEEN_WHOLE, SCORES, Candidate

MARKS = {"good": True, "bad": False}
MIN_LABELS, MIN_EACH = 100, 20
"""Least number of labels, and of labels of each sort."""
MAX_UNKNOWN = 0.1
"""Share of the candidates that a function may know nothing about; the others would speak for these."""
AT_ONCE = 32
"""Pairs whose pictures are decoded and labelled together."""
MARK_HINT = "Mark pairs on the page that `ip2p dataset review` writes, and save its CSV"

Label = Callable[[Sequence[tuple[str, str]], Sequence[tuple[Image.Image, Image.Image]]], list[bool | None]]
"""Function that labels pairs as fine or not, or None, from captions before and after and both pictures."""


class Known(NamedTuple):
    """A scored candidate with its kind of edit, and whether it was kept."""

    candidate: Candidate
    kind: str

    @property
    def kept(self) -> bool:
        """Whether the filter kept it."""
        return self.candidate.status == "ok"


def read_marks(path: Path) -> dict[str, bool]:
    """Read the CSV of the review page: columns id and label, which is good or bad.

    Raises:
        DataError: it is unreadable, lacks a column, or has another label.
    """
    marks: dict[str, bool] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), 2):
                name, label = (str(row.get(column) or "").strip() for column in ("id", "label"))
                if not name or label not in MARKS:
                    raise DataError(f"line {number} of {path} is no id with the label good or bad", MARK_HINT)
                if marks.setdefault(name, MARKS[label]) != MARKS[label]:
                    raise DataError(f"{path} calls {name} both good and bad (line {number})", "Remove one of the lines")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the labels {path} ({reason(error)})", MARK_HINT) from error
    return marks


def label_stored(
    build_folder: BuildFolder, shards: Iterable[FilteredShard], label: Label, count: int
) -> dict[str, bool]:
    """Label candidates whose pictures are stored: `count` of them at random, but the same in every run.

    Args:
        build_folder: folder of the build.
        shards: all its filtered shards, in order.
        label: function that labels pairs.
        count: number of candidates; fewer if there are not as many.

    Raises:
        DataError: the function has no labels for more than a tenth of them.
    """
    shards = list(shards)
    ids = {each.id for shard in shards for each in shard.seen}
    chosen = set(heapq.nsmallest(count, ids, key=order))
    labels: dict[str, bool] = {}
    unknown: list[str] = []
    for index, shard in enumerate(shards):
        here = {each.id: shard.by_id[each.triple_id] for each in shard.candidates if each.id in chosen}
        stored = list(read_pictures(build_folder, index, here))
        for start in range(0, len(stored), AT_ONCE):
            rows = stored[start : start + AT_ONCE]
            captions = [(here[row["id"]].caption, here[row["id"]].edited_caption) for row in rows]
            pairs = [(from_png(row["original_image"]), from_png(row["edited_image"])) for row in rows]
            said = zip(rows, label(captions, pairs), strict=True)
            for (row, fine), (caption, _) in zip(said, captions, strict=True):
                if fine is None:
                    unknown.append(caption)
                else:
                    labels[row["id"]] = fine
            if len(unknown) > MAX_UNKNOWN * len(chosen):
                raise DataError(
                    f"the judge knows storybook's edits only, and captions such as {unknown[0][:60]!r} have none",
                    "Mark pairs yourself on the page of `ip2p dataset review`, and give its CSV by --labels FILE",
                )
    return labels


def to_examples(shards: Iterable[FilteredShard], labels: dict[str, bool], origin: str) -> Examples:
    """Bring scores and labels together.

    Kept and refused candidates may have been labelled in other shares than they were drawn in; so each label counts as
    many candidates as it stands for.

    Args:
        shards: all filtered shards.
        labels: labels by id of the candidate.
        origin: where the labels are from, for errors.

    Raises:
        DataError: labels belong to no candidate, or are too few.
    """
    found = [
        Known(each, shard.kind(each))
        for shard in shards
        for each in shard.candidates
        if each.reason not in NOT_SEEN_WHOLE
    ]
    labelled = [each for each in found if each.candidate.id in labels]
    if missing := sorted(labels.keys() - {each.candidate.id for each in labelled}):
        raise DataError(
            f"{len(missing)} of {len(labels)} labels of {origin}, such as {missing[0]}, belong to no candidate of "
            "this build",
            "Give the labels of its own review page",
        )
    fine = sum(labels.values())
    if len(labels) < MIN_LABELS or not MIN_EACH <= fine <= len(labels) - MIN_EACH:
        raise DataError(
            f"{origin} has {len(labels)} labels, {fine} of them good; thresholds take at least {MIN_LABELS}, "
            f"{MIN_EACH} of each sort",
            "Label more: `ip2p dataset review --count 400`, or a build of more candidates",
        )
    sizes = {kept: sum(each.kept == kept for each in found) for kept in (True, False)}
    counts = {kept: sum(each.kept == kept for each in labelled) for kept in (True, False)}
    names = SCORES + (JUDGE_SCORES if any(each.candidate.judge_edit is not None for each in labelled) else ())
    return Examples(
        names=names,
        scores=np.array([[getattr(each.candidate, name) for name in names] for each in labelled], np.float64),
        kinds=np.array([each.kind for each in labelled]),
        fine=np.array([labels[each.candidate.id] for each in labelled]),
        weights=np.array([sizes[each.kept] / counts[each.kept] for each in labelled], np.float64),
        groups=np.array([each.candidate.triple_id for each in labelled]),
    )


def order(name: str) -> str:
    """Return the place of an id in an order that nothing else depends on."""
    return hashlib.sha256(f"calibrate {name}".encode()).hexdigest()
