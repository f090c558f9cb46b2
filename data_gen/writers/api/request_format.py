"""How a server wants to be asked for JSON. OpenAI-compatible ones differ, and some overlook what they do not know.

In the order of trust: the SDK's parse with a strict schema; the same schema without strictness; a JSON object with the
schema beside it, as llama.cpp reads it; plain text, from which the JSON is picked out.
"""

from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel


class ReplyFormat(StrEnum):
    """How the form of the answer is asked for."""

    PARSE = "parse"
    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    TEXT = "text"


LENGTH_ARGUMENTS = ("max_tokens", "max_completion_tokens")
"""Names of the bound of an answer: older and newer models of OpenAI's each refuse the other."""
OPTIONAL_ARGUMENTS = ("temperature", "seed")
"""Arguments that some models refuse."""


class RequestFormat(NamedTuple):
    """What a server accepts.

    form: form of the answer. cap: name of the limit of its length. without: optional arguments that it refuses.
    """

    form: ReplyFormat = ReplyFormat.PARSE
    cap: str = LENGTH_ARGUMENTS[0]
    without: tuple[str, ...] = ()

    def arguments(self, reply: type[BaseModel], *, most: int, temperature: float, seed: int) -> dict[str, Any]:
        """Arguments of a request besides model and messages.

        Args:
            reply: form of the answer.
            most: tokens of the answer.
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
        """This format without what a server complains of; None if the complaint names nothing that can be left."""
        if self.cap == LENGTH_ARGUMENTS[0] and LENGTH_ARGUMENTS[0] in complaint:
            return self._replace(cap=LENGTH_ARGUMENTS[1])
        named = [name for name in OPTIONAL_ARGUMENTS if name in complaint and name not in self.without]
        return self._replace(without=(*self.without, *named)) if named else None


def parse_request_format(value: Any) -> RequestFormat | None:
    """A request format as it was noted; None if it was not, or is of another version."""
    try:
        form, cap, without = value
        return RequestFormat(ReplyFormat(form), str(cap), tuple(without))
    except (TypeError, ValueError):
        return None
