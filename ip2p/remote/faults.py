"""Faults of requests to a language model, and their consequences.

The SDK retries after 408, 409, 429, 5xx and lost connections. The errors that it finally raises are classified here, as
are errors that a server sends with status 200. What a server says counts more than the status that it says it with.
"""

import json
import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

import openai

from ip2p.errors import BudgetError, WriterError, one_line
from ip2p.records import Reason

KEY_VARIABLE = "OPENAI_API_KEY"
RESUME_HINT = "All answers are kept: run the same command again, and it goes on from here"
ECHOES = {"input", "ctx", "url"}
"""Keys of an error body that repeat the request."""


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
        sure: whether it is certain that the fault is in the question or its answer, and not in the server or account.
    """

    name: str
    do: Action
    reason: Reason = Reason.WRITER_ERROR
    wait: float = 0.0
    error: WriterError | None = None
    sure: bool = True


class Refusal(NamedTuple):
    """Reason that a server gives for refusing a request.

    Attributes:
        status: HTTP status, or the one that the body names; 0 if there is none.
        message: message for people.
        said: all texts of the body, but for those of the request that it repeats.
    """

    status: int
    message: str
    said: str

    def names(self, argument: str) -> bool:
        """Return whether an argument of the request is named."""
        return bool(re.search(rf"(?<![\w-]){re.escape(argument)}(?![\w-])", self.said))


class _Kind(NamedTuple):
    """A kind of refusal: by its status, or by its words with any status below 500."""

    statuses: tuple[int, ...]
    words: str
    name: str
    do: Action
    reason: Reason = Reason.WRITER_ERROR
    what: str = ""
    fix: str = ""

    def fits(self, refusal: Refusal) -> bool:
        by_words = bool(self.words) and refusal.status < 500 and re.search(self.words, refusal.said, re.IGNORECASE)
        return refusal.status in self.statuses or bool(by_words)


KINDS = (
    _Kind(
        (402,),
        r"insufficient[_ ](?:quota|balance|credits?|funds)|billing_(?:hard_limit|not_active)|credit balance is too low"
        r"|exceeded_current_quota|requires more credits|arrearage|account_?overdue",
        "quota", Action.STOP, what="the account has no money left",
        fix=f"Add credit, or set {KEY_VARIABLE} to a key of another account. {RESUME_HINT}",
    ),
    _Kind(
        (), r"content_filter|content[_ ]policy|content management policy|data_inspection_failed|responsibleaipolicy"
        r"|flagged by|input was flagged", "content filter", Action.REFUSE, Reason.WRITER_REFUSED,
    ),
    _Kind(
        (401,), r"(?:invalid|incorrect)[_ ]api[_ ]key|api key not valid|invalid_authentication", "key", Action.STOP,
        what="the server refuses the key", fix=f"Set {KEY_VARIABLE} to a valid one. {RESUME_HINT}",
    ),
    _Kind((407,), "", "proxy", Action.STOP, what="the proxy refuses the request",
          fix=f"Put its user and password into HTTP_PROXY and HTTPS_PROXY. {RESUME_HINT}"),
    _Kind((429,), r"rate[_ ]limit|too many requests|resource_exhausted|error code: 1015", "rate limit", Action.AGAIN),
    _Kind((), r"requested parameters|does not support (?:response_format|structured)", "status 404", Action.REFUSE),
    _Kind(
        (403, 404), r"model_not_found|model [^ ]{0,80} ?(?:does not exist|not exist|not found|is not available)",
        "model", Action.STOP, what="the server refuses the model or the address",
        fix="Check the model and the base_url in the config, and what the key may use",
    ),
    _Kind((408, 409, 425), r"overloaded|server_error|service[_ ]unavailable|timed? ?out", "server", Action.AGAIN),
    _Kind((413,), r"context_length_exceeded|maximum context|context (?:length|window|size)|prompt is too long",
          "too long", Action.REFUSE),
)  # fmt: skip
"""Kinds of refusals, the first that fits; others are the question's fault (400, 422), the server's (5xx), or ours."""


def classify_error(error: Exception, key: str) -> Fault:
    """Classify an error of the SDK.

    Args:
        error: error of a request.
        key: secret API key, which is removed from messages.
    """
    if isinstance(budget := error.__cause__ or error, BudgetError):  # the SDK takes it for a lost connection
        return Fault("budget", Action.STOP, error=budget)
    if isinstance(error, openai.APIStatusError):
        wait = parse_duration(error.response.headers.get("retry-after"))
        return classify_refusal(refusal_of(error), key, wait)
    if isinstance(error, openai.APITimeoutError):
        return Fault("timeout", Action.AGAIN)
    if isinstance(error, openai.APIConnectionError):
        return Fault("connection", Action.AGAIN)
    return Fault(type(error).__name__, Action.AGAIN)


def classify_refusal(refusal: Refusal, key: str, wait: float = 0.0) -> Fault:
    """Classify a refusal by what it says.

    Args:
        refusal: what the server says.
        key: secret API key, which is removed from messages.
        wait: seconds to wait before the next request, as told by the server.
    """
    status = refusal.status
    said = f"{status}: {refusal.message}" if status else refusal.message
    kind = next((kind for kind in KINDS if kind.fits(refusal)), None)
    if kind is None and status in (400, 422):
        return Fault(f"status {status}", Action.REFUSE, sure=False)
    if kind is None and 0 < status < 500:
        kind = _Kind((), "", f"status {status}", Action.STOP, what="the server refuses the request", fix=RESUME_HINT)
    if kind is None:
        return Fault(f"status {status}" if status else "error in the answer", Action.AGAIN, wait=wait)
    error = WriterError(f"{kind.what} ({redact(one_line_of(said), key)})", kind.fix) if kind.do is Action.STOP else None
    return Fault(kind.name, kind.do, kind.reason, wait, error, sure=kind.name != "status 404")


def refusal_of(error: openai.APIStatusError) -> Refusal:
    """Read the refusal in an error of the SDK, which has a part of the body only."""
    return read_refusal(error.status_code, error.response.text)


def read_refusal(status: int, body: str) -> Refusal:
    """Read a refusal: OpenAI's `error`, FastAPI's `detail` with the place of a fault, a page, or any other text."""
    try:
        value = json.loads(body)
    except ValueError:
        value = body
    inner = value.get("error") or value if isinstance(value, dict) else value
    message = inner.get("message") or inner.get("detail") if isinstance(inner, dict) else inner
    text = message if isinstance(message, str) else " ".join(_texts(message or value))
    named = inner.get("code") if isinstance(inner, dict) else None
    if status in (0, 200):
        status = int(str(named)) if re.fullmatch("[45][0-9][0-9]", str(named)) else 0
    return Refusal(status, text, " ".join(_texts(value)))


def describe(error: Exception, key: str) -> str:
    """Return the message of an error, in one line and without secrets."""
    if isinstance(error, openai.APIConnectionError) and error.__cause__:
        return redact(one_line_of(f"{error} {error.__cause__}"), key)
    return redact(one_line(error, 160), key)


def one_line_of(text: str) -> str:
    """Return the beginning of a text in one line."""
    return " ".join(text.split())[:160]


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


def _texts(value: object) -> Iterator[str]:
    """Yield all texts and numbers of a parsed body."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from () if name in ECHOES else _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)
