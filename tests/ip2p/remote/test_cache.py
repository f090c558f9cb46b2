"""Answers of one build in another: none is paid for twice."""

from pathlib import Path
from typing import Any

import pytest
from llm_server import Server

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.writers import open_writer
from ip2p.data_gen.writers.api.writer import ApiWriter
from ip2p.errors import ConfigError
from ip2p.records import Caption, Reason, content_id
from ip2p.remote.ledger import LEDGER_FILE


def writer(server: Server, folder: Path, says: list[str] | None = None, **settings: Any) -> ApiWriter:
    """Open a writer for the server."""
    chosen = TriplesConfig.model_validate({"writer": "openai", "base_url": server.url, **settings})
    opened = open_writer(chosen, folder, seed=0, say=(says if says is not None else []).append)
    assert isinstance(opened, ApiWriter)
    return opened


def barns(count: int) -> list[Caption]:
    """Make different captions."""
    texts = [f"a red barn, number {number}, by a lake" for number in range(count)]
    return [Caption(id=content_id(text), text=text, source="test") for text in texts]


def reasons(server: Server, folder: Path, rows: list[Caption], **settings: Any) -> list[Reason]:
    """Return the reason of each caption without an edit."""
    with_answers = writer(server, folder, **settings)
    try:
        with_answers.prepare(rows, 1)
        return [few[0].reason for few in with_answers.write(rows, 1)]
    finally:
        with_answers.close()


@pytest.mark.parametrize("kind", ["openai", "openai-batch"])
def test_paid_answers_are_taken_over_by_any_build_that_asks_the_same(server: Server, tmp_path: Path, kind: str) -> None:
    first, says = writer(server, tmp_path / "first", model="m", price_in=10.0, price_out=40.0), list[str]()
    first.prepare(barns(20), 1)  # and is still writing: the cache needs no lock
    asked, paid = len(server.requests), (tmp_path / "first" / LEDGER_FILE).read_bytes()
    other = {"model": "m", "writer": kind, "base_url": server.url.replace("127.0.0.1", "localhost"), "max_usd": 0.001}
    price = {"price_in": 10.0, "price_out": 40.0, "checks": {"max_words": 30}}
    for place in (tmp_path / "first", tmp_path / "first" / LEDGER_FILE):
        folder = tmp_path / place.name.replace(".", "_") / "second"
        second = writer(server, folder, says, cache=str(place), **other, **price)
        second.prepare(barns(20), 1)
        assert second.write(barns(20), 1) == first.write(barns(20), 1)
        assert len(server.requests) == asked and second.ledger.spent.usd == 0
        second.close()
    assert [line for line in says if "taken over" in line] == [
        f"20 answers are taken over from {place}, and cost nothing again"
        for place in (tmp_path / "first", tmp_path / "first" / LEDGER_FILE)
    ]
    first.close()
    assert (tmp_path / "first" / LEDGER_FILE).read_bytes() == paid


def test_appended_captions_alone_are_asked_for_beside_a_cache(server: Server, tmp_path: Path) -> None:
    assert reasons(server, tmp_path / "first", barns(10), model="m") == [Reason.OK] * 10
    torn = tmp_path / "first" / LEDGER_FILE
    torn.write_bytes(torn.read_bytes() + b'{"key": "torn')
    server.requests.clear()
    more = {"model": "m", "cache": str(tmp_path / "first")}
    assert reasons(server, tmp_path / "second", barns(13), **more) == [Reason.OK] * 13
    assert len(server.requests) == 3
    server.requests.clear()
    torn.unlink()  # what was taken over is here now
    assert reasons(server, tmp_path / "second", barns(13), model="m") == [Reason.OK] * 13
    assert not server.requests


def test_a_cache_that_is_none_is_told(server: Server, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ConfigError, match=r"no answers in triples\.cache=.*Give the folder of a build"):
            reasons(server, tmp_path / "new", barns(1), model="m", cache=str(place))
