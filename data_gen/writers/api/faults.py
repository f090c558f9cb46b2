"""Faults of requests to a language model, and their consequences.

The SDK retries after 408, 409, 429, 5xx and lost connections. The errors that it finally raises are classified here.
Invalid bodies raise many errors besides `openai.OpenAIError`.
"""

import json
import re
from enum import Enum
from typing import NamedTuple

import openai
from openai.types.chat import ChatCompletion
from pydantic import ValidationError

from ip2p.errors import BudgetError, WriterError
from ip2p.records import Reason

KEY_VARIABLE = "OPENAI_API_KEY"
RESUME_HINT = "All answers are kept: run the same command again, and it goes on from here"
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
NO_CONTENT = ("content_filter", "content_policy_violation")


class Action(Enum):
    """The consequence of a fault.

    AGAIN: the question goes back to the queue. MEND: it is asked once more with another seed, and then refused.
    REFUSE: its caption is refused. STOP: the run stops.
    """

    AGAIN = "again"
    MEND = "mend"
    REFUSE = "refuse"
    STOP = "stop"


class Fault(NamedTuple):
    """A fault.

    Attributes:
        name: name of the fault in the counts.
        do: consequence.
        reason: reason of the row, if it is refused.
        wait: seconds to wait before the next request, as told by the server.
        error: error that stops the run.
    """

    name: str
    do: Action
    reason: Reason = Reason.WRITER_ERROR
    wait: float = 0.0
    error: WriterError | None = None

    def ends(self, *, last: bool) -> bool:
        """Return whether the question is finally refused."""
        return self.do is Action.REFUSE or (last and self.do is Action.MEND)


def classify_error(error: Exception, key: str) -> Fault:
    """Classify an error of the SDK.

    Args:
        error: error of a request, or of reading its answer.
        key: secret API key, which is removed from messages.
    """
    if isinstance(budget := error.__cause__ or error, BudgetError):  # the SDK takes it for a lost connection
        return Fault("budget", Action.STOP, error=budget)
    if isinstance(error, openai.APIStatusError):
        return _classify_status(error, describe(error, key))
    if isinstance(error, openai.APITimeoutError):
        return Fault("timeout", Action.AGAIN)
    if isinstance(error, openai.APIConnectionError):
        return Fault("connection", Action.AGAIN)
    if isinstance(error, openai.LengthFinishReasonError):
        return Fault("cut off", Action.MEND, Reason.CUT_OFF)
    if isinstance(error, openai.ContentFilterFinishReasonError):
        return Fault("content filter", Action.REFUSE, Reason.WRITER_REFUSED)
    if isinstance(error, json.JSONDecodeError | openai.APIResponseValidationError):
        return Fault("body is no JSON", Action.AGAIN)
    if isinstance(error, TypeError | AttributeError | IndexError | ValidationError):
        return Fault("no edit in the answer", Action.MEND, Reason.BAD_REPLY)
    return Fault(type(error).__name__, Action.AGAIN)


def classify_completion(completion: ChatCompletion) -> Fault | None:
    """Return the fault of a completion; None if it has a text."""
    if not completion.choices:
        return Fault("no edit in the answer", Action.MEND, Reason.BAD_REPLY)
    choice = completion.choices[0]
    if choice.message.refusal:
        return Fault("refusal", Action.REFUSE, Reason.WRITER_REFUSED)
    if choice.finish_reason == "content_filter":
        return Fault("content filter", Action.REFUSE, Reason.WRITER_REFUSED)
    if choice.finish_reason == "length":
        return Fault("cut off", Action.MEND, Reason.CUT_OFF)
    if not choice.message.content:
        return Fault("no edit in the answer", Action.MEND, Reason.BAD_REPLY)
    return None


def describe(error: Exception, key: str) -> str:
    """Return the message of an error, in one line and without secrets."""
    text = " ".join(str(error).split())
    return redact(text, key)[:160] or type(error).__name__


def redact(text: str, key: str) -> str:
    """Remove the key, and anything that looks like one, from a text."""
    text = text.replace(key, "***") if len(key) > 4 else text
    return re.sub(r"\b(sk|key)-[\w*-]{6,}", "***", text)


def parse_duration(text: str | None) -> float:
    """Parse a duration to seconds: "1.5", "20ms", "6m0s", "1h2m"; 0 for anything else."""
    if not text:
        return 0.0
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    if not re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+", text):
        return 0.0
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text))


def _classify_status(error: openai.APIStatusError, said: str) -> Fault:
    """Classify an error by its status and code."""
    if error.code in NO_MONEY:
        fix = f"Add credit, or set {KEY_VARIABLE} to a key of another account. {RESUME_HINT}"
        return Fault("quota", Action.STOP, error=WriterError(f"the account has no money left ({said})", fix))
    if error.status_code == 401:
        fix = f"Set {KEY_VARIABLE} to a valid one. {RESUME_HINT}"
        return Fault("key", Action.STOP, error=WriterError(f"the server refuses the key ({said})", fix))
    if error.status_code in (403, 404):
        fix = "Check triples.model, triples.base_url, and what the key may use"
        return Fault(
            "model", Action.STOP, error=WriterError(f"the server refuses the model or the address ({said})", fix)
        )
    if error.status_code == 429:
        return Fault("rate limit", Action.AGAIN, wait=parse_duration(error.response.headers.get("retry-after")))
    if error.status_code in (408, 409) or error.status_code >= 500:
        return Fault(
            f"status {error.status_code}", Action.AGAIN, wait=parse_duration(error.response.headers.get("retry-after"))
        )
    if error.code in NO_CONTENT:
        return Fault("content filter", Action.REFUSE, Reason.WRITER_REFUSED)
    return Fault(f"status {error.status_code}", Action.REFUSE)
