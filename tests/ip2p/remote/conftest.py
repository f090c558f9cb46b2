"""Asks a local server about captions, as a run does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llm_server import Server

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.writers.api.writer import ApiWriter
from ip2p.records import Caption, Reason, content_id


def barns(count: int) -> list[Caption]:
    """Make different captions."""
    texts = [f"a red barn, number {number}, by a lake" for number in range(count)]
    return [Caption(id=content_id(text), text=text, source="test") for text in texts]


@pytest.fixture
def open_writer(server: Server) -> Callable[..., ApiWriter]:
    """A function that opens a writer for the server: open_writer(folder, say=print, parallel=3)."""

    def opened(folder: Path, say: Callable[[str], None] = lambda _: None, **settings: Any) -> ApiWriter:
        chosen = TriplesConfig.model_validate({"writer": "openai", "base_url": server.url, "parallel": 4, **settings})
        return ApiWriter(chosen, folder, seed=0, say=say)

    return opened


@pytest.fixture
def ask(open_writer: Callable[..., ApiWriter]) -> Callable[..., list[Reason]]:
    """A function that asks about barns with two examples, and returns the reason of each: ask(folder, 20)."""

    def asked(folder: Path, count: int = 1, says: list[str] | None = None, **settings: Any) -> list[Reason]:
        asks = open_writer(folder, (says if says is not None else []).append, **{"shots": 2, **settings})
        try:
            asks.prepare(barns(count), 1)
            return [few[0].reason for few in asks.write(barns(count), 1)]
        finally:
            asks.close()

    return asked


@pytest.fixture
def keys(open_writer: Callable[..., ApiWriter], tmp_path: Path) -> list[str]:
    """The keys of the questions about four barns."""
    asks = open_writer(tmp_path / "keys")
    asks.close()
    return [asks.question(caption, 1).key for caption in barns(4)]
