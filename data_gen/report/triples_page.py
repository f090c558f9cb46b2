"""triples.html: which triples were kept or refused and why, and what they cost."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from ip2p.data_gen.report.counts import per_cent
from ip2p.pictures.pages import render_page
from ip2p.plurals import counted
from ip2p.records import Reason, Triple
from ip2p.remote.ledger import Spending
from ip2p.remote.reply_text import strip_invisible

EXAMPLES_SHOWN = 20
"""Number of refused triples on the page for each reason, and of kept ones for each kind."""
MAX_CHARACTERS = 400
"""Number of characters of a text that the page shows."""
TEMPLATE = Path(__file__).with_name("triples.html")


class TripleCounts:
    """Counts and examples of triples, in the order of their rows.

    Attributes:
        total: number of triples.
        kept: number of triples that passed the checks.
        captions: ids of the captions.
        kinds: numbers of kept triples by kind of edit.
        reasons: numbers of refused triples by reason.
        examples: first triples of each reason and of each kind.
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
            f"kept {self.kept} of {counted(self.total, 'triple')} ({part}) "
            f"for {counted(len(self.captions), 'caption')}\n"
            f"by kind: {kinds or 'none'}\nrefused: {reasons or 'none'}"
        )


def render_triples(counts: TripleCounts, writer: str, spent: Spending | None) -> str:
    """Render the page as HTML.

    Args:
        counts: counts and examples of all triples.
        writer: name of the writer.
        spent: cost of the language model; None for a writer without cost.
    """
    facts = {
        "writer": writer,
        "captions": str(len(counts.captions)),
        "kept": f"{counts.kept} of {counted(counts.total, 'triple')} ({per_cent(counts.kept, counts.total)})",
    }
    if spent:
        per_thousand = 1000 * spent.cost.usd / counts.kept if counts.kept else 0.0
        facts |= {
            "requests": str(spent.requests),
            "tokens": f"{spent.cost.tokens_in} read, {spent.cost.tokens_out} written",
            "price": f"{spent.cost.usd:.4f} USD, {per_thousand:.4f} USD per thousand kept triples",
            "faults": ", ".join(f"{name} {count}" for name, count in spent.faults.most_common()) or "none",
        }
    refused = [reason for reason in Reason if counts.reasons[reason]]
    return render_page(
        TEMPLATE, title="Triples", facts={name: _shown(value) for name, value in facts.items()}, counts=counts,
        refused=[(each.value, counts.reasons[each], counts.examples[each.value]) for each in refused],
        kept=[(kind, count, counts.examples[f"kind {kind}"]) for kind, count in counts.kinds.most_common()],
        limit=EXAMPLES_SHOWN, shown=_shown,
    )  # fmt: skip


def _shown(value: str) -> str:
    """Shorten an untrusted text, and remove invisible characters from it."""
    return strip_invisible(value if len(value) <= MAX_CHARACTERS else f"{value[:MAX_CHARACTERS]} ...")
