"""Settings of a server and its budget, and the kinds of requests: everything in which writers and judges differ."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import BaseModel

from ip2p.records import content_id


class Task(NamedTuple):
    """Request to a model.

    Attributes:
        reply: pydantic model of an answer.
        count: function that returns how many answers of the wanted form are in a text.
        answer: what one of these is called, such as "edit".
        subjects: what the questions are about, such as "captions".
    """

    reply: type[BaseModel]
    count: Callable[[str], int]
    answer: str
    subjects: str


@dataclass(frozen=True)
class ServerSettings:
    """Address, model and budget of a server; see the fields of the same names in the config of triples.

    Attributes:
        prefix: what stands before the names of these settings in the config, such as "triples.".
        names: names of settings that are called otherwise, such as options of a command.
        halved: whether the server takes half of the known price.
    """

    prefix: str
    model: str
    base_url: str
    temperature: float
    parallel: int
    max_usd: float
    max_tokens: int
    reply_tokens: int
    max_reasoning_tokens: int
    reasoning_effort: str | None
    cache: str
    skip_unanswered: bool
    price_in: float | None
    price_out: float | None
    extra_body: dict[str, Any] = field(default_factory=dict)
    halved: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    def key(self, name: str) -> str:
        """Return the key in the config of one of these settings, for messages."""
        if name in self.names:
            return self.names[name]
        return self.prefix.rstrip("._") if name == "model" and self.prefix.endswith("_") else f"{self.prefix}{name}"

    def room(self, written: int) -> int:
        """Return the largest number of tokens that an answer may have: twice its own, and those of reasoning.

        Args:
            written: most tokens of an answer, without reasoning.
        """
        return 2 * written + self.max_reasoning_tokens

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that every request has besides those that ip2p chooses."""
        effort = {"reasoning_effort": self.reasoning_effort} if self.reasoning_effort else {}
        return effort | self.extra_body


def question_key(settings: ServerSettings, model: str, seed: int, *texts: str) -> str:
    """Return the hash of a question: of the model, of how it is asked, and of what it is told."""
    more = settings.arguments()
    asked = [json.dumps(more, sort_keys=True)] if more else []  # so that other keys are those of earlier versions
    return content_id(model, repr(settings.temperature), str(seed), *asked, *texts)
