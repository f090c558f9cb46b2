"""The API writer with the real client, against a local server that answers, fails, or drops connections."""

import json
import time
from pathlib import Path
from typing import Any

import llm_server
import pytest
from llm_server import (
    MODEL,
    Server,
    ServerReply,
    answer_by_rules,
    completion,
    failure,
    make_faulty_script,
    read_question,
)

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.writers.api.writer import ApiWriter
from ip2p.errors import ConfigError, DataError, WriterError
from ip2p.records import Caption, Reason, content_id
from ip2p.remote import rate_limit
from ip2p.remote.ledger import LEDGER_FILE, Ledger
from ip2p.remote.request_format import ReplyFormat

KEY = "sk-CANARY-0123456789"
EDIT = {"instruction": "make it night", "edited_caption": "a barn at night", "kind": "time"}
GOOD = completion(json.dumps({"edits": [EDIT]}))


def writer(server: Server, folder: Path, says: list[str] | None = None, **settings: Any) -> ApiWriter:
    """Open a writer for the server."""
    chosen = TriplesConfig.model_validate({"writer": "openai", "base_url": server.url, **settings})
    return ApiWriter(chosen, folder, seed=0, say=(says if says is not None else []).append)


def captions(*texts: str) -> list[Caption]:
    """Make captions from texts."""
    return [Caption(id=content_id(text), text=text, source="test") for text in texts]


def barns(count: int) -> list[Caption]:
    """Make different captions."""
    return captions(*(f"a red barn, number {number}, by a lake" for number in range(count)))


def reasons(server: Server, folder: Path, rows: list[Caption], **settings: Any) -> list[Reason]:
    """Return the reason of each caption without an edit."""
    with_answers = writer(server, folder, **settings)
    with_answers.prepare(rows, 1)
    proposals = with_answers.write(rows, 1)
    with_answers.close()
    return [few[0].reason for few in proposals]


def only(word: str, *replies: ServerReply) -> llm_server.Script:
    """Answer by rules, but answer captions with the word by these replies first, one after the other."""
    left = list(replies)

    def answer(request: dict[str, Any]) -> ServerReply:
        return left.pop(0) if left and word in read_question(request)["caption"] else answer_by_rules(request)

    return answer


def test_a_good_reply_becomes_edits(server: Server, tmp_path: Path) -> None:
    server.script = lambda _: GOOD
    asks = writer(server, tmp_path, shots=2)
    asks.prepare(captions("a barn"), 1)
    ((proposal,),) = asks.write(captions("a barn"), 1)
    assert (proposal.instruction, proposal.edited_caption, proposal.kind) == tuple(EDIT.values())
    (request,) = server.requests
    assert request["model"] == MODEL, "the server has one model, so nobody needs to name it"
    assert request["response_format"]["type"] == "json_schema" and request["response_format"]["json_schema"]["strict"]
    assert [turn["role"] for turn in request["messages"]] == ["system", *["user", "assistant"] * 2, "user"]
    assert read_question(request) == {"caption": "a barn", "count": 1}
    assert request["authorization"] == f"Bearer {KEY}"


def test_nothing_is_asked_twice(server: Server, tmp_path: Path) -> None:
    rows = barns(5)
    for _ in range(2):
        asks = writer(server, tmp_path)
        asks.prepare(rows, 1)
        first = asks.write(rows, 1)
        asks.close()
    assert len(server.requests) == 5 and len(first) == 5
    reasons(server, tmp_path, barns(7))
    assert len(server.requests) == 7


def test_replies_stand_in_the_order_of_the_captions_and_many_are_under_way(server: Server, tmp_path: Path) -> None:
    server.script = lambda request: completion(
        json.dumps({"edits": [EDIT | {"edited_caption": f"{read_question(request)['caption']} at night"}]})
    )._replace(delay=0.05)
    rows = barns(40)
    asks = writer(server, tmp_path, parallel=8)
    asks.prepare(rows, 1)
    assert [few[0].edited_caption for few in asks.write(rows, 1)] == [f"{row.text} at night" for row in rows]
    assert 4 <= server.most_in_flight <= 8


def test_examples_are_drawn_anew_and_of_different_kinds(server: Server, tmp_path: Path) -> None:
    reasons(server, tmp_path, barns(6), shots=6)
    shown = [[json.loads(turn["content"]) for turn in each["messages"][1:-1]] for each in server.requests]
    kinds = [[turn["edits"][0]["kind"] for turn in turns if "edits" in turn] for turns in shown]
    assert all(len(set(each)) == 6 for each in kinds)
    assert len({json.dumps(each) for each in shown}) == 6


