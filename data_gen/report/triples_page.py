"""triples.html: what the text stage made, what it refused and why, and what it cost; one file, no scripts or links."""

import html
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ip2p.data_gen.report.counts import per_cent
from ip2p.data_gen.triples.proposals import strip_invisible
from ip2p.data_gen.writers.api.ledger import Spending
from ip2p.records import Reason, Triple

EXAMPLES_SHOWN = 20
"""Refused triples on the page for each reason, and kept ones for each kind."""
MAX_CHARACTERS = 400
"""Signs of a text that the page shows."""

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse}th,td{text-align:left;vertical-align:top;padding:.2em 1.2em .2em 0}td.n{text-align:right}
td{overflow-wrap:anywhere}summary{cursor:pointer;font-weight:600;margin:.4em 0}
""".strip()


class TripleCounts:
    """Counts and examples of triples, in the order of their rows.

    Attributes:
        total, kept: rows, and those that passed the checks.
        captions: rows' captions, by id.
        kinds: kept rows by kind of edit.
        reasons: refused rows by reason.
        examples: the first rows of each reason and of each kind.
    """

    def __init__(self, triples: Iterable[Triple]) -> None:
        self.total = self.kept = 0
        self.captions: set[str] = set()
        self.kinds: Counter[str] = Counter()
        self.reasons: Counter[Reason] = Counter()
        self.examples: defaultdict[str, list[Triple]] = defaultdict(list)
        for triple in triples:
            self._add(triple)

    def _add(self, triple: Triple) -> None:
        self.total += 1
        self.captions.add(triple.caption_id)
        if triple.status == "ok":
            self.kept += 1
            self.kinds[triple.kind] += 1
        else:
            self.reasons[triple.reason] += 1
        examples = self.examples[triple.reason.value or f"kind {triple.kind}"]
        if len(examples) < EXAMPLES_SHOWN:
            examples.append(triple)

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.kinds.most_common())
        reasons = ", ".join(f"{reason.value} {count}" for reason, count in self.reasons.most_common())
        part = per_cent(self.kept, self.total)
        return (
            f"kept {self.kept} of {self.total} triples ({part}) for {len(self.captions)} captions\n"
            f"by kind: {kinds or 'none'}\nrefused: {reasons or 'none'}"
        )


def render_triples(counts: TripleCounts, writer: str, spent: Spending | None) -> str:
    """The page as HTML. Every text from outside is escaped.

    Args:
        counts: of all rows.
        writer: name of who wrote them.
        spent: on a language model; None for a writer that costs nothing.
    """
    facts = {
        "writer": writer,
        "captions": str(len(counts.captions)),
        "kept": f"{counts.kept} of {counts.total} triples ({per_cent(counts.kept, counts.total)})",
    }
    if spent:
        per_thousand = 1000 * spent.cost.usd / counts.kept if counts.kept else 0.0
        facts |= {
            "requests": str(spent.requests),
            "tokens": f"{spent.cost.tokens_in} read, {spent.cost.tokens_out} written",
            "price": f"{spent.cost.usd:.4f} USD, {per_thousand:.4f} USD per thousand kept triples",
            "faults": ", ".join(f"{name} {count}" for name, count in spent.faults.most_common()) or "none",
        }
    lines = "".join(f"<tr><th>{_escape(name)}</th><td>{_escape(value)}</td></tr>" for name, value in facts.items())
    refused = [reason.value for reason in Reason if counts.reasons[reason]]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Triples</title><style>{STYLE}</style></head><body>
<h1>{counts.kept} of {counts.total} triples kept</h1>
<table>{lines}</table>
<h2>Refused, by reason</h2>
<p>The first {EXAMPLES_SHOWN} of each.</p>
{"".join(_examples(name, counts.reasons[Reason(name)], counts.examples[name]) for name in refused) or "<p>None.</p>"}
<h2>Kept, by kind of edit</h2>
<p>The first {EXAMPLES_SHOWN} of each.</p>
{"".join(_examples(k, n, counts.examples[f"kind {k}"]) for k, n in counts.kinds.most_common()) or "<p>None.</p>"}
</body></html>
"""


def _examples(name: str, count: int, triples: Sequence[Triple]) -> str:
    """A table that opens."""
    rows = "".join(
        f"<tr><td>{_escape(each.caption)}</td><td>{_escape(each.instruction)}</td><td>{_escape(each.edited_caption)}</td></tr>"
        for each in triples
    )
    head = "<tr><th>caption</th><th>instruction</th><th>edited caption</th></tr>"
    return f"<details open><summary>{_escape(name)}: {count}</summary><table>{head}{rows}</table></details>"


def _escape(value: str) -> str:
    """A text from outside: escaped, of bounded length, and without signs that turn the reading direction."""
    shown = value if len(value) <= MAX_CHARACTERS else f"{value[:MAX_CHARACTERS]} ..."
    return html.escape(strip_invisible(shown), quote=True)
