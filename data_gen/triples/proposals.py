"""The interface of writers, and the unchecked proposals of edits that they return."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ip2p.data_gen.kinds import OTHER
from ip2p.records import Caption, Reason

Message = dict[str, str]
"""A message of a conversation: "role" and "content"."""


def spell_out(instruction: str, edited_caption: str) -> str:
    """Return a long form of an instruction, which also says what stays, for writers that have none."""
    text = instruction.strip()
    mark = "" if text.endswith((".", "!", "?")) else "."
    shown = edited_caption.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}{mark} Leave everything else as it is: afterwards the picture shows {shown}."


class Proposal(NamedTuple):
    """A proposed edit of a caption; or, with a reason, the refusal of the caption.

    Attributes:
        instruction: instruction of the edit.
        edited_caption: caption after the edit.
        kind: kind of edit, see `ip2p.data_gen.kinds`.
        reason: reason why there is no edit; Reason.OK if there is one.
        inverse: instruction of the inverse edit; "" if none was requested.
        long_instruction: instruction in full sentences; "" if the writer has none.
    """

    instruction: str = ""
    edited_caption: str = ""
    kind: str = OTHER
    reason: Reason = Reason.OK
    inverse: str = ""
    long_instruction: str = ""


@runtime_checkable
class Writer(Protocol):
    """Writes edits for captions."""

    name: str

    def prepare(self, captions: Sequence[Caption], count: int) -> None:
        """Prepare what `write` needs for these captions, such as answers of a server; resumes after a kill."""
        ...

    def write(self, captions: Sequence[Caption], count: int) -> list[list[Proposal]]:
        """Return at least one proposal and at most `count` different ones for each caption."""
        ...

    def conversation(self, caption: Caption, count: int) -> tuple[list[Message], str]:
        """Return the messages sent for a caption, and the answer; both empty for a writer without a language model."""
        ...

    def close(self) -> None:
        """Release files and models; nothing can be written after that."""
        ...
