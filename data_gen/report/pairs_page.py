"""report.html: what was kept and what was refused, and why; one file without scripts or links."""

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.report.card import describe_thresholds
from ip2p.data_gen.report.counts import BINS, SCORES, Counts, per_cent
from ip2p.data_gen.rows import FilteredShard
from ip2p.records import Candidate, Reason, Triple

KEPT_SHOWN = 4
"""Kept pairs on the page for each kind of edit."""
REFUSED_SHOWN = 6
"""Refused pairs on the page for each reason."""
THUMBNAIL = 192
WIDTH, HEIGHT = 360, 110

MEANINGS = {
    "sim_source": "first picture and its caption",
    "sim_edited": "second picture and its caption",
    "sim_image": "the two pictures",
    "sim_direction": "change of the pictures and change of the captions",
}
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse}th,td{text-align:left;padding:.15em 1.5em .15em 0}td.n{text-align:right}
figure{display:inline-block;margin:0 1.2em 1.2em 0;vertical-align:top;width:19em}
figure img{width:9.3em;height:auto;image-rendering:auto}figcaption{font-size:13px;line-height:1.35}
svg{margin:0 1em 1em 0}.why{color:#a33}
""".strip()


class ShownPair(NamedTuple):
    """A pair on the page, with its two pictures as PNG bytes."""

    candidate: Candidate
    triple: Triple
    source: bytes
    edited: bytes


class PairChoice:
    """Which pairs the page shows: the first kept ones of each kind of edit, and the first refused for each reason."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], int] = {}

    def take(self, shard: FilteredShard) -> list[Candidate]:
        """Those of a shard's candidates that the page shows."""
        chosen = []
        for each in shard.candidates:
            kept = each.status == "ok"
            key = ("kept", shard.kind(each)) if kept else ("refused", each.reason.value)
            if self._taken.get(key, 0) < (KEPT_SHOWN if kept else REFUSED_SHOWN):
                self._taken[key] = self._taken.get(key, 0) + 1
                chosen.append(each)
        return chosen


def render_report(config: DatasetConfig, counts: Counts, shown: Sequence[ShownPair]) -> str:
    """The page as HTML. Every text from outside is escaped; equal builds give equal pages.

    Args:
        config: of the build.
        counts: of all its shards.
        shown: pairs to show, as `PairChoice` takes them.
    """
    kept = sorted((each for each in shown if each.candidate.status == "ok"), key=lambda each: each.triple.kind)
    refused = sorted((each for each in shown if each.candidate.status != "ok"), key=lambda each: each.candidate.reason)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Data set report</title><style>{STYLE}</style></head><body>
<h1>{counts.pairs} pairs kept of {counts.total} candidates</h1>
{_facts(config, counts)}
<h2>Yield by kind of edit</h2>
{_yield_table(counts)}
<h2>Scores</h2>
<p>Green: kept. Grey: refused. Lines: thresholds ({_escape(describe_thresholds(config))}).</p>
{"".join(_histogram(name, config, counts) for name in SCORES)}
<h2>Refusals</h2>
{_refusals(counts)}
<h2>Kept pairs</h2>
<p>The first {KEPT_SHOWN} of each kind of edit.</p>
<div>{"".join(map(_figure, kept)) or "<p>None.</p>"}</div>
<h2>Refused pairs</h2>
<p>The first {REFUSED_SHOWN} for each reason.</p>
<div>{"".join(map(_figure, refused)) or "<p>None.</p>"}</div>
</body></html>
"""


def _facts(config: DatasetConfig, counts: Counts) -> str:
    """The way from captions to pairs, in numbers."""
    pairs = config.pairs
    facts = {
        "captions": f"{len(counts.captions)} of {config.captions.source}",
        "triples": f"{counts.triples[Reason.OK]} drawn, {counts.triples.total() - counts.triples[Reason.OK]} refused",
        "candidates": f"{counts.total} by {pairs.model}, {pairs.steps} steps of {pairs.scheduler}",
        "kept": f"{counts.pairs} ({per_cent(counts.pairs, counts.total)}), for {counts.served} triples "
        f"({per_cent(counts.served, counts.triples[Reason.OK])})",
        "UNet rows": f"{counts.unet_rows}, {counts.rows_per_pair:.0f} for each kept pair",
        "filtered by": config.scores.clip,
        "seed": str(config.seed),
    }
    rows = "".join(f"<tr><th>{_escape(name)}</th><td>{_escape(value)}</td></tr>" for name, value in facts.items())
    return f"<table>{rows}</table>"


def _yield_table(counts: Counts) -> str:
    rows = "".join(
        f'<tr><td>{_escape(kind)}</td><td class="n">{drawn}</td><td class="n">{counts.kept[kind]}</td>'
        f'<td class="n">{per_cent(counts.kept[kind], drawn)}</td></tr>'
        for kind, drawn in sorted(counts.drawn.items())
    )
    return f"<table><tr><th>kind</th><th>candidates</th><th>kept</th><th>yield</th></tr>{rows}</table>"


def _refusals(counts: Counts) -> str:
    """Refused triples and candidates by reason, in the order of the closed list."""
    rows = "".join(
        f'<tr><td>{what}</td><td>{reason.value}</td><td class="n">{counted[reason]}</td></tr>'
        for what, counted in (("triples", counts.triples), ("candidates", counts.candidates))
        for reason in Reason
        if reason is not Reason.OK and counted[reason]
    )
    return f"<table><tr><th></th><th>reason</th><th>number</th></tr>{rows}</table>" if rows else "<p>None.</p>"


def _histogram(score: str, config: DatasetConfig, counts: Counts) -> str:
    """Bars of a score over the range that has any, kept ones below refused ones, with the thresholds as lines."""
    bars, name = counts.histogram(score), score.removeprefix("sim_")
    bounds = [getattr(config.filter, name)] + ([config.filter.image_max] if name == "image" else [])
    filled = [bar for bar, heights in enumerate(bars) if sum(heights)]
    first, last = (filled[0], filled[-1] + 1) if filled else (0, BINS)
    low: float = min(-1 + 2 * first / BINS, *bounds)
    high: float = max(-1 + 2 * last / BINS, *bounds)
    tallest = max(1, *(sum(heights) for heights in bars))

    def x(value: float) -> float:
        return (value - low) / max(high - low, 1e-9) * WIDTH

    parts = []
    for bar in range(first, last):
        left, right = x(-1 + 2 * bar / BINS), x(-1 + 2 * (bar + 1) / BINS)
        base = float(HEIGHT)
        for count, colour in zip(bars[bar], ("#3a7", "#bbb"), strict=True):
            tall = count / tallest * (HEIGHT - 10)
            base -= tall
            parts.append(
                f'<rect x="{left:.1f}" y="{base:.1f}" width="{max(right - left - 1, 1):.1f}" height="{tall:.1f}" '
                f'fill="{colour}"/>'
            )
    parts += [f'<path d="M{x(bound):.1f} 0V{HEIGHT}" stroke="#a33" stroke-width="1.5"/>' for bound in bounds]
    ends = f'<text x="0" y="{HEIGHT + 14}">{low:.2f}</text><text x="{WIDTH}" y="{HEIGHT + 14}" text-anchor="end">'
    title = f'<text x="0" y="{HEIGHT + 32}" font-weight="bold">{name}: {MEANINGS[score]}</text>'
    return (
        f'<svg width="{WIDTH + 8}" height="{HEIGHT + 44}" viewBox="-4 0 {WIDTH + 8} {HEIGHT + 44}" font-size="12" '
        f'font-family="sans-serif" role="img">{"".join(parts)}{ends}{high:.2f}</text>{title}</svg>'
    )


def _figure(each: ShownPair) -> str:
    """Both pictures, what was asked, and how it was scored."""
    candidate, triple = each.candidate, each.triple
    scores = " ".join(f"{name.removeprefix('sim_')} {getattr(candidate, name):.2f}" for name in SCORES)
    why = f'<span class="why">{candidate.reason.value}</span> ' if candidate.reason else ""
    return (
        f"<figure>{_picture(each.source)} {_picture(each.edited)}<figcaption>{why}"
        f"<b>{_escape(triple.instruction)}</b> ({_escape(triple.kind)})<br>{_escape(triple.caption)}<br>"
        f"p {candidate.p:.2f}, cfg {candidate.cfg:.1f}; {scores}</figcaption></figure>"
    )


def _picture(png: bytes) -> str:
    """A picture inside the page, no larger than it is shown."""
    image = Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}">'


def _escape(value: str) -> str:
    return html.escape(value, quote=True)
