"""Requests that real servers take, row by row, against a local server that refuses what they do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llm_server import Server, ServerReply, answer_by_rules, completion, failure, read_question

from ip2p.errors import WriterError
from ip2p.records import Reason
from ip2p.remote.ledger import LEDGER_FILE, Ledger
from ip2p.remote.request_format import ReplyFormat, RequestFormat, parse_request_format

Ask = Callable[..., list[Reason]]


def test_formats_are_stored_and_those_of_earlier_versions_are_read() -> None:
    learned = RequestFormat(ReplyFormat.TEXT, "max_completion_tokens", ("seed",), True, 4096, 8192)
    assert parse_request_format(json.loads(json.dumps(learned.to_note()))) == learned
    assert parse_request_format(["text", "max_completion_tokens", ["seed"]]) == (*learned[:3], *RequestFormat()[3:])
    assert parse_request_format(None) is parse_request_format(["verse", "max_tokens", []]) is None


def test_settings_of_reasoning_are_sent_and_make_other_questions(server: Server, ask: Ask, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "reasoning_effort": "low", "extra_body": {"chat_template_kwargs": {"enable_thinking": False}}
    }  # fmt: skip
    server.script = lambda request: (
        failure(400, "no json_schema") if "json_schema" in str(request) else answer_by_rules(request)
    )
    assert ask(tmp_path, 1) == ask(tmp_path, 1, **more) == [Reason.OK]
    sent = server.requests[-1]
    assert sent["reasoning_effort"] == "low" and sent["chat_template_kwargs"] == {"enable_thinking": False}
    assert sent["response_format"]["type"] == "json_object", "beside a form of answers that the SDK does not know"
    with Ledger(tmp_path / LEDGER_FILE) as ledger:
        assert len(ledger.answers) == 2


@pytest.mark.parametrize("name", ["reasoning_effort", "chat_template_kwargs"])
def test_a_setting_that_the_server_refuses_is_told(server: Server, ask: Ask, tmp_path: Path, name: str) -> None:
    server.script = lambda request: (
        failure(400, f"Unrecognized argument: {name}") if name in request else answer_by_rules(request)
    )
    with pytest.raises(WriterError, match=f"the server refuses {name} .Unrecognized.*triples.extra_body"):
        ask(tmp_path, 5, reasoning_effort="low", extra_body={"chat_template_kwargs": {}})
    assert len(server.requests) == 1


def unprocessable(*names: str) -> ServerReply:
    """Refuse arguments as FastAPI does, which repeats the request."""
    detail = [
        {
            "type": "extra_forbidden",
            "loc": ["body", name],
            "msg": "Extra inputs are not permitted",
            "input": "temperature",
        }
        for name in names
    ]
    return ServerReply(422, json.dumps({"detail": detail}))


REFUSED = {
    "max_tokens": failure(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
    "temperature": failure(400, "Unsupported value: 'temperature' does not support 0.7.", "unsupported_value"),
    "seed": unprocessable("seed"),
    "two at once": unprocessable("seed", "max_tokens"),
    "within a message": ServerReply(
        422, json.dumps({"object": "error", "message": {"detail": [{"loc": ["body", "seed"]}]}})
    ),
    "with status 200": failure(200, "Unsupported parameter: seed", "400"),
}
LACKS = {"two at once": ("seed", "max_tokens"), "within a message": ("seed",), "with status 200": ("seed",)}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("forms", [["json_schema", "json_object", "text"], ["json_object", "text"], ["text"]])
def test_what_was_learned_of_a_server_outlives_the_fall_back(
    server: Server, ask: Ask, tmp_path: Path, name: str, forms: list[str]
) -> None:
    """Arguments are refused first, and then forms of answers; each is found out once."""
    lacking = LACKS.get(name, (name,))

    def picky(request: dict[str, Any]) -> ServerReply:
        if any(each in request for each in lacking):
            return REFUSED[name]
        form = request.get("response_format", {"type": "text"})["type"]
        return answer_by_rules(request) if form in forms else failure(400, f"response_format {form} is not supported")

    server.script = picky
    assert ask(tmp_path, 5) == [Reason.OK] * 5
    refused = [each for each in server.requests if any(argument in each for argument in lacking)]
    assert len(refused) <= len(lacking) and len(server.requests) <= 5 + 2 + 4
    kept = {"temperature", "seed"} - set(lacking)
    assert kept <= server.requests[-1].keys()


SYSTEM = {
    "by its place": failure(400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
    "in words": failure(400, "System role not supported"),
    "by a template": failure(500, "Conversation roles must alternate user/assistant/user/assistant/..."),
}


@pytest.mark.parametrize("name", SYSTEM)
def test_a_server_without_system_messages_gets_none(server: Server, ask: Ask, tmp_path: Path, name: str) -> None:
    server.script = lambda request: (
        SYSTEM[name] if request["messages"][0]["role"] == "system" else answer_by_rules(request)
    )
    assert ask(tmp_path, 5) == [Reason.OK] * 5 and len(server.requests) == 6
    first, *_ = server.requests[-1]["messages"]
    assert (
        first["role"] == "user" and first["content"].startswith("You invent edits") and '{"caption"' in first["content"]
    )


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens is too large: 4296. This model supports at most 4096 completion tokens.",
        "This model's maximum context length is 4096 tokens. However, you requested 4800 tokens.",
    ],
)
def test_a_server_that_takes_no_longer_answers_gets_shorter_ones(
    server: Server, ask: Ask, tmp_path: Path, said: str
) -> None:
    def answer(request: dict[str, Any]) -> ServerReply:
        if request["max_tokens"] > 4096:
            return failure(400, said)
        few = request["max_tokens"] < 2000 or "number 1," in read_question(request)["caption"]
        return completion("", finish="length", reasoning=1) if few else answer_by_rules(request)

    server.script = answer
    assert ask(tmp_path, 3) == [Reason.OK, Reason.CUT_OFF, Reason.OK]
    assert max(each["max_tokens"] for each in server.requests) == 200 + 4096
    assert server.requests[-1]["max_tokens"] == 200 + 2048


def test_a_question_that_is_too_long_teaches_nothing(server: Server, ask: Ask, tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> ServerReply:
        odd = "number 1," in read_question(request)["caption"]
        said = "This model's maximum context length is 512 tokens; max_tokens and temperature do not help."
        return failure(400, said) if odd else answer_by_rules(request)

    server.script = answer
    assert ask(tmp_path, 3) == [Reason.OK, Reason.WRITER_ERROR, Reason.OK]
    assert {"max_tokens", "temperature", "seed"} <= server.requests[-1].keys()


def test_captions_that_speak_of_arguments_change_nothing(server: Server, ask: Ask, tmp_path: Path) -> None:
    """FastAPI repeats the request in what it refuses, captions and all."""

    def answer(request: dict[str, Any]) -> ServerReply:
        odd = "number 1," in read_question(request)["caption"]
        detail = [{"loc": ["body", "messages", 3], "msg": "too odd", "input": request}]
        return ServerReply(422, json.dumps({"detail": detail})) if odd else answer_by_rules(request)

    server.script = answer
    assert ask(tmp_path, 4) == [Reason.OK, Reason.WRITER_ERROR, Reason.OK, Reason.OK]
    assert {"max_tokens", "temperature", "seed"} <= server.requests[-1].keys()
