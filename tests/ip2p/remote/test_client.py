"""The client against a local server that behaves as real ones do: requests, replies and refusals, row by row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llm_server import MODEL, Server, ServerReply, answer_by_rules, completion, failure

from ip2p.errors import WriterError
from ip2p.records import Reason
from ip2p.remote.ledger import LEDGER_FILE, Ledger
from ip2p.remote.reply_text import MAX_UNREAD

EDIT = {"instruction": "make it night", "edited_caption": "a barn at night", "kind": "time"}
GOOD = json.dumps({"edits": [EDIT]})
DRAFT = GOOD.replace("night", "dawn")
Answer = Callable[[dict[str, Any]], ServerReply]
Ask = Callable[..., list[Reason]]


def answered(folder: Path) -> list[str]:
    """Return the texts of all stored answers."""
    with Ledger(folder / LEDGER_FILE) as ledger:
        return [answer.text for answer in ledger.answers.values() if answer.text]


def body(message: dict[str, Any], **choice: Any) -> ServerReply:
    """Make a chat completion from a message."""
    return ServerReply(
        body=json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message, **choice}]})
    )


def stream(*pieces: str, end: str = "data: [DONE]\n\n") -> ServerReply:
    """Make a stream of a text, which nobody asked for."""
    events = [{"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
    events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    events += [{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}]
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return ServerReply(body=f": keep-alive\n\n{lines}{end}", headers={"Content-Type": "text/event-stream"})


ANSWERS = {
    "thoughts in tags": completion(f"<think>Or {DRAFT}?</think>{GOOD}"),
    "thoughts whose start the prompt has": completion(f"Or {DRAFT}?</think>{GOOD}"),
    "thoughts apart": completion(GOOD, thoughts=f"Or {DRAFT}?", reasoning=9),
    "thoughts apart by another name": body({"role": "assistant", "content": GOOD, "reasoning": f"Or {DRAFT}?"}),
    "the whole answer as thoughts": completion(None, thoughts=GOOD),
    "parts": body({"content": [{"type": "thinking", "thinking": [{"text": DRAFT}]}, {"type": "text", "text": GOOD}]}),
    "arguments of a function": body({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": GOOD}}]}),
    "an object as content": body({"content": {"edits": [EDIT]}}),
    "fields that nobody knows": body({"content": GOOD, "annotations": 3, "audio": "no"}, logprobs="odd", index=None),
    "no finish reason": body({"content": GOOD}, finish_reason=None),
    "cut off behind the answer": completion(f"{GOOD}\nI hope that", finish="length"),
    "a stream": stream(GOOD[:10], GOOD[10:40], GOOD[40:]),
    "a stream without an end": stream(GOOD, end=""),
    "a page as its type": completion(GOOD)._replace(headers={"Content-Type": "text/html"}),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_read(server: Server, ask: Ask, tmp_path: Path, name: str) -> None:
    server.script = lambda _: ANSWERS[name]
    assert ask(tmp_path) == [Reason.OK] and len(server.requests) == 1
    (text,) = answered(tmp_path)
    assert "a barn at night" in text


PASSING = {
    "an empty list of choices": ServerReply(body='{"choices": []}'),
    "choices null": ServerReply(body='{"choices": null}'),
    "a choice null": ServerReply(body='{"choices": [null]}'),
    "no message": ServerReply(body='{"choices": [{"finish_reason": "stop"}]}'),
    "a list": ServerReply(body="[]"),
    "a number": ServerReply(body="3"),
    "a page": ServerReply(body="<html>Welcome</html>", headers={"Content-Type": "text/html"}),
    "nothing": ServerReply(),
    "a rate limit": failure(200, "Provider returned error", "429"),
    "a rate limit by its name": failure(200, "slow down", "rate_limit_exceeded"),
    "a rate limit beside an empty answer": ServerReply(
        body=json.dumps({"choices": [{"message": {"content": None}}], "error": {"message": "busy", "code": 429}})
    ),
    "an error in the choice": body({"content": ""}, finish_reason="error", error={"code": 502, "message": "upstream"}),
    "an error in a stream": ServerReply(body='data: {"error": {"code": 503, "message": "gone"}}\n\ndata: [DONE]\n\n'),
    "only thoughts": completion(None, thoughts=f"Or {DRAFT}?"),
    "a draft in thoughts": completion(f"<think>Or {DRAFT}"),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_what_is_no_answer_is_asked_again(server: Server, ask: Ask, tmp_path: Path, name: str) -> None:
    server.script = lambda request: PASSING[name] if len(server.requests) == 2 else answer_by_rules(request)
    assert ask(tmp_path, 2, parallel=1) == [Reason.OK] * 2 and len(server.requests) == 3


STOPPING = {
    "no money": (failure(402, "Insufficient Balance"), "no money left"),
    "no money, with status 200": (failure(200, "Insufficient credits", "402"), "no money left"),
    "no money, by its name": (failure(200, "sorry", "insufficient_quota"), "no money left"),
    "no money, in words": (failure(400, "Your credit balance is too low"), "no money left"),
    "a wrong key": (failure(400, "API key not valid"), "refuses the key"),
    "another model": (failure(400, "Model Not Exist"), "refuses the model"),
    "a proxy": (ServerReply(407, "<html>Proxy Authentication Required</html>"), "the proxy refuses"),
    "gone": (failure(410, "this API is gone"), "the server refuses the request .410: this API is gone"),
}


@pytest.mark.parametrize("name", STOPPING)
def test_the_account_and_the_address_stop_a_run_and_refuse_nothing(
    server: Server, ask: Ask, tmp_path: Path, name: str
) -> None:
    reply, message = STOPPING[name]
    server.script = lambda request: answer_by_rules(request) if len(server.requests) <= 2 else reply
    with pytest.raises(WriterError, match=message):
        ask(tmp_path, 20)
    assert len(server.requests) <= 2 + 4
    server.script = answer_by_rules
    assert ask(tmp_path, 20) == [Reason.OK] * 20, "the same command asks again"
    with Ledger(tmp_path / LEDGER_FILE) as ledger:
        assert not any(answer.reason for answer in ledger.answers.values())


def test_what_the_server_is_to_blame_for_leaves_the_caption_open(server: Server, ask: Ask, tmp_path: Path) -> None:
    def failing(request: dict[str, Any]) -> ServerReply:
        return failure(500, "GPU on fire") if "number 1," in str(request["messages"][-1]) else answer_by_rules(request)

    server.script = failing
    with pytest.raises(
        WriterError, match="1 of 3 captions got no answer .* a raw reply: .*GPU on fire.*skip_unanswered"
    ):
        ask(tmp_path, 3)
    assert ask(tmp_path, 3, skip_unanswered=True) == [Reason.OK, Reason.WRITER_ERROR, Reason.OK]
    server.script = answer_by_rules
    assert ask(tmp_path, 3) == [Reason.OK] * 3


@pytest.mark.parametrize("said", ["the template fails", "Extra inputs are not permitted"])
def test_a_refusal_that_nobody_knows_refuses_its_caption_only_while_others_succeed(
    server: Server, ask: Ask, tmp_path: Path, said: str
) -> None:
    def failing(request: dict[str, Any]) -> ServerReply:
        return failure(400, said) if "number 1," in str(request["messages"][-1]) else answer_by_rules(request)

    server.script = failing
    assert ask(tmp_path / "one", 3) == [Reason.OK, Reason.WRITER_ERROR, Reason.OK]
    server.script = lambda request: answer_by_rules(request) if len(server.requests) <= 50 else failure(400, said)
    server.requests.clear()
    with pytest.raises(WriterError, match=f"fails .status 400.; a raw reply: .*{said}"):
        ask(tmp_path / "two", 100)
    assert len(answered(tmp_path / "two")) == 50
    with Ledger(tmp_path / "two" / LEDGER_FILE) as ledger:
        assert not any(answer.reason for answer in ledger.answers.values()), "the account may be to blame"


NOTHING = {
    "prose": completion("I am a poet, and write no JSON."),
    "refusals of the content": completion(None, refusal="I cannot help with pictures."),
    "refusals of the request": failure(400, "I take no requests like this."),
    "thoughts without an answer": completion("<think>I am thinking", thoughts=""),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_run_in_which_nothing_succeeds_stops_early_and_shows_a_reply(
    server: Server, ask: Ask, tmp_path: Path, name: str
) -> None:
    server.script = lambda _: NOTHING[name]
    for count in (2, 100):
        server.requests.clear()
        with pytest.raises(
            WriterError, match=f"{MODEL} gave no edit for any .* a raw reply: .*I (cannot|am|take)"
        ) as caught:
            ask(tmp_path, count)
        assert len(server.requests) <= 24 + 2 * (MAX_UNREAD + 4) and "\n" not in str(caught.value)
    server.script = answer_by_rules
    assert ask(tmp_path, 20) == [Reason.OK] * 20, "nothing was refused for good"


def thinker(needed: int, counted: bool = True) -> Answer:
    """Answer like a model that reasons for some tokens, and is cut off before its answer if it may not."""

    def answer(request: dict[str, Any]) -> ServerReply:
        if "max_tokens" in request:
            return failure(
                400,
                "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
                "unsupported_parameter",
            )
        if "temperature" in request:
            return failure(
                400, "Unsupported value: 'temperature' does not support 0.7 with this model.", "unsupported_value"
            )
        if request["max_completion_tokens"] < needed:
            tokens = request["max_completion_tokens"]
            return completion("" if counted else "<think>Okay, so", finish="length", reasoning=tokens * counted)
        reply = json.loads(answer_by_rules(request).body)["choices"][0]["message"]["content"]
        return completion(reply, reasoning=needed - 100)

    return answer


@pytest.mark.parametrize("counted", [True, False])
def test_a_model_that_reasons_gets_as_many_tokens_as_it_needs(
    server: Server, ask: Ask, tmp_path: Path, counted: bool
) -> None:
    says: list[str] = []
    server.script = thinker(3000, counted)
    assert ask(tmp_path, 20, says) == [Reason.OK] * 20
    assert len(server.requests) == 20 + 2 + 2, "two arguments, and two sizes, each found out once"
    assert {each["max_completion_tokens"] for each in server.requests[-19:]} == {200 + 4096}
    assert any("takes no temperature" in line for line in says)
    assert "60448 of them reasoning" in says[-1] or not counted
    assert ask(tmp_path, 25) == [Reason.OK] * 25 and len(server.requests) == 24 + 5, "it is remembered"
    with Ledger(tmp_path / LEDGER_FILE) as ledger:
        assert ledger.reasoning > 0


def test_reasoning_without_a_mark_gets_more_tokens_too(server: Server, ask: Ask, tmp_path: Path) -> None:
    """A server that ignores the form of answers, with a template that opens the thought."""

    def answer(request: dict[str, Any]) -> ServerReply:
        if request["max_tokens"] < 4000:
            return completion("Okay, so I need to", finish="length")
        return completion(f"Okay, so I need to ... or {DRAFT}?</think>{GOOD}")

    server.script = answer
    assert ask(tmp_path, 5) == [Reason.OK] * 5
    assert server.requests[-1]["max_tokens"] == 200 + 4096 and "dawn" not in str(
        [json.loads(text.partition("</think>")[2]) for text in answered(tmp_path)]
    )


def test_reasoning_without_an_end_stops_the_run(server: Server, ask: Ask, tmp_path: Path) -> None:
    server.script = lambda request: completion("", finish="length", reasoning=request["max_tokens"])
    with pytest.raises(
        WriterError, match="cut off after 5000 tokens of reasoning, without an answer; a raw.*max_reasoning"
    ):
        ask(tmp_path, 100, max_reasoning_tokens=5000)
    assert [each["max_tokens"] for each in server.requests] == [200, 2248, 4296, 5200]


def test_money_for_reasoning_is_reserved(server: Server, ask: Ask, tmp_path: Path) -> None:
    server.script = lambda request: completion("", finish="length", reasoning=request["max_tokens"])
    limit: dict[str, Any] = {"price_in": 1.0, "price_out": 10.0, "max_usd": 0.02}
    with pytest.raises(WriterError, match=r"budget of 0\.02 USD is spent"):
        ask(tmp_path, 5, **limit)
    assert [each["max_tokens"] for each in server.requests] == [200], "2248 tokens might cost more than is left"


def test_the_length_of_answers_is_a_setting_and_doubled_once(server: Server, ask: Ask, tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> ServerReply:
        odd = "number 1," in str(request["messages"][-1])
        return (
            completion('{"edits": [{', finish="length")
            if odd and request["max_tokens"] < 180
            else answer_by_rules(request)
        )

    server.script = answer
    assert ask(tmp_path / "wide", 3, reply_tokens=100) == [Reason.OK] * 3
    assert sorted(each["max_tokens"] for each in server.requests) == [100, 100, 100, 200]
    assert ask(tmp_path / "narrow", 3, reply_tokens=50) == [Reason.OK, Reason.CUT_OFF, Reason.OK]
    assert ask(tmp_path / "narrow", 3, reply_tokens=100) == [Reason.OK] * 3, "more room may mend it"


def test_refusals_of_earlier_versions_that_may_be_mended_are_asked_again(
    server: Server, ask: Ask, keys: list[str], tmp_path: Path
) -> None:
    """Earlier versions gave answers 200 tokens, and refused what the server failed at."""
    reasons = ["", "cut_off", "writer_error", "bad_reply"]
    lines = [
        {"reserve": 0, "cost": [10, 20, 0.0], "at": 1.0}, {"settle": 0, "cost": [10, 20, 0.0], "fault": "", "at": 2.0},
        {"note": f"{server.url} {MODEL}", "value": ["parse", "max_completion_tokens", ["seed"]], "at": 3.0},
        *({"key": key, "text": GOOD * (not why), "reason": why} for key, why in zip(keys, reasons, strict=True)),
    ]  # fmt: skip
    (tmp_path / LEDGER_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert ask(tmp_path, 4, shots=6) == [Reason.OK, Reason.OK, Reason.OK, Reason.BAD_REPLY]
    assert (
        len(server.requests) == 2 and "max_completion_tokens" in server.requests[0] and "seed" not in server.requests[0]
    )


def test_the_key_of_a_question_is_that_of_earlier_versions(keys: list[str]) -> None:
    assert keys[0] == "ee202689a95c768b"