def test_several_edits_and_the_way_back(server: Server, tmp_path: Path) -> None:
    two = [EDIT | {"inverse": "make it day"}, {"instruction": "add a cow", "edited_caption": "a barn and a cow"}]
    server.script = lambda _: completion(json.dumps({"edits": [*two, EDIT]}))
    asks = writer(server, tmp_path, inverse=True)
    asks.prepare(captions("a barn"), 2)
    ((first, second),) = asks.write(captions("a barn"), 2)
    assert (first.inverse, second.inverse, second.kind) == ("make it day", "", "other")
    assert "inverse" in json.dumps(server.requests[0]["response_format"])
    assert all("inverse" in turn["content"] for turn in server.requests[0]["messages"] if turn["role"] == "assistant")


def test_the_way_back_is_asked_for_only_where_it_is_wanted(server: Server, tmp_path: Path) -> None:
    """So no answer that was paid for is asked for again by a build that does not want it."""
    server.script = lambda _: completion(json.dumps({"edits": [EDIT]}))
    for number, wanted in enumerate(({}, {"ask_inverse": False}, {"ask_inverse": True}, {"inverse": True})):
        writer(server, tmp_path / str(number), **wanted).prepare(captions("a barn"), 1)
    plain, still, asked, as_triple = (json.dumps(each, sort_keys=True) for each in server.requests)
    assert plain == still and asked == as_triple and "inverse" in asked and "inverse" not in plain


PASSING = [
    failure(429, "slow down", "rate_limit_exceeded"),
    failure(429, "slow down", retry_after="0.05"),
    failure(408, "late"),
    failure(409, "locked"),
    failure(500, "oops"),
    ServerReply(503, "<html>busy</html>"),
    ServerReply(drop=True),
    ServerReply(body="<html>"),
    ServerReply(body=""),
    ServerReply(body='{"id": "1"}'),
    ServerReply(body='{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}'),
    completion("I would make it night."),
    completion('{"edits": [{"instruction": "make it'),
    completion('{"edits": []}'),
    completion('{"edits": [{"instruction": 3}]}'),
    completion(json.dumps({"edits": [EDIT]})[:-9], finish="length"),
    completion(None),
]


@pytest.mark.parametrize("fault", PASSING, ids=range(len(PASSING)))
def test_a_fault_that_passes_costs_one_more_request(server: Server, tmp_path: Path, fault: ServerReply) -> None:
    server.script = only("odd", fault)
    assert reasons(server, tmp_path, captions("a barn", "an odd castle", "a tower")) == [Reason.OK] * 3
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "reason", "requests"),
    [
        (completion("no"), Reason.BAD_REPLY, 2),
        (completion('{"edits": [', finish="length"), Reason.CUT_OFF, 2),
        (completion(None, refusal="I cannot"), Reason.WRITER_REFUSED, 1),
        (completion(json.dumps({"edits": [EDIT]}), finish="content_filter"), Reason.WRITER_REFUSED, 1),
        (failure(400, "it violates the policy", "content_policy_violation"), Reason.WRITER_REFUSED, 1),
        (failure(400, "too long", "context_length_exceeded"), Reason.WRITER_ERROR, 1),
        (failure(422, "not that"), Reason.WRITER_ERROR, 1),
        (completion(f"```json\n{json.dumps({'edits': [EDIT]})}\n```"), Reason.OK, 1),
        (completion(f"Here you are: {json.dumps({'edits': [EDIT | {'kind': 'odd', 'more': 1}]})}."), Reason.OK, 1),
    ],
)
def test_a_fault_that_stays_refuses_its_caption_alone(
    server: Server, tmp_path: Path, fault: ServerReply, reason: Reason, requests: int
) -> None:
    server.script = only("odd", *[fault] * 50)
    assert reasons(server, tmp_path, captions("a barn", "an odd castle", "a tower")) == [Reason.OK, reason, Reason.OK]
    assert len(server.requests) == 2 + requests


@pytest.mark.parametrize(
    ("fault", "output", "remedy"),
    [
        (failure(401, f"what is {KEY} and sk-other-123456?"), "refuses the key", "OPENAI_API_KEY"),
        (failure(403, f"not for {KEY}"), "refuses the model", "Check the model and the base_url"),
        (failure(404, "no such model"), "refuses the model", "Check the model and the base_url"),
        (failure(429, "you have no quota", "insufficient_quota"), "no money left", "OPENAI_API_KEY"),
        (failure(429, "much later", retry_after="90000"), "takes no requests for 1500 minutes", "goes on from here"),
    ],
)
def test_a_server_that_refuses_us_stops_the_run_at_once(
    server: Server, tmp_path: Path, fault: ServerReply, output: str, remedy: str
) -> None:
    rows, before = barns(60), 20
    server.script = lambda request: answer_by_rules(request) if len(server.requests) <= before else fault
    asks = writer(server, tmp_path, parallel=4, shots=2)
    with pytest.raises(WriterError) as caught:
        asks.prepare(rows, 1)
    asks.close()
    assert output in str(caught.value) and remedy in str(caught.value)
    assert KEY not in str(caught.value) and "sk-other" not in str(caught.value) and "\n" not in str(caught.value)
    assert before <= len(server.requests) <= before + 4, "those under way, and no other"
    server.script = answer_by_rules
    assert reasons(server, tmp_path, rows, shots=2) == [Reason.OK] * 60
    assert len(server.requests) <= 60 + 4, "answers were kept"


