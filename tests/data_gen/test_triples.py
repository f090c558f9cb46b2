"""Triples: checks that hold for every writer."""

from collections.abc import Sequence

from ip2p.config import Triples
from ip2p.data_gen.triples import Draft, write_triples
from ip2p.records import Caption, Reason, content_id


class Fixed:
    """Gives the drafts that it was told."""

    name = "fixed"

    def __init__(self, *drafts: Draft) -> None:
        self.drafts = list(drafts)
        self.asked: list[str] = []

    def write(self, captions: Sequence[Caption], count: int) -> list[list[Draft]]:
        """The same for all."""
        self.asked += [caption.text for caption in captions]
        return [self.drafts for _ in captions]


NIGHT = Draft("make it night", "a barn at night", "time")


def captions(*texts: str) -> list[Caption]:
    """Rows of texts."""
    return [Caption(id=content_id(text), text=text, source="test") for text in texts]


def reasons(texts: Sequence[str], *drafts: Draft, max_words: int = 9, known: set[str] | None = None) -> list[Reason]:
    """Why each row is refused."""
    rows = write_triples(captions(*texts), Fixed(*drafts), Triples(max_words=max_words), known=known or set())
    assert all((row.status == "ok") == (row.reason is Reason.OK) for row in rows)
    return [row.reason for row in rows]


def test_a_triple_says_all() -> None:
    (row,) = write_triples(captions("a barn"), Fixed(NIGHT), Triples(), known=set())
    assert (row.caption, row.instruction, row.edited_caption) == ("a barn", "make it night", "a barn at night")
    assert (row.kind, row.writer, row.status) == ("time", "fixed", "ok")
    assert row.caption_id == content_id("a barn")
    assert row.id == content_id("a barn", "make it night", "a barn at night")


def test_every_caption_leaves_a_row_and_no_bad_one_is_written_for() -> None:
    writer, known = Fixed(NIGHT), {content_id("earlier")}
    texts = ["", "a barn", "a barn", "earlier", "one two three four five six seven eight nine ten"]
    rows = write_triples(captions(*texts), writer, Triples(max_words=9), known=known)
    assert [row.reason.value for row in rows] == ["empty", "", "duplicate", "duplicate", "too_long"]
    assert writer.asked == ["a barn"]


def test_bad_drafts_are_refused_with_a_reason() -> None:
    assert reasons(["a barn"], Draft("", "a barn at night")) == [Reason.EMPTY]
    assert reasons(["a barn"], Draft("make it night", " \n")) == [Reason.EMPTY]
    assert reasons(["a barn"], Draft("make it night", "A  barn.")) == [Reason.UNCHANGED]
    assert reasons(["a barn"], Draft("make it night", "at night " * 9)) == [Reason.TOO_LONG]
    assert reasons(["a barn"], NIGHT, NIGHT) == [Reason.OK, Reason.DUPLICATE]
    assert reasons(["a barn"], Draft(reason=Reason.NO_RULE)) == [Reason.NO_RULE]
    assert reasons(["a barn"], Draft("x\ny", "a barn\x00 at night")) == [Reason.OK]
