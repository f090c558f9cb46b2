"""Request formats for JSON answers. OpenAI-compatible servers differ, and some ignore unknown arguments.

From most to least reliable: the SDK's parse with a strict schema; the same schema without strictness; a JSON object
with a schema beside it, as for llama.cpp; plain text, from which the JSON is extracted.
"""

from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel


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


class RequestFormat(NamedTuple):
    """The request format that a server accepts.

    Attributes:
        form: way to request the form of the answer.
        cap: name of the argument that limits its length.
        without: optional arguments that the server refuses.
    """

    form: ReplyFormat = ReplyFormat.PARSE
    cap: str = LENGTH_ARGUMENTS[0]
    without: tuple[str, ...] = ()

    def arguments(self, reply: type[BaseModel], *, most: int, temperature: float, seed: int) -> dict[str, Any]:
        """Return the arguments of a request besides model and messages.

        Args:
            reply: pydantic model of the answer.
            most: largest number of tokens of the answer.
            temperature: sampling temperature.
            seed: sampling seed.
        """
        free = {"temperature": temperature, "seed": seed}
        given = {name: value for name, value in free.items() if name not in self.without}
        return given | {self.cap: most} | self._format(reply)

    def _format(self, reply: type[BaseModel]) -> dict[str, Any]:
        schema = reply.model_json_schema()
        match self.form:
            case ReplyFormat.PARSE:
                return {"response_format": reply}
            case ReplyFormat.JSON_SCHEMA:
                named = {"name": "edits", "schema": schema}
                return {"response_format": {"type": "json_schema", "json_schema": named}}
            case ReplyFormat.JSON_OBJECT:
                more = {"type": "json_object", "schema": schema}  # which the SDK's types do not know
                return {"extra_body": {"response_format": more}}
            case ReplyFormat.TEXT:
                return {}

    def adapt(self, complaint: str) -> "RequestFormat | None":
        """Return the format without the argument that a server refuses; None if the message names no optional one."""
        if self.cap == LENGTH_ARGUMENTS[0] and LENGTH_ARGUMENTS[0] in complaint:
            return self._replace(cap=LENGTH_ARGUMENTS[1])
        named = [name for name in OPTIONAL_ARGUMENTS if name in complaint and name not in self.without]
        return self._replace(without=(*self.without, *named)) if named else None


def parse_request_format(value: Any) -> RequestFormat | None:
    """Parse a request format from the ledger; None if there is none, or it is from another version."""
    try:
        form, cap, without = value
        return RequestFormat(ReplyFormat(form), str(cap), tuple(without))
    except (TypeError, ValueError):
        return None
