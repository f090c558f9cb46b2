"""Verdicts of a vision model on edited pictures, as measures beside the others.

It is asked when all is drawn, sample by sample and method by method: where a budget ends, the methods are judged on the
same samples.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from ip2p.errors import DataError, ImageError
from ip2p.evaluation.results import Result
from ip2p.evaluation.samples import Sample
from ip2p.measuring.vision_judge import JudgedEdit, VisionJudge, encode_png
from ip2p.measuring.vision_verdicts import Verdict
from ip2p.plurals import counted


class Asked(NamedTuple):
    """Results with the marks of a vision model among their figures, and a line that says how many have some."""

    results: dict[str, list[Result]]
    note: str


def ask_judge(samples: Sequence[Sample], results: Mapping[str, Sequence[Result]], judge: VisionJudge) -> Asked:
    """Ask a vision model about every picture that is kept, except of samples whose input cannot be read any more.

    Args:
        samples: samples, the first of which are asked about first.
        results: results by method; those without a picture stay as they are.
        judge: the model.

    Raises:
        ConfigError, WriterError: see `VisionJudge.judge`.
    """
    by_sample: dict[str, list[tuple[str, bytes]]] = {}
    for method, rows in results.items():
        for row in rows:
            if row.picture and not row.fault:
                by_sample.setdefault(row.sample, []).append((method, row.picture))
    unread: set[str] = set()

    @lru_cache(maxsize=1)  # the questions about a sample follow each other
    def encode_source(sample: Sample) -> bytes:
        try:
            return encode_png(sample.load().source)
        except (DataError, ImageError):
            unread.add(sample.name)
            raise

    names: list[tuple[str, str]] = []
    edits: list[JudgedEdit] = []
    for sample in samples:
        made = by_sample.get(sample.name, [])
        names += [(method, sample.name) for method, _ in made]
        edits += [JudgedEdit(sample, partial(encode_source, sample), picture) for _, picture in made]
    verdicts = dict(zip(names, judge.judge(edits), strict=True))
    judged = sum(each is not None for each in verdicts.values())
    found = {
        method: [_with_marks(row, verdicts.get((method, row.sample))) for row in rows]
        for method, rows in results.items()
    }
    note = f"{judge.server.model} has judged {judged} of {len(edits)} pictures, each in both orders"
    gone = f"; the inputs of {counted(len(unread), 'sample')} cannot be read any more" if unread else ""
    return Asked(found, note + gone)


def _with_marks(result: Result, verdict: Verdict | None) -> Result:
    """Add the marks of a verdict to the figures of a result."""
    if verdict is None:
        return result
    marks = {"asked_edit": verdict.edit, "asked_kept": verdict.kept, "asked_clean": verdict.clean}
    return result._replace(figures=result.figures | marks | {"asked": round(verdict.edit * verdict.kept, 6)})
