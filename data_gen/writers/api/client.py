"""Ask a language model many questions concurrently, within a budget; handles all faults, and is safe to kill.

The SDK retries requests that the server refuses temporarily. If it gives up, the question goes back to the queue, which
has all questions without an answer in the ledger, so a run that was killed resumes. The cost of every request is
reserved before it is sent, including retries of the SDK.
"""

import asyncio
import contextvars
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import httpx2
import openai
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, ValidationError

from ip2p.data_gen.triples.proposals import Message
from ip2p.data_gen.writers.api.faults import (
    NO_MONEY,
    RESUME_HINT,
    Action,
    Fault,
    classify_completion,
    classify_error,
    describe,
    redact,
)
from ip2p.data_gen.writers.api.ledger import Answer, Cost, Ledger
from ip2p.data_gen.writers.api.prices import Price
from ip2p.data_gen.writers.api.rate_limit import RateLimiter
from ip2p.data_gen.writers.api.request_format import ReplyFormat, RequestFormat, parse_request_format
from ip2p.data_gen.writers.replies import read_reply
from ip2p.errors import WriterError
from ip2p.records import Reason
from ip2p.seeding import derive_seed

TIMEOUT = 60.0
"""Time limit of a request in seconds; the SDK's default of ten minutes would block a worker for half an hour."""
RETRIES = 2
"""Retries of the SDK before a question goes back to the queue."""
ROUNDS = 4
"""Largest number of rounds; each asks the questions without an answer from the round before."""
ROUND_PAUSE = 2.0
"""Seconds before the second round, doubled for each further one."""
PROBES = 3
"""Largest number of questions to find the server's request format with."""
FAILED_SHARE = 0.02
"""Largest share of questions without an answer, whose rows are refused; with more, the run stops."""


class Question(NamedTuple):
    """A question to the model.

    Attributes:
        key: hash of the question.
        messages: messages of the request.
        edits: number of requested edits.
        most: largest possible cost.
    """

    key: str
    messages: list[Message]
    edits: int
    most: Cost


class _Call:
    """A request of the SDK: its largest possible cost, its open reservation, and whether it was sent before."""

    def __init__(self, most: Cost, reservation: int) -> None:
        self.most = most
        self.reservation: int | None = reservation
        self.sent = False


_CALL: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("call", default=None)
"""The call of the current task, for the hooks of the HTTP client, which run in the same task."""


