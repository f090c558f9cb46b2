"""Finished triples in place of a writer: they are checked, and drawn, as if they had just been written."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ip2p.data_gen.triples.proposals import Message, Proposal
from ip2p.data_gen.writers.files import read_triple_file
from ip2p.records import Caption, Reason


class FinishedWriter:
    """Gives the triples of a file, all of a caption whatever number is asked for.

    Args:
        path: JSONL file, see `read_triple_file`.

    Raises:
        DataError: the file is missing or not as it should be.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._edits: defaultdict[str, list[Proposal]] = defaultdict(list)
        for each in read_triple_file(path):
            self._edits[each.caption].append(
                Proposal(each.instruction, each.edited_caption, each.kind, inverse=each.inverse)
            )

    def prepare(self, captions: Sequence[Caption], count: int) -> None:
        """Do nothing."""

    def write(self, captions: Sequence[Caption], count: int) -> list[list[Proposal]]:
        """Return all edits of each caption; one refused proposal for a caption that the file does not have."""
        return [self._edits.get(caption.text) or [Proposal(reason=Reason.NO_RULE)] for caption in captions]

    def conversation(self, caption: Caption, count: int) -> tuple[list[Message], str]:
        """Return nothing, since a file is not asked."""
        return [], ""

    def close(self) -> None:
        """Do nothing."""
