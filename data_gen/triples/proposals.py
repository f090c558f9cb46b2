"""What writers give: proposals of edits, before anybody has checked them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ip2p.records import Caption, Reason

Message = dict[str, str]
"""A turn of a conversation: "role" and "content"."""


def strip_invisible(text: str) -> str:
    """A text of a model or a file without signs that nobody sees: those that move a cursor or turn the direction."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


class Proposal(NamedTuple):
    """What a writer makes of a caption: an edit; or, with a reason, none.

    inverse: the instruction that leads back, or "" where none was asked for.
    """

    instruction: str = ""
    edited_caption: str = ""
    kind: str = "other"
    reason: Reason = Reason.OK
    inverse: str = ""


@runtime_checkable
class Writer(Protocol):
    """Writes edits for captions."""

    name: str

    def prepare(self, captions: Sequence[Caption], count: int) -> None:
        """Do in any order and many at a time what `write` needs for these captions. Safe to kill: it goes on."""
        ...

    def write(self, captions: Sequence[Caption], count: int) -> list[list[Proposal]]:
        """For each caption at least one proposal and at most `count`, all different."""
        ...

    def conversation(self, caption: Caption, count: int) -> tuple[list[Message], str]:
        """What is asked for a caption, and what was answered; nothing for a writer that asks nobody."""
        ...

    def close(self) -> None:
        """Let go of files and models; nothing is written after that."""
        ...
