"""Classification of faults, and parsing of headers."""

import json

import httpx2
import openai
import pytest

from ip2p.data_gen.writers.api.faults import Action, classify_error, parse_duration, redact
from ip2p.errors import BudgetError

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
        (openai.ContentFilterFinishReasonError(), Action.REFUSE),
        (json.JSONDecodeError("no", "", 0), Action.AGAIN),
        (TypeError("'NoneType' object is not iterable"), Action.MEND),
        (IndexError("list index out of range"), Action.MEND),
        (BudgetError("spent", "give more"), Action.STOP),
    ],
)
def test_what_follows_from_an_error(error: Exception, do: Action) -> None:
    assert classify_error(error, "").do is do


def test_a_spent_budget_is_found_behind_a_lost_connection() -> None:
    error = openai.APIConnectionError(request=REQUEST)
    error.__cause__ = BudgetError("spent", "give more")
    assert classify_error(error, "").error is error.__cause__


def test_secrets_are_taken_out() -> None:
    said = redact("key sk-abcdef123456 or my-very-own-secret, not task-12 or key", "my-very-own-secret")
    assert said == "key *** or ***, not task-12 or key"
