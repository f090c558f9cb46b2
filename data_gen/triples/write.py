"""Captions into triples: caption, instruction, edited caption; by rules or by a language model, checked alike."""

from collections.abc import Sequence

from ip2p.data_gen.config import ChecksConfig, TriplesConfig
from ip2p.data_gen.triples.checks import TripleSet, find_fault
from ip2p.data_gen.triples.proposals import Proposal, Writer, strip_invisible
from ip2p.records import Caption, Reason, Triple, content_id

MAX_CHARACTERS = 2000
"""Signs of a model's text that are looked at; what is longer is refused anyway."""

INVERSE_KINDS = {"add": "remove", "remove": "add"}
"""Kinds of the edits that lead back, where they are others."""


class EarlierShards:
    """What came before, over the whole set: captions, and the triples that were kept.

    Args:
        checks: that triples have to hold to.
    """

    def __init__(self, checks: ChecksConfig) -> None:
        self.captions: set[str] = set()
        self.triples = TripleSet(checks)

    def remember(self, captions: Sequence[Caption], triples: Sequence[Triple]) -> None:
        """Take in a shard that an earlier run wrote."""
        self.captions.update(caption.id for caption in captions)
        for row in triples:
            if row.status == "ok":
                self.triples.add(row.caption, Proposal(row.instruction, row.edited_caption, row.kind))


def write_triples(
    captions: Sequence[Caption], writer: Writer, settings: TriplesConfig, *, seen: EarlierShards
) -> list[Triple]:
    """Triples of captions, in order; each caption leaves at least one row, refused or not.

    Args:
        captions: captions of one shard.
        writer: writes instructions and edited captions.
        settings: how many for each caption, and the checks that they have to pass.
        seen: what earlier shards had. Grows by what this one has.
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
    """Why a caption is not worth a writer's time."""
    if not caption.text:
        return Reason.EMPTY
    if caption.id in seen.captions:
        return Reason.DUPLICATE
    seen.captions.add(caption.id)
    return Reason.TOO_LONG if len(caption.text.split()) > checks.max_words else Reason.OK


def _check(
    text: str, proposal: Proposal, origin: Caption, writer: str, checks: ChecksConfig, seen: EarlierShards
) -> Triple:
    """The row of a proposal for a caption of this text, and why it is refused if it is.

    Args:
        text: the caption.
        proposal: a proposed edit.
        origin: that all of this was written for.
        writer: name of the writer.
        checks: checks to satisfy.
        seen: what came before; the triple is added if it is kept.
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
    """A text of a model in one line, without signs that nobody sees, and of bounded length."""
    return " ".join(strip_invisible(text[:MAX_CHARACTERS]).split())
