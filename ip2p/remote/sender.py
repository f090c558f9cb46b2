"""Send one question at a time, and book what it costs: before it is sent, and again when the answer says."""

import contextvars
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import httpx2
import openai

from ip2p.records import Reason
from ip2p.remote.completions import Completion, parse_completion, read_completion
from ip2p.remote.connection import TIMEOUT, connect_async
from ip2p.remote.faults import (
    Action,
    Fault,
    Refusal,
    classify_error,
    classify_refusal,
    read_refusal,
    refusal_of,
)
from ip2p.remote.ledger import Cost, Ledger
from ip2p.remote.prices import Price
from ip2p.remote.rate_limit import RateLimiter
from ip2p.remote.request_format import ReplyFormat, RequestFormat
from ip2p.remote.server import ServerSettings, Task
from ip2p.seeding import derive_seed

RETRIES = 2
"""Retries of the SDK before a question goes back to the queue."""
TOKENS_PER_SECOND = 25.0
"""Speed of a slow server, by which long answers get more time."""


class Question(NamedTuple):
    """A question to the model.

    Attributes:
        key: hash of the question.
        messages: messages of the request.
        wanted: number of answers that are asked for, such as edits.
        most: largest possible cost, without reasoning.
        room: largest number of tokens that an answer may ever have, with reasoning.
    """

    key: str
    messages: Sequence[Mapping[str, Any]]
    wanted: int
    most: Cost
    room: int


class Outcome(NamedTuple):
    """Outcome of a request: completion, refusal and fault; None for each that there is not."""

    completion: Completion | None = None
    refusal: Refusal | None = None
    fault: Fault | None = None

    @property
    def lacks_reasoning(self) -> bool:
        """Whether the answer is cut off because the model reasons."""
        return bool(self.fault and self.completion and self.completion.lacks_reasoning)

    @property
    def lacks_start(self) -> bool:
        """Whether the answer is cut off before any JSON, maybe in a thought that is not marked as one."""
        return bool(
            self.fault and self.fault.reason is Reason.CUT_OFF and self.completion and "{" not in self.completion.text
        )


class _Call:
    """A request of the SDK: its largest possible cost, its open reservation, and whether it was sent before."""

    def __init__(self, most: Cost, reservation: int) -> None:
        self.most = most
        self.reservation: int | None = reservation
        self.sent = False


_CALL: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("call", default=None)
"""The call of the current task, for the hooks of the HTTP client, which run in the same task."""


