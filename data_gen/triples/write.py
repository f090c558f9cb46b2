"""Write triples of caption, instruction and edited caption, by rules or a language model, and check them."""

from collections.abc import Callable, Sequence

from ip2p.data_gen.config import ChecksConfig, TriplesConfig
from ip2p.data_gen.kinds import inverse_kind
from ip2p.data_gen.triples.checks import TripleSet, find_fault, find_text_fault, normalise
from ip2p.data_gen.triples.proposals import Proposal, Writer, spell_out
from ip2p.data_gen.triples.tokens import estimate_tokens
from ip2p.records import Caption, Reason, Triple, content_id
from ip2p.remote.reply_text import strip_invisible

MAX_CHARACTERS = 2000
"""Number of characters of a model's text that are read; longer texts are refused anyway."""
TRIES = 2
"""Edits that are asked for at each later turn of a chain, of which the first that passes continues it."""


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
    captions: Sequence[Caption],
    writer: Writer,
    settings: TriplesConfig,
    *,
    seen: EarlierShards,
    count_tokens: Callable[[str], int] = estimate_tokens,
) -> list[Triple]:
    """Write and check the triples of captions, in order; each caption has at least one row, refused or not.

    With `settings.turns`, each kept triple begins a chain, whose later rows stand after it.

    Args:
        captions: captions of one shard.
        writer: writer of instructions and edited captions.
        settings: number of triples for each caption, and their checks.
        seen: captions and triples of earlier shards; those of this shard are added.
        count_tokens: function that counts tokens of the text encoder, including start and end.

    Raises:
        WriterError: the writer cannot continue a chain.
    """
    reasons = [_find_caption_fault(caption, settings.checks, seen) for caption in captions]
    sound = [caption for caption, reason in zip(captions, reasons, strict=True) if reason is Reason.OK]
    written = iter(writer.write(sound, settings.per_caption))
    checker = _Checker(writer.name, settings, seen, count_tokens)
    chains = []
    for caption, reason in zip(captions, reasons, strict=True):
        for proposal in next(written) if reason is Reason.OK else [Proposal(reason=reason)]:
            chains.append(_Chain(caption, checker, proposal))
    for _ in range(1, settings.turns):
        _continue([chain for chain in chains if chain.is_open], writer)
    return [row for chain in chains for row in chain.rows]


def _find_caption_fault(caption: Caption, checks: ChecksConfig, seen: EarlierShards) -> Reason:
    """Return the reason to refuse a caption before it is written about, or Reason.OK."""
    if not caption.text:
        return Reason.EMPTY
    if caption.id in seen.captions:
        return Reason.DUPLICATE
    seen.captions.add(caption.id)
    return Reason.TOO_LONG if len(caption.text.split()) > checks.max_words else Reason.OK


class _Checker:
    """Checks proposals, and makes their rows.

    Args:
        writer: name of the writer.
        settings: checks, and what is written besides the instruction.
        seen: earlier captions and triples; triples are added if they are kept.
        count_tokens: function that counts tokens.
    """

    def __init__(
        self, writer: str, settings: TriplesConfig, seen: EarlierShards, count_tokens: Callable[[str], int]
    ) -> None:
        self.writer, self.settings, self.seen, self.count_tokens = writer, settings, seen, count_tokens

    def check(self, text: str, proposal: Proposal, origin: Caption, *, reason: Reason = Reason.OK) -> Triple:
        """Check a proposal, and make its row.

        Args:
            text: caption before the edit.
            proposal: proposed edit.
            origin: caption of the build from which the proposal comes.
            reason: reason to refuse it that is known before.
        """
        checks, triples = self.settings.checks, self.seen.triples
        proposal = proposal._replace(
            instruction=_tidy(proposal.instruction), edited_caption=_tidy(proposal.edited_caption)
        )
        reason = reason or proposal.reason or find_fault(text, proposal, checks, count_tokens=self.count_tokens)
        reason = reason or triples.fault(text, proposal)
        if reason is Reason.OK:
            triples.add(text, proposal)
        return Triple(
            id=content_id(text, proposal.instruction, proposal.edited_caption),
            caption_id=origin.id,
            caption=text,
            instruction=proposal.instruction,
            edited_caption=proposal.edited_caption,
            kind=proposal.kind,
            writer=self.writer,
            status="ok" if reason is Reason.OK else "refused",
            reason=reason,
            long_instruction=self._long_form(proposal) if self.settings.long_form and not reason else "",
            inverse=_tidy(proposal.inverse) if self.settings.stores_inverse and not reason else "",
        )

    def _long_form(self, proposal: Proposal) -> str:
        """Return the long form that the writer wrote, or one made of the edit if that is none or faulty."""
        written, limits = _tidy(proposal.long_instruction), self.settings.checks
        usable = len(written) > len(proposal.instruction) and not find_text_fault(
            written, limits, count_tokens=self.count_tokens
        )
        return written if usable else spell_out(proposal.instruction, proposal.edited_caption)


class _Chain:
    """A triple and those that continue it, with the inverse of each that has one.

    Args:
        origin: caption of the build.
        checker: what checks proposals.
        proposal: first edit.

    Attributes:
        rows: all rows, refused ones too, in order.
        is_open: whether the last edit was kept, so that another may follow.
        text: caption that the next edit starts from.
    """

    def __init__(self, origin: Caption, checker: _Checker, proposal: Proposal) -> None:
        self.origin, self.checker, self.rows = origin, checker, list[Triple]()
        self.text, self._turn, self._id = origin.text, 0, ""
        self._captions = {normalise(origin.text)}
        self.is_open = self.extend([proposal])

    def extend(self, proposals: Sequence[Proposal]) -> bool:
        """Add the first proposal that passes, and the refused ones before it; returns whether there is one."""
        self._turn += 1
        text = self.text
        for proposal in proposals:
            returns = self._turn > 1 and normalise(proposal.edited_caption) in self._captions
            row = self.checker.check(text, proposal, self.origin, reason=Reason.DUPLICATE if returns else Reason.OK)
            self._append(row)
            if row.status == "ok":
                self.text = row.edited_caption
                self._captions.add(normalise(row.edited_caption))
                if self.checker.settings.inverse and proposal.inverse:
                    back = Proposal(proposal.inverse, text, inverse_kind(proposal.kind), inverse=proposal.instruction)
                    self.rows.append(self.checker.check(row.edited_caption, back, self.origin))
                return True
        return False

    def _append(self, row: Triple) -> None:
        self._id = self._id or row.id
        linked = self.checker.settings.turns > 1
        self.rows.append(row.model_copy(update={"chain": self._id, "turn": self._turn}) if linked else row)


def _continue(chains: Sequence[_Chain], writer: Writer) -> None:
    """Add one turn to each chain, or end it."""
    captions = [Caption(id=content_id(each.text), text=each.text, source=each.origin.source) for each in chains]
    writer.prepare(captions, TRIES)
    for chain, proposals in zip(chains, writer.write(captions, TRIES), strict=True):
        chain.is_open = chain.extend(proposals)


def _tidy(text: str) -> str:
    """Shorten a model's text, and put it in one line without invisible characters."""
    return " ".join(strip_invisible(text[:MAX_CHARACTERS]).split())