def test_a_server_that_always_fails_stops_the_run(server: Server, tmp_path: Path) -> None:
    asks = writer(server, tmp_path, parallel=2)
    asks.prepare(barns(1), 1)
    server.script = lambda _: failure(500, "oops")
    with pytest.raises(WriterError, match="cannot be reached or fails .status 500.*goes on from here"):
        asks.prepare(barns(500), 1)
    assert len(server.requests) < 60


def test_no_server_no_key_no_model(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WriterError, match="no server at http://127.0.0.1:9"):
        ApiWriter(TriplesConfig(writer="openai", base_url="http://127.0.0.1:9/v1"), tmp_path, seed=0, say=print)
    server.models = ["one", "two"]
    with pytest.raises(ConfigError, match="there are one, two"):
        writer(server, tmp_path)
    with pytest.raises(ConfigError, match="none is named"):
        ApiWriter(TriplesConfig(writer="openai"), tmp_path, seed=0, say=print)
    with pytest.raises(ConfigError, match="price of odd is not known"):
        ApiWriter(TriplesConfig(writer="openai", model="odd", max_usd=1.0), tmp_path, seed=0, say=print)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(WriterError, match="no key for OpenAI in OPENAI_API_KEY"):
        ApiWriter(TriplesConfig(writer="openai", model="m"), tmp_path, seed=0, say=print)
    assert list(tmp_path.iterdir()) == []


