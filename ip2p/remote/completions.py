"""Reading of what a server answers: chat completions, streams, errors with status 200, and pages."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ip2p.records import Reason
from ip2p.remote.faults import Action, Fault, Refusal, classify_refusal, read_refusal, redact
from ip2p.remote.reply_text import opens_thought, strip_thoughts
from ip2p.remote.server import Task

CUT_OFF = ("length", "max_tokens", "model_length")
FILTERED = ("content_filter", "safety", "sensitive", "prohibited_content", "recitation")
"""Reasons for which a model has finished, in small letters; servers differ."""
THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message that hold the model's thoughts, where the server takes these out of the text."""


class Usage(NamedTuple):
    """Tokens of a request: read, written, and those of the written ones that are reasoning."""

    read: int
    written: int
    reasoning: int


class Completion(NamedTuple):
    """Answer of a server.

    Attributes:
        text: text of the answer.
        thoughts: thoughts of the model, if the server gives them apart.
        finish: reason for which the model has finished, in small letters.
        refusal: the model's refusal of the content.
        usage: tokens; None if the server does not count them.
        error: the server's refusal of the request, with status 200.
    """

    text: str = ""
    thoughts: str = ""
    finish: str = ""
    refusal: str = ""
    usage: Usage | None = None
    error: Refusal | None = None

    @property
    def reasons(self) -> bool:
        """Whether the model reasons, so that an answer that is cut off needs more than the length of its text."""
        return (
            bool(self.reasoning or self.thoughts) or strip_thoughts(self.text) != self.text or opens_thought(self.text)
        )

    @property
    def reasoning(self) -> int:
        """Tokens of reasoning, as the server counts them."""
        return self.usage.reasoning if self.usage else 0

    @property
    def lacks_reasoning(self) -> bool:
        """Whether the answer is cut off because the model reasons."""
        return self.finish in CUT_OFF and (self.reasons or not self.text.strip())


def parse_completion(body: str, count: Callable[[str], int]) -> Completion | None:
    """Parse the body of a response with status 200; None if it is neither JSON nor a stream.

    Args:
        body: body of the response.
        count: function that returns how many answers a text has, see `Task`.
    """
    try:
        value = json.loads(body)
    except ValueError:
        chunks = list(_parse_stream(body))
        return _join(chunks, count) if chunks else None
    return _read(value, count) if isinstance(value, dict) else Completion()


def read_completion(completion: Completion | None, wanted: int, task: Task, key: str) -> tuple[str, Fault | None]:
    """Return the text of an answer without the secret key, or its fault.

    Args:
        completion: what the server answers; None for what is none.
        wanted: number of answers that were asked for.
        task: what was asked for.
        key: secret API key.
    """
    if completion is None:
        return "", Fault("body is no JSON", Action.AGAIN)
    if completion.error:
        return "", classify_refusal(completion.error, key)
    if completion.refusal:
        return "", Fault("refusal", Action.REFUSE, Reason.WRITER_REFUSED)
    if completion.finish in FILTERED:
        return "", Fault("content filter", Action.REFUSE, Reason.WRITER_REFUSED)
    text = redact(completion.text, key)
    found = task.count(text)
    if completion.finish in CUT_OFF and found < wanted:
        return "", Fault("cut off", Action.MEND, Reason.CUT_OFF)
    return (text, None) if found else ("", Fault(f"no {task.answer} in the answer", Action.MEND, Reason.BAD_REPLY))


def _read(value: dict[str, Any], count: Callable[[str], int]) -> Completion:
    """Read a chat completion, or an error in place of one or within it."""
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = value.get("error") or choice.get("error") or ({} if "choices" in value else value)
    usage = _read_usage(value.get("usage"))
    if error or str(choice.get("finish_reason")).lower() == "error":
        return Completion(usage=usage, error=read_refusal(200, json.dumps({"error": error or choice})))
    message = choice.get("message") or choice.get("delta") or {}
    text, thoughts = _read_message(message if isinstance(message, dict) else {})
    finish = str(choice.get("finish_reason") or "").lower()
    if not text.strip() and finish not in CUT_OFF and _is_answer(thoughts, count):
        text, thoughts = thoughts, ""  # some parsers take the whole answer for a thought if thinking is switched off
    refusal = message.get("refusal") if isinstance(message, dict) else None
    return Completion(text, thoughts, finish, str(refusal or ""), usage)


def _read_message(message: dict[str, Any]) -> tuple[str, str]:
    """Return text and thoughts of a message; its content may be a list of parts, or the arguments of a function."""
    content = message.get("content")
    thoughts = "".join(str(message[name]) for name in THOUGHT_KEYS if isinstance(message.get(name), str))
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        thoughts += "".join(str(part.get("thinking") or "") for part in parts)
        content = "".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))
    if not content and isinstance(calls := message.get("tool_calls"), list) and calls and isinstance(calls[0], dict):
        called = calls[0].get("function")
        content = called.get("arguments") if isinstance(called, dict) else None
    return (content if isinstance(content, str) else json.dumps(content) if content else ""), thoughts


def _is_answer(thoughts: str, count: Callable[[str], int]) -> bool:
    """Return whether a supposed thought is the answer in JSON and nothing else."""
    try:
        return isinstance(json.loads(thoughts), dict) and bool(count(thoughts))
    except (ValueError, RecursionError):
        return False


def _read_usage(value: object) -> Usage | None:
    """Read the counts of tokens; None if there are none."""
    if not isinstance(value, dict):
        return None
    details = value.get("completion_tokens_details")
    reasoning = details.get("reasoning_tokens") if isinstance(details, dict) else None
    try:
        return Usage(int(value["prompt_tokens"]), int(value["completion_tokens"]), int(reasoning or 0))
    except (KeyError, TypeError, ValueError):
        return None


def _parse_stream(body: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream, which some servers send though nobody asked for one."""
    for line in body.splitlines():
        if line.startswith("data:"):
            try:
                value = json.loads(line.removeprefix("data:"))
            except ValueError:
                continue  # the last one is [DONE]
            if isinstance(value, dict):
                yield value


def _join(chunks: list[dict[str, Any]], count: Callable[[str], int]) -> Completion:
    """Join the events of a stream."""
    parts = [_read(chunk, count) for chunk in chunks]
    usage = next((part.usage for part in reversed(parts) if part.usage), None)
    error = next((part.error for part in parts if part.error), None)
    finish = next((part.finish for part in reversed(parts) if part.finish), "")
    text, thoughts = "".join(part.text for part in parts), "".join(part.thoughts for part in parts)
    return Completion(text, thoughts, finish, "".join(part.refusal for part in parts), usage, error)