class Client:
    """Asks a server.

    Args:
        ledger: ledger of answers and costs.
        model: name of the model on the server.
        key: secret API key; never shown or written.
        base_url: address of the server; "" for OpenAI's own.
        price: price of the model.
        reply: pydantic model of an answer.
        temperature: sampling temperature.
        parallel: largest number of requests in progress.
        seed: seed of the run.
        advance: function called for every question that is answered or finally refused.
    """

    def __init__(
        self, ledger: Ledger, *, model: str, key: str, base_url: str, price: Price, reply: type[BaseModel],
        temperature: float, parallel: int, seed: int, advance: Callable[[], None],
    ) -> None:  # fmt: skip
        self.ledger, self.model, self.key, self.price, self.reply = ledger, model, key, price, reply
        self.temperature, self.parallel, self.seed, self.advance = temperature, parallel, seed, advance
        self.server = f"{base_url or 'OpenAI'} {model}"
        self.request_format = parse_request_format(ledger.notes.get(self.server))
        self.rate_limiter = RateLimiter()
        self.stopped: WriterError | None = None
        self._failed_in_a_row = self._in_flight = 0
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._reserve], "response": [self._read_response]}
        self.client = openai.AsyncOpenAI(
            api_key=key or "none", base_url=base_url or None, timeout=TIMEOUT, max_retries=RETRIES,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks),
        )  # fmt: skip

    async def ask_all(self, questions: Sequence[Question]) -> None:
        """Ask until the ledger has an answer or a reason for every question.

        Raises:
            WriterError: the server fails or refuses, or the budget is spent. Earlier answers are kept.
        """
        async with self.client:
            for number in range(ROUNDS):
                left = self._unanswered(questions)
                if number:
                    self.rate_limiter.pause(ROUND_PAUSE * 2 ** (number - 1) * bool(left))
                await self._round(left)
        give_up(self.ledger, questions, self.server, self.advance)

    async def find_request_format(self, questions: Sequence[Question]) -> None:
        """Find the server's request format with a question, or with another one if it refuses the first.

        Raises:
            WriterError: the server cannot be reached, or refuses all requests.
        """
        for question in questions[:PROBES]:
            if await self._probe(question):
                return
        self._remember(self.request_format or RequestFormat(ReplyFormat.TEXT))

    async def _probe(self, question: Question) -> bool:
        """Ask one question in all request formats until one works.

        A format works if the answer can be parsed or is a refusal of the content. A server without support for a format
        refuses it, fails, or ignores it and answers in prose. Each format is tried twice, because servers and small
        models fail at random.
        """
        fault: Fault | None = None
        for form in ReplyFormat:
            request_format: RequestFormat | None = RequestFormat(form)
            tries = 0
            while request_format and tries < 2:
                await self.rate_limiter.wait()
                fault, complaint = await self._ask(
                    question, request_format, number=tries, retries=RETRIES if tries else 0
                )
                self._stop_at(fault)
                tries += 1
                if fault is None or fault.reason is Reason.WRITER_REFUSED:
                    self._remember(request_format)
                    return True
                if adapted := request_format.adapt(complaint):
                    request_format, tries = adapted, 0
        if fault and fault.do is Action.AGAIN:
            raise WriterError(f"the server cannot be reached or fails ({fault.name})", RESUME_HINT)
        return False

    def _remember(self, request_format: RequestFormat) -> None:
        self.request_format = request_format
        self.ledger.note(self.server, [request_format.form.value, request_format.cap, list(request_format.without)])

    def _unanswered(self, questions: Sequence[Question]) -> list[Question]:
        return [question for question in questions if question.key not in self.ledger.answers]

    async def _round(self, questions: Sequence[Question]) -> None:
        """Ask each question once, after finding the request format if it is unknown."""
        if questions and self.request_format is None:
            await self.find_request_format(questions)
        if left := self._unanswered(questions):
            shared = iter(left)
            workers = [asyncio.create_task(self._work(shared)) for _ in range(min(self.parallel, len(left)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
        if self.stopped:
            raise self.stopped

    async def _work(self, questions: Iterator[Question]) -> None:
        """Ask questions from the shared queue until it is empty or the run stops."""
        assert self.request_format is not None
        try:
            for question in questions:
                await self._wait_to_ask(question)
                if self.stopped:
                    return
                fault, complaint = await self._ask(question, self.request_format)
                if fault and fault.do is Action.MEND:
                    fault, complaint = await self._ask(question, self.request_format, number=1, last=True)
                self._stop_at(fault)
                self._watch(fault)
                if fault and (adapted := self.request_format.adapt(complaint)):
                    self._remember(adapted)
        except WriterError as error:
            self.stopped = self.stopped or error

    async def _wait_to_ask(self, question: Question) -> None:
        """Wait until the server accepts requests and the budget has room, or no open request can free any."""
        await self.rate_limiter.wait()
        while not self.stopped and self._in_flight and not self.ledger.fits(question.most):
            await asyncio.sleep(0.02)

    async def _ask(
        self,
        question: Question,
        request_format: RequestFormat,
        *,
        number: int = 0,
        last: bool = False,
        retries: int = RETRIES,
    ) -> tuple[Fault | None, str]:
        """Ask a question once, and write the outcome to the ledger.

        Args:
            question: the question to ask.
            request_format: request format that the server accepts.
            number: number of the attempt, from which the sampling seed follows.
            last: whether an answer that cannot be parsed refuses the question.
            retries: number of retries by the SDK.

        Returns:
            The fault, and what the server said about it.
        """
        call, cost, text, complaint = _Call(question.most, self.ledger.reserve(question.most)), Cost(), "", ""
        _CALL.set(call)
        self._in_flight += 1
        try:
            raw = await self._send(question, request_format, number, retries)
            cost = self._cost(raw.text, question)
            text, fault = read_completion(_parse_completion(raw), question, self.key)
        except (openai.OpenAIError, ValueError, TypeError, AttributeError, IndexError) as error:
            fault, complaint = classify_error(error, self.key), describe(error, self.key)
            lost = call.reservation is not None and isinstance(error, openai.APIConnectionError)
            cost = question.most if lost else cost  # nobody knows whether it arrived: it may be billed
        finally:
            self._in_flight -= 1
            _CALL.set(None)
        self._write_down(question, call, cost, text, fault, last)
        self.rate_limiter.pause(fault.wait if fault else 0.0)
        return fault, complaint

    def _write_down(
        self, question: Question, call: _Call, cost: Cost, text: str, fault: Fault | None, last: bool
    ) -> None:
        """Write cost and answer in one line of the ledger."""
        answer: Answer | None = None
        if fault is None:
            answer = Answer(text)
        elif self.request_format and fault.ends(last=last):  # else the form may be wrong
            answer = Answer(reason=fault.reason.value)
        ended = {"key": question.key, "text": answer.text, "reason": answer.reason} if answer else {}
        if call.reservation is not None:
            self.ledger.settle(call.reservation, cost, fault=fault.name if fault else "", **ended)
        elif answer:
            self.ledger.answer(question.key, answer)
        if answer:
            self.advance()

    async def _send(self, question: Question, request_format: RequestFormat, number: int, retries: int) -> Any:
        """Send a request; returns the raw response, whose cost is known even if it cannot be parsed."""
        completions = self.client.with_options(max_retries=retries).chat.completions.with_raw_response
        send: Callable[..., Any] = completions.parse if request_format.form is ReplyFormat.PARSE else completions.create
        draw = random.Random(derive_seed(self.seed, "ask", question.key, number)).randrange(2**31)
        arguments = request_format.arguments(
            self.reply, most=question.most.tokens_out, temperature=self.temperature, seed=draw
        )
        return await send(model=self.model, messages=question.messages, **arguments)

    def _cost(self, body: str, question: Question) -> Cost:
        """Return the cost that an answer reports, or else the reserved cost."""
        try:
            usage = json.loads(body)["usage"]
            return self.price.of(int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
        except (ValueError, TypeError, KeyError):
            return question.most

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
        if any(code in response.text for code in NO_MONEY):
            response.headers["x-should-retry"] = "false"  # the SDK would try again, and no money comes from that

    def _stop_at(self, fault: Fault | None) -> None:
        if fault and fault.do is Action.STOP:
            assert fault.error is not None
            raise fault.error

    def _watch(self, fault: Fault | None) -> None:
        """Stop the run after too many failures in a row."""
        self._failed_in_a_row = self._failed_in_a_row + 1 if fault and fault.do is Action.AGAIN else 0
        if fault and self._failed_in_a_row >= max(8, 2 * self.parallel):
            raise WriterError(f"the server cannot be reached or fails ({fault.name})", RESUME_HINT)


def connect(base_url: str, key: str, **options: Any) -> openai.OpenAI:
    """Return a synchronous client; a local server accepts any key, but the SDK requires one."""
    return openai.OpenAI(api_key=key or "none", base_url=base_url or None, timeout=TIMEOUT, **options)


def give_up(ledger: Ledger, asked: Sequence[Question], server: str, advance: Callable[[], None]) -> None:
    """Refuse the few questions without an answer after all rounds.

    Args:
        ledger: ledger of the answers.
        asked: all questions of this run.
        server: name of the server in errors.
        advance: function called for each refused question.

    Raises:
        WriterError: too many questions have no answer.
    """
    left = [question for question in asked if question.key not in ledger.answers]
    if len(left) > max(1, FAILED_SHARE * len(asked)):
        raise WriterError(f"{len(left)} of {len(asked)} captions got no answer from {server}", RESUME_HINT)
    for question in left:
        ledger.answer(question.key, Answer(reason=Reason.WRITER_ERROR.value))
        advance()


def read_completion(completion: ChatCompletion, question: Question, key: str) -> tuple[str, Fault | None]:
    """Return the text of an answer without the secret key, or its fault."""
    if fault := classify_completion(completion):
        return "", fault
    text = redact(completion.choices[0].message.content or "", key)
    if read_reply(text, question.edits)[0].reason is Reason.BAD_REPLY:
        return "", Fault("no edit in the answer", Action.MEND, Reason.BAD_REPLY)
    return text, None


def _parse_completion(raw: Any) -> ChatCompletion:
    """Parse the completion in a response, even if its text does not have the requested form."""
    try:
        completion: ChatCompletion = raw.parse()
    except ValidationError:
        completion = ChatCompletion.model_validate_json(raw.text)
    return completion
