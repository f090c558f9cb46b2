"""Triples: checks that hold for every writer."""

from collections.abc import Sequence

from ip2p.data_gen.config import ChecksConfig, TriplesConfig
from ip2p.data_gen.triples.proposals import Message, Proposal
from ip2p.data_gen.triples.write import EarlierShards, write_triples
from ip2p.records import Caption, Reason, content_id


class Fixed:
    """Returns fixed proposals."""

    name = "fixed"

    def __init__(self, *proposals: Proposal) -> None:
        self.proposals = list(proposals)
        self.asked: list[str] = []

    def prepare(self, captions: Sequence[Caption], count: int) -> None:
        """Do nothing."""

    def conversation(self, caption: Caption, count: int) -> tuple[list[Message], str]:
        """Return nothing."""
        return [], ""

    def close(self) -> None:
        """Do nothing."""

    def write(self, captions: Sequence[Caption], count: int) -> list[list[Proposal]]:
        """Return the same proposals for all captions."""
        self.asked += [caption.text for caption in captions]
        return [self.proposals for _ in captions]


NIGHT = Proposal("make it night", "a barn at night", "time")


def captions(*texts: str) -> list[Caption]:
    """Make captions from texts."""
    return [Caption(id=content_id(text), text=text, source="test") for text in texts]


SHORT = TriplesConfig(checks=ChecksConfig(max_words=9))


def reasons(texts: Sequence[str], *proposals: Proposal) -> list[Reason]:
    """Return the reason of each refusal."""
    rows = write_triples(captions(*texts), Fixed(*proposals), SHORT, seen=EarlierShards(SHORT.checks))
    assert all((row.status == "ok") == (row.reason is Reason.OK) for row in rows)
    return [row.reason for row in rows]


def test_a_triple_says_all() -> None:
    (row,) = write_triples(captions("a barn"), Fixed(NIGHT), TriplesConfig(), seen=EarlierShards(ChecksConfig()))
    assert (row.caption, row.instruction, row.edited_caption) == ("a barn", "make it night", "a barn at night")
    assert (row.kind, row.writer, row.status) == ("time", "fixed", "ok")
    assert row.caption_id == content_id("a barn")
    assert row.id == content_id("a barn", "make it night", "a barn at night")


def test_every_caption_leaves_a_row_and_no_bad_one_is_written_for() -> None:
    writer, seen = Fixed(NIGHT), EarlierShards(SHORT.checks)
    seen.remember(captions("earlier"), [])
    texts = ["", "a barn", "a barn", "earlier", "one two three four five six seven eight nine ten"]
    rows = write_triples(captions(*texts), writer, SHORT, seen=seen)
    assert [row.reason.value for row in rows] == ["empty", "", "duplicate", "duplicate", "too_long"]
    assert writer.asked == ["a barn"]


def test_bad_drafts_are_refused_with_a_reason() -> None:
    assert reasons(["a barn"], Proposal("", "a barn at night")) == [Reason.EMPTY]
    assert reasons(["a barn"], Proposal("make it night", " \n")) == [Reason.EMPTY]
    assert reasons(["a barn"], Proposal("make it night", "A  barn.")) == [Reason.UNCHANGED]
    assert reasons(["a barn"], Proposal("make it night", "a barn " + "at night " * 9)) == [Reason.TOO_LONG]
    assert reasons(["a barn"], NIGHT, NIGHT) == [Reason.OK, Reason.DUPLICATE]
    assert reasons(["a barn"], Proposal(reason=Reason.NO_RULE)) == [Reason.NO_RULE]


def test_a_text_of_a_model_becomes_one_line_of_signs_that_are_seen() -> None:
    proposal = Proposal("make\nit \x1b[1mnight", "a barn\x00 at\u202e night", "time")
    (row,) = write_triples(captions("a barn"), Fixed(proposal), TriplesConfig(), seen=EarlierShards(ChecksConfig()))
    assert (row.instruction, row.edited_caption) == ("make it [1mnight", "a barn at night")


def test_the_way_back_is_a_triple_of_its_own() -> None:
    cow = Proposal("add a cow", "a barn and a cow", "add", inverse="remove the cow")
    there, back = write_triples(
        captions("a barn"), Fixed(cow), TriplesConfig(inverse=True), seen=EarlierShards(ChecksConfig())
    )
    assert (back.caption, back.instruction, back.edited_caption) == ("a barn and a cow", "remove the cow", "a barn")
    assert (back.kind, back.status, back.caption_id) == ("remove", "ok", there.caption_id)


def test_what_earlier_shards_kept_is_remembered() -> None:
    one, two = EarlierShards(ChecksConfig()), EarlierShards(ChecksConfig())
    first = write_triples(captions("a barn"), Fixed(NIGHT), TriplesConfig(), seen=one)
    two.remember(captions("a barn"), first)
    for seen in (one, two):
        rows = write_triples(captions("A barn", "a barn"), Fixed(NIGHT), TriplesConfig(), seen=seen)
        assert [row.reason for row in rows] == [Reason.DUPLICATE, Reason.DUPLICATE]
