"""Classification of faults, and parsing of headers."""

import json

import httpx2
import openai
import pytest

from ip2p.errors import BudgetError
from ip2p.remote.faults import (
    Action,
    classify_error,
    classify_refusal,
    parse_duration,
    read_refusal,
    redact,
)

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1.0), ("0.25", 0.25), ("20ms", 0.02), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("1d", 86400.0),
        ("", 0.0), (None, 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("soon", 0.0), ("-5", 0.0), ("1s?", 0.0),
    ],
)  # fmt: skip
def test_durations(text: str | None, expected: float) -> None:
    assert parse_duration(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("error", "do"),
    [
        (openai.APITimeoutError(REQUEST), Action.AGAIN),
        (openai.APIConnectionError(request=REQUEST), Action.AGAIN),
        (json.JSONDecodeError("no", "", 0), Action.AGAIN),
        (BudgetError("spent", "give more"), Action.STOP),
    ],
)
def test_what_follows_from_an_error(error: Exception, do: Action) -> None:
    assert classify_error(error, "").do is do


REFUSALS = [
    # The account: nothing is refused, and the run stops.
    (402, '{"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}', "quota", Action.STOP),
    (402, '{"error": {"message": "This requires more credits", "code": 402}}', "quota", Action.STOP),
    (429, '{"error": {"message": "You have no quota", "code": "insufficient_quota"}}', "quota", Action.STOP),
    (429, '{"error": {"message": "please recharge", "type": "exceeded_current_quota_error"}}', "quota", Action.STOP),
    (400, '{"error": {"message": "Your credit balance is too low to access the API"}}', "quota", Action.STOP),
    (400, '{"code": "Arrearage", "message": "Access denied"}', "quota", Action.STOP),
    (403, '{"error": {"code": "AccountOverdueError", "message": "pay the bill"}}', "quota", Action.STOP),
    (200, '{"error": {"message": "Insufficient credits", "code": 402}}', "quota", Action.STOP),
    (200, '{"error": {"message": "no", "code": "insufficient_quota"}}', "quota", Action.STOP),
    (401, '{"error": {"message": "who are you?"}}', "key", Action.STOP),
    (400, '[{"error": {"code": 400, "message": "API key not valid. Please pass another."}}]', "key", Action.STOP),
    (200, '{"error": {"message": "bad", "code": "invalid_api_key"}}', "key", Action.STOP),
    (407, "<html>Proxy Authentication Required</html>", "proxy", Action.STOP),
    (403, '{"error": {"message": "not in your country"}}', "model", Action.STOP),
    (404, '{"detail": "Not Found"}', "model", Action.STOP),
    (404, "", "model", Action.STOP),
    (400, '{"error": {"message": "Model Not Exist"}}', "model", Action.STOP),
    (400, '{"error": {"message": "no such one", "code": "model_not_found"}}', "model", Action.STOP),
    (405, "Method Not Allowed", "status 405", Action.STOP),
    (451, "no", "status 451", Action.STOP),
    # The server: the question goes back to the queue.
    (429, '{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', "rate limit", Action.AGAIN),
    (413, '{"error": {"message": "Request too large", "code": "rate_limit_exceeded"}}', "rate limit", Action.AGAIN),
    (200, '{"error": {"message": "Provider returned error", "code": 429}}', "rate limit", Action.AGAIN),
    (200, '{"error": {"message": "RPM", "type": "rate_limit_error"}}', "rate limit", Action.AGAIN),
    (200, '{"error": {"message": "busy", "type": "overloaded_error"}}', "server", Action.AGAIN),
    (200, '{"error": {"message": "upstream", "code": 502}}', "status 502", Action.AGAIN),
    (200, '{"error": "something odd"}', "error in the answer", Action.AGAIN),
    (408, "", "server", Action.AGAIN),
    (500, '{"error": {"message": "The model does not exist in this shard"}}', "status 500", Action.AGAIN),
    (503, "<html>busy</html>", "status 503", Action.AGAIN),
    (529, '{"error": {"type": "overloaded_error"}}', "status 529", Action.AGAIN),
    # The question: its caption is refused.
    (400, '{"error": {"message": "no", "code": "content_filter"}}', "content filter", Action.REFUSE),
    (400, '{"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}', "content filter", Action.REFUSE),
    (400, '{"code": "data_inspection_failed"}', "content filter", Action.REFUSE),
    (403, '{"error": {"code": 403, "message": "Input was flagged by moderation"}}', "content filter", Action.REFUSE),
    (400, '{"error": {"message": "too long", "code": "context_length_exceeded"}}', "too long", Action.REFUSE),
    (413, "Payload Too Large", "too long", Action.REFUSE),
    (400, '{"error": {"message": "no"}}', "status 400", Action.REFUSE),
    (422, '{"detail": [{"loc": ["body", "seed"], "msg": "no"}]}', "status 422", Action.REFUSE),
    (404, '{"error": {"message": "No endpoint supports the requested parameters"}}', "status 404", Action.REFUSE),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "name", "do"), REFUSALS)
def test_what_follows_from_a_refusal(status: int, body: str, name: str, do: Action) -> None:
    fault = classify_refusal(read_refusal(status, body), "")
    assert (fault.name, fault.do) == (name, do) and bool(fault.error) == (do is Action.STOP)


def test_a_refusal_names_arguments_but_not_those_of_the_request_that_it_repeats() -> None:
    detail = {"loc": ["body", "seed"], "msg": "Extra inputs", "input": {"temperature": 1, "messages": ["max_tokens"]}}
    refusal = read_refusal(422, json.dumps({"object": "error", "message": {"detail": [detail]}}))
    assert refusal.names("seed") and not refusal.names("temperature") and not refusal.names("max_tokens")
    assert not read_refusal(400, "the reseeding of temperatures").names("seed")


def test_a_spent_budget_is_found_behind_a_lost_connection() -> None:
    error = openai.APIConnectionError(request=REQUEST)
    error.__cause__ = BudgetError("spent", "give more")
    assert classify_error(error, "").error is error.__cause__


def test_secrets_are_taken_out() -> None:
    said = redact("key sk-abcdef123456 or my-very-own-secret, not task-12 or key", "my-very-own-secret")
    assert said == "key *** or ***, not task-12 or key"
