"""Request formats for JSON answers: a table of what OpenAI-compatible servers take, and what they are asked instead.

From most to least reliable: the SDK's parse with a strict schema; the same schema without strictness; a JSON object
with a schema beside it, as for llama.cpp; plain text, from which the JSON is extracted. Some servers ignore unknown
arguments, some refuse them, and most say which.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel

from ip2p.remote.faults import Refusal


class ReplyFormat(StrEnum):
    """The way to request the form of the answer."""

    PARSE = "parse"
    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    TEXT = "text"


LENGTH_ARGUMENTS = ("max_tokens", "max_completion_tokens")
"""Names of the argument that limits the length; older and newer models of OpenAI accept different ones."""
OPTIONAL_ARGUMENTS = ("temperature", "seed")
"""Arguments that some models refuse."""
FIRST_REASONING = 2048
"""Tokens for reasoning that a model gets at first, once it is known to reason; doubled while answers are cut off."""

NO_SYSTEM = r"system\W+(?:role|message|prompt)|role\W+system|does not support 'system'|roles must alternate"
NO_FORMAT = r"response_format|json_schema|json_object|structured.?output|guided|grammar"
TOO_LONG = r"too large|at most \d+ (?:completion )?tokens|maximum context|context (?:length|window|size)"
"""Texts of servers that take no system message, not this form of answers, or not so long an answer."""


class RequestFormat(NamedTuple):
    """The request format that a server accepts.

    Attributes:
        form: way to request the form of the answer.
        cap: name of the argument that limits its length.
        without: optional arguments that the server refuses.
        folds: whether the system message is put into the user's first one.
        reasoning: tokens that the model gets for reasoning, beside those of the answer.
        limit: most tokens for reasoning that the server accepts; -1 if unknown.
    """

    form: ReplyFormat = ReplyFormat.PARSE
    cap: str = LENGTH_ARGUMENTS[0]
    without: tuple[str, ...] = ()
    folds: bool = False
    reasoning: int = 0
    limit: int = -1

    def messages(self, turns: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the messages of a request as the server takes them."""
        if not self.folds:
            return list(turns)
        system, first, *rest = turns
        told, asked = system["content"], first["content"]
        parts = [{"type": "text", "text": told}, *asked] if isinstance(asked, list) else f"{told}\n\n{asked}"
        return [{**first, "content": parts}, *rest]

    def arguments(
        self, reply: type[BaseModel], *, most: int, temperature: float, seed: int, extra: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the arguments of a request besides model and messages.

        Args:
            reply: pydantic model of the answer.
            most: largest number of tokens of the answer, without reasoning.
            temperature: sampling temperature.
            seed: sampling seed.
            extra: further arguments, which the SDK need not know.
        """
        free = {"temperature": temperature, "seed": seed}
        given = {name: value for name, value in free.items() if name not in self.without}
        extra_body = {**self._extra_format(reply), **extra}
        more = {"extra_body": extra_body} if extra_body else {}
        return given | {self.cap: most + self.reasoning} | self._format(reply) | more

    def body(self, reply: type[BaseModel], **options: Any) -> dict[str, Any]:
        """Return the same arguments as `arguments` as they are sent, where the SDK does not."""
        arguments = self.arguments(reply, **options)
        extra: dict[str, Any] = arguments.pop("extra_body", {})
        return arguments | extra

    def _format(self, reply: type[BaseModel]) -> dict[str, Any]:
        """Return the argument that the SDK knows."""
        if self.form is ReplyFormat.PARSE:
            return {"response_format": reply}
        if self.form is ReplyFormat.JSON_SCHEMA:
            named = {"name": reply.__name__, "schema": reply.model_json_schema()}
            return {"response_format": {"type": "json_schema", "json_schema": named}}
        return {}

    def _extra_format(self, reply: type[BaseModel]) -> dict[str, Any]:
        """Return the argument that the SDK's types do not know."""
        if self.form is not ReplyFormat.JSON_OBJECT:
            return {}
        return {"response_format": {"type": "json_object", "schema": reply.model_json_schema()}}

    def adapt(self, refusal: Refusal) -> "RequestFormat | None":
        """Return the format without what a server refuses; None if it names nothing that can be left out."""
        said = refusal.said
        if re.search(TOO_LONG, said, re.IGNORECASE):
            return self._replace(reasoning=self.reasoning // 2, limit=self.reasoning // 2) if self.reasoning else None
        if not self.folds and re.search(NO_SYSTEM, said, re.IGNORECASE):
            return self._replace(folds=True)
        if self.cap == LENGTH_ARGUMENTS[0] and refusal.names(self.cap):
            return self._replace(cap=LENGTH_ARGUMENTS[1])
        named = [name for name in OPTIONAL_ARGUMENTS if refusal.names(name) and name not in self.without]
        if named:
            return self._replace(without=(*self.without, *named))
        return self.fall_back() if re.search(NO_FORMAT, said, re.IGNORECASE) else None

    def fall_back(self) -> "RequestFormat | None":
        """Return the next form of answers, with all else that was learned of the server; None after the last."""
        forms = list(ReplyFormat)
        following = forms[forms.index(self.form) + 1 :]
        return self._replace(form=following[0]) if following else None

    def grow(self, most: int) -> "RequestFormat | None":
        """Return the format with more tokens for reasoning; None if there may not be more.

        Args:
            most: largest number of tokens for reasoning.
        """
        wanted = min(max(FIRST_REASONING, 2 * self.reasoning), most)
        wanted = wanted if self.limit < 0 else min(wanted, self.limit)
        return self._replace(reasoning=wanted) if wanted > self.reasoning else None

    def to_note(self) -> list[Any]:
        """Return the format as the ledger stores it."""
        return list(self)


def parse_request_format(value: Any) -> RequestFormat | None:
    """Parse a request format from the ledger; None if there is none, or it is from another version.

    Earlier versions stored the first three fields.
    """
    try:
        given = RequestFormat(*value)
        return given._replace(form=ReplyFormat(given.form), cap=str(given.cap), without=tuple(given.without))
    except (TypeError, ValueError):
        return None