def test_a_long_pause_holds_for_all_requests(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For more than two minutes the SDK does not wait; then all requests wait as long as the server said."""
    waits: list[float] = []
    asks = writer(server, tmp_path, parallel=4)
    asks.prepare(barns(1), 1)
    pause = rate_limit.RateLimiter.pause

    def noted(self: rate_limit.RateLimiter, length: float) -> None:
        waits.append(length)
        pause(self, min(length, 0.2))

    monkeypatch.setattr(rate_limit.RateLimiter, "pause", noted)
    server.script = only("number 5", failure(429, "wait", retry_after="121"))
    asks.prepare(barns(12), 1)
    assert max(waits) == 121.0 and len(server.requests) == 13


def test_rate_limits_in_headers_are_kept(server: Server, tmp_path: Path) -> None:
    times: list[float] = []

    def limited(request: dict[str, Any]) -> ServerReply:
        times.append(time.monotonic())
        left = 0 if len(times) == 3 else 100
        headers = {"x-ratelimit-remaining-requests": str(left), "x-ratelimit-reset-requests": "300ms"}
        return answer_by_rules(request)._replace(headers=headers)

    server.script = limited
    reasons(server, tmp_path, barns(8), parallel=1)
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert gaps[2] >= 0.29 and max(gaps[:2] + gaps[3:]) < 0.25


@pytest.mark.slow
def test_a_tenth_of_all_answers_may_go_wrong(server: Server, tmp_path: Path) -> None:
    server.script = make_faulty_script(0.1, 7)
    rows = barns(300)
    says: list[str] = []
    asks = writer(server, tmp_path, says, shots=2)
    asks.prepare(rows, 1)
    proposals = asks.write(rows, 1)
    assert [len(few) for few in proposals] == [1] * 300
    assert sum(few[0].reason is Reason.OK for few in proposals) >= 297, (
        "two faults in a row refuse a caption, with a reason"
    )
    assert len({few[0].edited_caption for few in proposals}) >= 285
    assert len(server.requests) <= 390
    assert any("faults:" in line and "status 429" in line for line in says)
    assert asks.ledger.requests == len(server.requests)


@pytest.mark.parametrize(
    ("known", "form"),
    [
        ("strict", ReplyFormat.PARSE), ("json_schema", ReplyFormat.JSON_SCHEMA), ("none", ReplyFormat.TEXT),
        ("json_object", ReplyFormat.JSON_OBJECT), ("overlooks", ReplyFormat.TEXT), ("500", ReplyFormat.JSON_OBJECT),
    ],
)  # fmt: skip
def test_the_request_format_of_a_server_is_found_once(
    server: Server, tmp_path: Path, known: str, form: ReplyFormat
) -> None:
    def picky(request: dict[str, Any]) -> ServerReply:
        wanted = request.get("response_format", {"type": "text"})
        strict = wanted.get("json_schema", {}).get("strict", False)
        if known == "strict" or wanted["type"] == "text":
            return answer_by_rules(request)
        if known == "overlooks":
            return completion("I am free, and write prose.")
        if known == "json_schema" and strict:
            return failure(400, "strict is not supported")
        if known in ("json_object", "500") and wanted["type"] == "json_schema":
            return failure(500 if known == "500" else 400, "Invalid response_format")
        return failure(400, "response_format is not supported") if known == "none" else answer_by_rules(request)

    server.script = picky
    assert reasons(server, tmp_path, barns(10), parallel=1) == [Reason.OK] * 10
    probing = len(server.requests) - 10
    with Ledger(tmp_path / LEDGER_FILE) as ledger:
        assert [note[0] for note in ledger.notes.values()] == [form.value]
    assert reasons(server, tmp_path, barns(20), parallel=1) == [Reason.OK] * 20
    assert len(server.requests) == 20 + probing, "it is remembered"
    assert "schema" in server.requests[-1]["response_format"] if form is ReplyFormat.JSON_OBJECT else True


def test_arguments_that_a_model_refuses_are_left_out(server: Server, tmp_path: Path) -> None:
    def picky(request: dict[str, Any]) -> ServerReply:
        for name in ("max_tokens", "temperature", "seed"):
            if name in request:
                return failure(400, f"Unsupported parameter: {name} is not supported with this model")
        return answer_by_rules(request)

    server.script = picky
    assert reasons(server, tmp_path, barns(5)) == [Reason.OK] * 5
    assert len(server.requests) == 5 + 3 and "max_completion_tokens" in server.requests[-1]


@pytest.mark.slow
def test_money_is_counted_and_never_more_than_allowed(server: Server, tmp_path: Path) -> None:
    price: dict[str, Any] = {"price_in": 10.0, "price_out": 40.0, "shots": 2}
    asks = writer(server, tmp_path, **price)
    most = asks.question(barns(1)[0], 1).most
    asks.close()
    limit, rows, says = 20 * most.usd, barns(60), list[str]()
    asks = writer(server, tmp_path, says, max_usd=limit, **price)
    with pytest.raises(WriterError, match="the budget of .* USD is spent .*triples.max_usd"):
        asks.prepare(rows, 1)
    billed = sum(bill(request) for request in server.requests)
    assert asks.ledger.spent.usd == pytest.approx(billed)
    assert limit - 2 * most.usd < billed <= limit
    asks.close()
    assert "about" in says[0] and "USD" in says[0] and "per thousand captions" in says[-1]
    assert reasons(server, tmp_path, rows, **price) == [Reason.OK] * 60
    assert len(server.requests) == 60


def bill(request: dict[str, Any]) -> float:
    """Return the cost of a request at 10 and 40 USD per million tokens."""
    usage = json.loads(answer_by_rules({k: v for k, v in request.items() if k != "authorization"}).body)["usage"]
    return (10 * usage["prompt_tokens"] + 40 * usage["completion_tokens"]) / 1e6


def test_a_model_that_will_be_shut_down_is_told_before(server: Server, tmp_path: Path) -> None:
    server.shutdown_date, says = "2027-01-14", list[str]()
    writer(server, tmp_path, says).prepare(barns(1), 1)
    assert "shut down on 2027-01-14" in says[0] and "about" in says[1]


def test_the_address_may_stand_in_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert ApiWriter(TriplesConfig(writer="openai"), tmp_path, seed=0, say=print).name == MODEL


def test_moderation_of_the_server(server: Server, tmp_path: Path) -> None:
    rows = captions("a barn", "a forbidden castle", "a tower")
    checks = {"checks": {"moderation": "server"}}
    assert reasons(server, tmp_path, rows, **checks) == [Reason.OK, Reason.MODERATED, Reason.OK]


def test_no_key_is_ever_written(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    echo = completion(json.dumps({"edits": [EDIT | {"edited_caption": f"a barn with {KEY} on it"}]}))
    server.script = only("odd", echo, failure(400, f"no {KEY}"), *[ServerReply(503, KEY)] * 3)
    says: list[str] = []
    asks = writer(server, tmp_path, says)
    asks.prepare(captions("an odd barn", "an odd castle", "an odd tower"), 1)
    asks.close()
    written = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert written and not any("CANARY" in text for text in [*written, *says, caplog.text])


def test_two_runs_do_not_share_a_folder(server: Server, tmp_path: Path) -> None:
    first = writer(server, tmp_path)
    with pytest.raises(DataError, match="another run"):
        writer(server, tmp_path)
    first.close()
