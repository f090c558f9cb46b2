"""The batch writer with the real client, against a local server with files and batches."""

import json
from pathlib import Path
from typing import Any

import pytest
from llm_server import Server, ServerReply, answer_by_rules, completion, failure

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.writers.api import batch_writer
from ip2p.data_gen.writers.api.batch_writer import BatchWriter
from ip2p.errors import WriterError
from ip2p.records import Caption, Reason, content_id
from ip2p.remote.ledger import LEDGER_FILE, Ledger

ROWS = [
    Caption(id=content_id(text), text=text, source="test")
    for text in (f"a red barn, number {number}, by a lake" for number in range(12))
]
PRICE: dict[str, Any] = {"price_in": 10.0, "price_out": 40.0}


def writer(server: Server, folder: Path, **settings: Any) -> BatchWriter:
    """Open a writer for the server."""
    chosen = TriplesConfig.model_validate({"writer": "openai-batch", "base_url": server.url, **PRICE, **settings})
    return BatchWriter(chosen, folder, seed=0, say=lambda line: None)


def reasons(server: Server, folder: Path, **settings: Any) -> list[Reason]:
    """Return the reason of each caption without an edit."""
    asks = writer(server, folder, **settings)
    try:
        asks.prepare(ROWS, 1)
        return [few[0].reason for few in asks.write(ROWS, 1)]
    finally:
        asks.close()


def test_answers_come_back_in_any_order_and_are_joined(server: Server, tmp_path: Path) -> None:
    asks = writer(server, tmp_path)
    asks.prepare(ROWS, 1)
    proposals = asks.write(ROWS, 1)
    assert all(row.text.split(",")[1] in few[0].edited_caption for row, few in zip(ROWS, proposals, strict=True))
    assert len(server.batches) == 1 and len(server.requests) == len(ROWS)
    billed = [json.loads(answer_by_rules(request).body)["usage"] for request in server.requests]
    usd = sum(10 * each["prompt_tokens"] + 40 * each["completion_tokens"] for each in billed) / 1e6
    assert asks.ledger.spent.usd == pytest.approx(usd)


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
def test_what_is_missing_goes_into_the_next_batch(server: Server, tmp_path: Path, status: str) -> None:
    server.batch_share, server.batch_status = 0.5, status
    with pytest.raises(WriterError, match="1 of 12 captions got no answer .* in 5 batches"):
        reasons(server, tmp_path)
    sizes = [len(each["questions"].strip().split("\n")) for each in server.batches.values()]
    assert sizes == [12, 6, 3, 1, 1]
    assert reasons(server, tmp_path, skip_unanswered=True) == [Reason.OK] * 11 + [Reason.WRITER_ERROR]
    server.batch_share = 1.0
    assert reasons(server, tmp_path) == [Reason.OK] * 12, "the same command asks again"


@pytest.mark.parametrize("moment", ["before it began", "before it was noted", "while it ran"])
def test_a_killed_run_finds_its_batch_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    where = {"before it began": (BatchWriter, "_create"), "before it was noted": (Ledger, "note")}
    owner, name = where.get(moment, (BatchWriter, "_wait"))
    real = getattr(owner, name)

    def killed(*arguments: Any) -> Any:
        if name != "note" or (arguments[1] == batch_writer.NOTE and arguments[2]["id"]):
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            reasons(server, tmp_path)
    assert reasons(server, tmp_path) == [Reason.OK] * len(ROWS)
    assert len(server.batches) == 1 and len(server.requests) == len(ROWS)
    with Ledger(tmp_path / LEDGER_FILE) as ledger:
        assert ledger.requests == 1 and ledger.notes[batch_writer.NOTE] is None


def test_a_batch_is_no_larger_than_the_budget(server: Server, tmp_path: Path) -> None:
    most = writer(server, tmp_path / "probe").question(ROWS[0], 1).most.usd
    limit = 3.5 * most
    with pytest.raises(WriterError, match="budget"):
        reasons(server, tmp_path / "run", max_usd=limit)
    first, *others = [len(each["questions"].strip().split("\n")) for each in server.batches.values()]
    assert first == 3 and others and sum([first, *others]) < len(ROWS)
    with Ledger(tmp_path / "run" / LEDGER_FILE) as ledger:
        assert 0 < ledger.spent.usd <= limit
    assert reasons(server, tmp_path / "run") == [Reason.OK] * len(ROWS)


def test_a_refused_batch_is_told(server: Server, tmp_path: Path) -> None:
    server.batch_status, server.batch_share = "failed", 0.0
    with pytest.raises(WriterError, match="refuses the batch.*goes on from here"):
        reasons(server, tmp_path)
    with Ledger(tmp_path / LEDGER_FILE) as ledger:
        assert ledger.spent.usd == 0.0, "nothing was answered, so nothing is billed"


def test_a_question_that_the_server_refuses_is_refused_alone(server: Server, tmp_path: Path) -> None:
    server.script = lambda request: failure(400, "no") if "number 3," in str(request) else answer_by_rules(request)
    found = reasons(server, tmp_path)
    assert found[3] is Reason.WRITER_ERROR and found.count(Reason.OK) == len(ROWS) - 1


def test_what_a_batch_is_refused_for_is_left_out_of_the_next(server: Server, tmp_path: Path) -> None:
    def picky(request: dict[str, Any]) -> ServerReply:
        for name in ("max_tokens", "temperature"):
            if name in request:
                return failure(400, f"Unsupported parameter: '{name}' is not supported with this model.")
        if request["max_completion_tokens"] < 4000:
            return completion("", finish="length", reasoning=request["max_completion_tokens"])
        return answer_by_rules(request)

    server.script = picky
    found = reasons(server, tmp_path, reasoning_effort="low", extra_body={"top_k": 3})
    assert found == [Reason.OK] * len(ROWS)
    assert server.requests[-1]["max_completion_tokens"] == 200 + 4096 and server.requests[-1]["seed"] == 0
    assert server.requests[-1]["reasoning_effort"] == "low" and server.requests[-1]["top_k"] == 3
    before = len(server.requests)
    assert reasons(server, tmp_path / "other") == [Reason.OK] * len(ROWS) and len(server.requests) > before + len(ROWS)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (completion("I would rather write prose."), "no edit for any of 12 captions; a raw reply: .*write prose"),
        (failure(402, "Insufficient Balance"), "no money left"),
        (failure(400, "no such thing"), "a raw reply: .*no such thing"),
    ],
)  # fmt: skip
def test_a_batch_without_any_answer_refuses_nothing(
    server: Server, tmp_path: Path, reply: ServerReply, message: str
) -> None:
    server.script = lambda request: reply
    with pytest.raises(WriterError, match=message):
        reasons(server, tmp_path)
    assert len(server.batches) == 1
    server.script = answer_by_rules
    assert reasons(server, tmp_path) == [Reason.OK] * len(ROWS)