class Sender:
    """Sends requests to a server. See Client for arguments and errors.

    Attributes:
        client: client of the SDK, a context to send requests in.
        rate_limiter: when the next request may be sent.
        in_flight: number of requests in progress.
        raw: the last body that is no answer.
    """

    def __init__(
        self, ledger: Ledger, settings: ServerSettings, *, model: str, key: str, price: Price, task: Task, seed: int,
    ) -> None:  # fmt: skip
        self.ledger, self.settings, self.model, self.key = ledger, settings, model, key
        self.price, self.task, self.seed = price, task, seed
        self.rate_limiter, self.in_flight, self.raw = RateLimiter(), 0, ""
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._reserve], "response": [self._read_response]}
        self.client = connect_async(settings.base_url, key, RETRIES, hooks)

    def most(self, question: Question, used: RequestFormat, room: int = 1) -> Cost:
        """Return the largest possible cost of a request."""
        return self.price.of(question.most.tokens_in, room * question.most.tokens_out + used.reasoning)

    async def ask(
        self, question: Question, used: RequestFormat, *, number: int = 0, room: int = 1, retries: int = RETRIES
    ) -> Outcome:
        """Ask a question once, and write costs and answer to the ledger.

        Args:
            question: the question to ask.
            used: request format.
            number: number of the attempt, from which the sampling seed follows.
            room: how many times the usual length the answer may have, without reasoning.
            retries: number of retries by the SDK.

        Raises:
            WriterError: no other question can be asked, either.
        """
        most = self.most(question, used, room)
        call, cost, text, reasoning = _Call(most, self.ledger.reserve(most)), Cost(), "", 0
        _CALL.set(call)
        self.in_flight += 1
        try:
            body = await self._send(question, used, number, room, retries)
            completion = parse_completion(body, self.task.count)
            text, fault = read_completion(completion, question.wanted, self.task, self.key)
            outcome = Outcome(completion, completion.error if completion else None, fault)
            self.raw = body if fault else self.raw
            cost, reasoning = self._cost(completion, most), completion.reasoning if completion else 0
        except (openai.OpenAIError, ValueError) as error:
            refusal = refusal_of(error) if isinstance(error, openai.APIStatusError) else None
            outcome = Outcome(None, refusal, classify_error(error, self.key))
            self.raw = error.response.text if isinstance(error, openai.APIStatusError) else str(error)
            lost = call.reservation is not None and isinstance(error, openai.APIConnectionError)
            cost = most if lost else cost  # nobody knows whether it arrived: it may be billed
        finally:
            self.in_flight -= 1
            _CALL.set(None)
        self._write_down(question, call, cost, reasoning, text, outcome.fault)
        if outcome.fault and outcome.fault.error:
            raise outcome.fault.error
        return outcome

    def _write_down(
        self, question: Question, call: _Call, cost: Cost, reasoning: int, text: str, fault: Fault | None
    ) -> None:
        """Write cost and answer in one line of the ledger."""
        answer = {} if fault else {"key": question.key, "text": text, "reason": ""}
        if call.reservation is not None:
            name = fault.name if fault else ""
            self.ledger.settle(call.reservation, cost, fault=name, reasoning=reasoning, **answer)

    async def _send(self, question: Question, used: RequestFormat, number: int, room: int, retries: int) -> str:
        """Send a request; returns the body of the response, which may be anything."""
        cap = room * question.most.tokens_out
        seconds = TIMEOUT + (cap + used.reasoning) / TOKENS_PER_SECOND
        completions = self.client.with_options(max_retries=retries, timeout=seconds).chat.completions.with_raw_response
        parses = used.form is ReplyFormat.PARSE  # which makes a strict schema of the model
        send: Callable[..., Any] = completions.parse if parses else completions.create
        draw = random.Random(derive_seed(self.seed, "ask", question.key, number)).randrange(2**31)
        arguments = used.arguments(
            self.task.reply, most=cap, temperature=self.settings.temperature, seed=draw,
            extra=self.settings.arguments(),
        )  # fmt: skip
        return str((await send(model=self.model, messages=used.messages(question.messages), **arguments)).text)

    def _cost(self, completion: Completion | None, most: Cost) -> Cost:
        """Return the cost that an answer reports, none for an error, or else the reserved cost."""
        if completion and completion.usage:
            return self.price.of(completion.usage.read, completion.usage.written)
        return Cost() if completion and completion.error else most

    async def _reserve(self, request: httpx2.Request) -> None:
        """Reserve the cost before every request, including retries of the SDK."""
        if call := _CALL.get():
            if call.sent and call.reservation is not None:  # it got no answer; it and the next may both be billed
                self.ledger.settle(call.reservation, call.most, fault="lost")
                call.reservation = None
            if call.reservation is None:
                call.reservation = self.ledger.reserve(call.most)
            call.sent = True

    async def _read_response(self, response: httpx2.Response) -> None:
        """Read rate limits from every response, and release the reservation of a refused request."""
        call = _CALL.get()
        self.rate_limiter.read_headers(response.headers, call.most.tokens if call else 0)
        if call is None or call.reservation is None or response.status_code < 400:
            return
        self.ledger.settle(call.reservation, Cost(), fault=f"status {response.status_code}")
        call.reservation = None
        await response.aread()
        if classify_refusal(read_refusal(response.status_code, response.text), self.key).do is Action.STOP:
            response.headers["x-should-retry"] = "false"  # the SDK would try again, and no money comes from that
