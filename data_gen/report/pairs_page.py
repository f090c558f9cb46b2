"""report.html: which pairs were kept, which were refused, and why."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.costs import Costs
from ip2p.data_gen.pairs.filter import BOUNDS
from ip2p.data_gen.pairs.packing import PackingCounts
from ip2p.data_gen.report.card import describe_thresholds
from ip2p.data_gen.report.counts import BINS, P_BINS, SCORES, Counts, per_cent
from ip2p.data_gen.report.reasons import MEANINGS as REASONS
from ip2p.data_gen.rows import FilteredShard
from ip2p.pictures.pages import Bar, Chart, Label, render_page, thumbnail
from ip2p.plurals import counted
from ip2p.records import JUDGE_SCORES, Candidate, Reason, Triple

KEPT_SHOWN = 4
"""Number of kept pairs on the page for each kind of edit."""
REFUSED_SHOWN = 6
"""Number of refused pairs on the page for each reason."""
THUMBNAIL = 192
WIDTH, HEIGHT = 360, 110

MEANINGS = {
    "sim_source": "first picture and its caption",
    "sim_edited": "second picture and its caption",
    "sim_image": "the two pictures",
    "sim_direction": "change of pictures and of captions",
    "layout": "distance of the two layouts",
    "changed": "share of the pixels that differ",
    "judge_edit": "the edit is done",
    "judge_kept": "all else is as before",
    "judge_clean": "both are drawn whole",
}
TEMPLATE = Path(__file__).with_name("pairs.html")


class ShownPair(NamedTuple):
    """A pair on the page, with both pictures as PNG bytes."""

    candidate: Candidate
    triple: Triple
    source: bytes
    edited: bytes


class Level(NamedTuple):
    """A level of the funnel: how many rows there are, how many pass, and the others by reason, most first."""

    rows: str
    total: int
    passed: int
    refused: list[tuple[Reason, int]]


class PairChoice:
    """Chooses the pairs on the page: the first kept ones of each kind of edit, the first refused of each reason."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], int] = {}

    def take(self, shard: FilteredShard) -> list[Candidate]:
        """Return the candidates of a shard that the page shows."""
        chosen = []
        for each in shard.candidates:
            kept = each.status == "ok"
            key = ("kept", shard.kind(each)) if kept else ("refused", each.reason.value)
            if self._taken.get(key, 0) < (KEPT_SHOWN if kept else REFUSED_SHOWN):
                self._taken[key] = self._taken.get(key, 0) + 1
                chosen.append(each)
        return chosen


def render_report(
    config: DatasetConfig,
    counts: Counts,
    shown: Sequence[ShownPair],
    costs: Costs,
    packing: PackingCounts | None = None,
) -> str:
    """Render the page as HTML; equal builds give equal pages, but for the seconds that they took.

    Args:
        config: config of the build.
        counts: counts over all shards.
        shown: pairs to show, chosen by `PairChoice`.
        costs: what the build has cost.
        packing: what packing made of the kept pairs.
    """
    packing = packing or PackingCounts()
    kept = sorted((each for each in shown if each.candidate.status == "ok"), key=lambda each: each.triple.kind)
    refused = sorted((each for each in shown if each.candidate.status != "ok"), key=lambda each: each.candidate.reason)
    scores = [name for name in SCORES if counts.judged or name not in JUDGE_SCORES]
    funnel = _funnel(counts, packing)
    seen = {reason: REASONS[reason] for level in funnel for reason, _ in level.refused}
    return render_page(
        TEMPLATE, title="Data set report", cost=costs.per_pair(counts.pairs, counts.unet_rows),
        facts=_facts(config, counts) | packing.facts() | {"time": costs.by_stage()}, per_cent=per_cent,
        thresholds=describe_thresholds(config), histograms=[_histogram(name, config, counts) for name in scores],
        funnel=funnel, reasons=seen, yields=_yields(counts), kept=kept, kept_shown=KEPT_SHOWN, refused=refused,
        refused_shown=REFUSED_SHOWN, scores=scores, thumbnail=functools.partial(thumbnail, side=THUMBNAIL),
    )  # fmt: skip


