"""Captions into triples: caption, instruction, edited caption; by rules or by a language model, checked alike."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ip2p.config import Triples
from ip2p.records import Caption, Reason, Triple, content_id


class Draft(NamedTuple):
    """What a writer makes of a caption: an edit; or, with a reason, none."""

    instruction: str = ""
    edited_caption: str = ""
    kind: str = "other"
    reason: Reason = Reason.OK


@runtime_checkable
class Writer(Protocol):
    """Writes edits for captions."""

    name: str

    def write(self, captions: Sequence[Caption], count: int) -> list[list[Draft]]:
        """For each caption at least one draft and at most `count`, all different."""
        ...


def write_triples(captions: Sequence[Caption], writer: Writer, settings: Triples, *, known: set[str]) -> list[Triple]:
    """Triples of captions, in order; each caption leaves at least one row, refused or not.

    Args:
        captions: of one shard.
        writer: of instructions and edited captions.
        settings: how many for each caption, and how long they may be.
        known: ids of captions in earlier shards: a repetition is refused. Grows by those of this shard.
    """
    faults = [_fault(caption, settings, known) for caption in captions]
    sound = [caption for caption, fault in zip(captions, faults, strict=True) if fault is Reason.OK]
    written = iter(writer.write(sound, settings.per_caption))
    rows = []
    for caption, fault in zip(captions, faults, strict=True):
        drafts = next(written) if fault is Reason.OK else [Draft(reason=fault)]
        seen: set[str] = set()
        for draft in drafts:
            rows.append(_triple(caption, draft, writer.name, settings, seen))
    return rows


def _fault(caption: Caption, settings: Triples, known: set[str]) -> Reason:
    """Why a caption is not worth a writer's time."""
    if not caption.text:
        return Reason.EMPTY
    if caption.id in known:
        return Reason.DUPLICATE
    known.add(caption.id)
    return Reason.TOO_LONG if len(caption.text.split()) > settings.max_words else Reason.OK


def _triple(caption: Caption, draft: Draft, writer: str, settings: Triples, seen: set[str]) -> Triple:
    """The row of a draft; `seen` are the ids of this caption's other drafts."""
    instruction, edited = " ".join(draft.instruction.split()), " ".join(draft.edited_caption.split())
    identity = content_id(caption.text, instruction, edited)
    reason = draft.reason
    if reason is Reason.OK and not (instruction and edited):
        reason = Reason.EMPTY
    elif reason is Reason.OK and _plain(edited) == _plain(caption.text):
        reason = Reason.UNCHANGED
    elif reason is Reason.OK and max(len(instruction.split()), len(edited.split())) > settings.max_words:
        reason = Reason.TOO_LONG
    elif reason is Reason.OK and identity in seen:
        reason = Reason.DUPLICATE
    seen.add(identity)
    return Triple(
        id=identity,
        caption_id=caption.id,
        caption=caption.text,
        instruction=instruction,
        edited_caption=edited,
        kind=draft.kind,
        writer=writer,
        status="ok" if reason is Reason.OK else "refused",
        reason=reason,
    )


def _plain(text: str) -> str:
    """A text without what makes no difference to a picture: case, spaces, closing marks."""
    return " ".join(text.lower().split()).strip(" .!?")
