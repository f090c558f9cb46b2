"""Write triples of caption, instruction and edited caption, by rules or a language model, and check them."""

from collections.abc import Sequence

from ip2p.data_gen.config import ChecksConfig, TriplesConfig
from ip2p.data_gen.triples.checks import TripleSet, find_fault
from ip2p.data_gen.triples.proposals import Proposal, Writer, strip_invisible
from ip2p.records import Caption, Reason, Triple, content_id

MAX_CHARACTERS = 2000
"""Number of characters of a model's text that are read; longer texts are refused anyway."""

INVERSE_KINDS = {"add": "remove", "remove": "add"}
"""Kinds of inverse edits that differ from those of their edits."""


class EarlierShards:
    """Captions and kept triples of all earlier shards.

    Args:
        checks: checks of the triples.
    """

    def __init__(self, checks: ChecksConfig) -> None:
        self.captions: set[str] = set()
        self.triples = TripleSet(checks)

    def remember(self, captions: Sequence[Caption], triples: Sequence[Triple]) -> None:
        """Add a shard that an earlier run wrote."""
        self.captions.update(caption.id for caption in captions)
        for row in triples:
            if row.status == "ok":
                self.triples.add(row.caption, Proposal(row.instruction, row.edited_caption, row.kind))


def write_triples(
    captions: Sequence[Caption], writer: Writer, settings: TriplesConfig, *, seen: EarlierShards
) -> list[Triple]:
    """Write and check the triples of captions, in order; each caption has at least one row, refused or not.

    Args:
        captions: captions of one shard.
        writer: writer of instructions and edited captions.
        settings: number of triples for each caption, and their checks.
        seen: captions and triples of earlier shards; those of this shard are added.
    """
    reasons = [_find_caption_fault(caption, settings.checks, seen) for caption in captions]
    sound = [caption for caption, reason in zip(captions, reasons, strict=True) if reason is Reason.OK]
    written = iter(writer.write(sound, settings.per_caption))
    rows = []
    for caption, reason in zip(captions, reasons, strict=True):
        for proposal in next(written) if reason is Reason.OK else [Proposal(reason=reason)]:
            rows.append(_check(caption.text, proposal, caption, writer.name, settings.checks, seen))
            if settings.inverse and proposal.inverse and rows[-1].status == "ok":
                back = Proposal(proposal.inverse, caption.text, INVERSE_KINDS.get(proposal.kind, proposal.kind))
                rows.append(_check(rows[-1].edited_caption, back, caption, writer.name, settings.checks, seen))
    return rows


def _find_caption_fault(caption: Caption, checks: ChecksConfig, seen: EarlierShards) -> Reason:
    """Return the reason to refuse a caption before it is written about, or Reason.OK."""
    if not caption.text:
        return Reason.EMPTY
    if caption.id in seen.captions:
        return Reason.DUPLICATE
    seen.captions.add(caption.id)
    return Reason.TOO_LONG if len(caption.text.split()) > checks.max_words else Reason.OK


def _check(
    text: str, proposal: Proposal, origin: Caption, writer: str, checks: ChecksConfig, seen: EarlierShards
) -> Triple:
    """Check a proposal, and make its row.

    Args:
        text: caption before the edit.
        proposal: proposed edit.
        origin: caption of the build from which the proposal comes.
        writer: name of the writer.
        checks: checks of the triple.
        seen: earlier captions and triples; the triple is added if it is kept.
    """
    proposal = proposal._replace(instruction=_tidy(proposal.instruction), edited_caption=_tidy(proposal.edited_caption))
    reason = proposal.reason or find_fault(text, proposal, checks) or seen.triples.fault(text, proposal)
    if reason is Reason.OK:
        seen.triples.add(text, proposal)
    return Triple(
        id=content_id(text, proposal.instruction, proposal.edited_caption),
        caption_id=origin.id,
        caption=text,
        instruction=proposal.instruction,
        edited_caption=proposal.edited_caption,
        kind=proposal.kind,
        writer=writer,
        status="ok" if reason is Reason.OK else "refused",
        reason=reason,
    )


def _tidy(text: str) -> str:
    """Shorten a model's text, and put it in one line without invisible characters."""
    return " ".join(strip_invisible(text[:MAX_CHARACTERS]).split())