def _facts(config: DatasetConfig, counts: Counts) -> dict[str, str]:
    """Return the key figures of the build, from captions to pairs."""
    pairs = config.pairs
    return {
        "captions": f"{len(counts.captions)} of {config.captions.source}",
        "triples": f"{counts.triples[Reason.OK]} drawn, {counts.triples.total() - counts.triples[Reason.OK]} refused",
        "candidates": f"{counts.total} by {pairs.model}, {pairs.steps} steps of {pairs.scheduler}",
        "kept": f"{counts.pairs} ({per_cent(counts.pairs, counts.total)}), for {counted(counts.served, 'triple')} "
        f"({per_cent(counts.served, counts.triples[Reason.OK])})",
        "UNet rows": str(counts.unet_rows)
        + (f", {counts.rows_per_pair:.0f} for each kept pair" if counts.pairs else ""),
        **({"rejected early": counts.describe_early()} if pairs.early_at else {}),
        "filtered by": config.scores.clip,
        **_describe_judge(config, counts),
        "seed": str(config.seed),
    }


def _describe_judge(config: DatasetConfig, counts: Counts) -> dict[str, str]:
    """Return which model has judged how many pairs, if one has."""
    left, model = counts.candidates[Reason.NOT_JUDGED], config.scores.judge
    said = f"{model}, {counted(counts.judged, 'pair')}" + (
        f"; {left} more are not judged, and not kept" if left else ""
    )
    return {"judged by": said} if model else {}


def _funnel(counts: Counts, packing: PackingCounts) -> list[Level]:
    """Return how many rows of each sort there were, how many passed, and why the others did not."""
    return [
        Level(what, counted.total(), counted[Reason.OK], [each for each in counted.most_common() if each[0]])
        for what, counted in (
            ("triples", counts.triples),
            ("candidates", counts.candidates),
            *packing.levels(counts.pairs).items(),
        )  # fmt: skip
    ]


def _yields(counts: Counts) -> list[tuple[str, list[tuple[str, int, int]]]]:
    """Return the numbers of drawn and of kept candidates by kind of edit, and by share p."""
    by_kind = [(kind, drawn, counts.kept[kind]) for kind, drawn in sorted(counts.drawn.items())]
    by_share = [
        (f"{number / P_BINS:.1f} to {(number + 1) / P_BINS:.1f}", drawn, counts.kept_at[number])
        for number, drawn in sorted(counts.drawn_at.items())
    ]
    return [("kind of edit", by_kind), ("share p", by_share)]


def _histogram(score: str, config: DatasetConfig, counts: Counts) -> Chart:
    """Plot the histogram of a score, kept candidates below refused ones, with the thresholds as lines."""
    bins, name = counts.histogram(score), score.removeprefix("sim_")
    asked = [(getattr(config.filter, key), bound) for key, bound in BOUNDS.items() if bound.score == score]
    # Lines outside of the range of the scores would make the bars thin.
    signs = {each: bound.sign for each, bound in asked if bound.can_refuse(each) and -1 < each < 1}
    filled = [number for number, each in enumerate(bins) if sum(each)]
    first, last = (filled[0], filled[-1] + 1) if filled else (0, BINS)
    edges = [-1 + 2 * number / BINS for number in range(BINS + 1)]
    low, high = min([edges[first], *signs]), max([edges[last], *signs])
    bars = []
    for number in range(first, last):
        (kept, refused), (left, right) = bins[number], edges[number : number + 2]
        bars += [Bar(left, right, 0, kept, "#3a7"), Bar(left, right, kept, kept + refused, "#bbb")]
    tallest = max(map(sum, bins))
    return Chart(
        WIDTH, HEIGHT, x=(low, high), y=(0, max(1, tallest)), bars=bars, bounds=list(signs),
        top=counted(tallest, "candidate"),
        labels=[Label(each, max(1, tallest), f"{sign} {each:g}", "#a33") for each, sign in signs.items()],
        left=f"{low:.2f}", right=f"{high:.2f}", title=f"{name}: {MEANINGS[score]}",
    )  # fmt: skip
