"""Write triples by the Batch API: half the price, with answers within a day.

All questions are uploaded as one file, and answers come in any order with the key of their question. A batch that
expires or is canceled still gives some answers; the missing questions go into the next one. The questions of a batch
are in the ledger before it starts, and in its metadata, so a run that was killed finds the batch again.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import openai
from openai.types import Batch
from pydantic import BaseModel

from ip2p.data_gen.writers.api.writer import ApiWriter
from ip2p.errors import WriterError
from ip2p.plurals import counted
from ip2p.remote.client import check_answers
from ip2p.remote.completions import parse_completion, read_completion
from ip2p.remote.connection import connect
from ip2p.remote.faults import (
    RESUME_HINT,
    Action,
    classify_error,
    classify_refusal,
    describe,
    read_refusal,
    redact,
)
from ip2p.remote.ledger import Answer, Cost, total
from ip2p.remote.reply_text import show
from ip2p.remote.request_format import ReplyFormat, RequestFormat, parse_request_format
from ip2p.remote.sender import Outcome, Question

ENDPOINT: Final = "/v1/chat/completions"
MAX_REQUESTS = 50_000
MAX_FILE_BYTES = 190_000_000
POLL_SECONDS = 30.0
"""Seconds between two polls of a batch."""
MAX_WAIT = 26 * 3600.0
"""Seconds after which a batch without an end is given up; it should take at most a day."""
MAX_BATCHES = 5
"""Largest number of batches for one set of questions; each has the unanswered ones of the batch before."""
LISTED_BATCHES = 100
"""Number of the account's latest batches that are searched for one of a killed run."""
END_STATES = ("completed", "failed", "expired", "cancelled")
NOTE = "batch"
METADATA_KEY = "ip2p"


class StartedBatch(BaseModel):
    """A batch in the ledger: questions by key, their reservation, and its id once it has one."""

    keys: list[str]
    reservation: int
    id: str = ""

    @property
    def contents_id(self) -> str:
        """Hash of the questions, for the batch's metadata."""
        return hashlib.sha256("\n".join([str(self.reservation), *self.keys]).encode()).hexdigest()[:32]


class BatchWriter(ApiWriter):
    """Asks a language model for edits in batches. See ApiWriter for arguments and errors."""

    raw = ""
    """The last line of a batch that is no answer."""

    def ask(self, questions: Sequence[Question], advance: Callable[[], None]) -> None:
        by_key = {question.key: question for question in questions}
        with connect(self.server.base_url, self.key) as client:
            try:
                for number in range(MAX_BATCHES):
                    left = [each for each in questions if not self.ledger.find(each.key, each.room)]
                    while left:
                        started = self._find_or_start(client, left)
                        self._collect(
                            client, self._wait(client, started), started, by_key, advance, number == MAX_BATCHES - 1
                        )
                        left = [each for each in left if each.key not in {*started.keys, *self.ledger.answers}]
            except openai.OpenAIError as error:
                fault = classify_error(error, self.key)
                said = describe(error, self.key)
                raise fault.error or WriterError(f"the batch cannot go on ({said})", RESUME_HINT) from None
        server = f"{self.name} in {MAX_BATCHES} batches"
        check_answers(self.ledger, self.server, questions, self.task, server, redact(show(self.raw), self.key))

    @property
    def request_format(self) -> RequestFormat:
        """The request format, as far as the errors of earlier batches have told it."""
        return parse_request_format(self.ledger.notes.get(self._format_key)) or RequestFormat(ReplyFormat.JSON_SCHEMA)

    @property
    def _format_key(self) -> str:
        return f"{self.server.base_url or 'OpenAI'} {self.name} (batch)"

    def _most(self, question: Question) -> Cost:
        """Return the largest possible cost of a request."""
        return self.price.of(question.most.tokens_in, question.most.tokens_out + self.request_format.reasoning)

    def _find_or_start(self, client: openai.OpenAI, left: Sequence[Question]) -> StartedBatch:
        """Return the running batch, or start one with as many questions as fit into it and into the budget."""
        noted = self.ledger.notes.get(NOTE)
        started = StartedBatch.model_validate(noted) if noted else self._reserve(left)
        if not started.id:  # a killed run may have started it and not have noted that
            found = (
                each
                for each in client.batches.list(limit=LISTED_BATCHES).data
                if _read_contents_id(each) == started.contents_id
            )
            batch = next(found, None) or self._create(client, started, {each.key: each for each in left})
            started = started.model_copy(update={"id": batch.id})
            self.ledger.note(NOTE, started.model_dump())
            self.say(f"batch {started.id} of {len(started.keys)} questions; a stopped run finds it again")
        return started

    def _reserve(self, left: Sequence[Question]) -> StartedBatch:
        costs = accumulate((self._most(each) for each in left), initial=Cost())
        fitting = sum(self.ledger.fits(cost) for cost in costs) - 1
        chosen = left[: max(1, min(fitting, MAX_REQUESTS))]
        sizes = accumulate(len(self._line(each)) for each in chosen)
        chosen = chosen[: max(1, sum(size <= MAX_FILE_BYTES for size in sizes))]
        started = StartedBatch(
            keys=[each.key for each in chosen], reservation=self.ledger.reserve(total(map(self._most, chosen)))
        )
        self.ledger.note(NOTE, started.model_dump())
        return started

    def _create(self, client: openai.OpenAI, started: StartedBatch, by_key: Mapping[str, Question]) -> Batch:
        lines = b"".join(self._line(by_key[key]) for key in started.keys if key in by_key)
        file = client.files.create(file=("questions.jsonl", io.BytesIO(lines)), purpose="batch")
        return client.batches.create(
            input_file_id=file.id,
            endpoint=ENDPOINT,
            completion_window="24h",
            metadata={METADATA_KEY: started.contents_id},
        )

    def _line(self, question: Question) -> bytes:
        """Return the line of the uploaded file for a question."""
        used = self.request_format
        arguments = used.body(
            self.task.reply, most=question.most.tokens_out, temperature=self.settings.temperature,
            seed=self.seed % 2**31, extra=self.server.arguments(),
        )  # fmt: skip
        body = {"model": self.name, "messages": used.messages(question.messages), **arguments}
        line = {"custom_id": question.key, "method": "POST", "url": ENDPOINT, "body": body}
        return json.dumps(line).encode() + b"\n"

    def _wait(self, client: openai.OpenAI, started: StartedBatch) -> Batch:
        """Poll the batch until it has ended; an unknown status counts as running."""
        deadline, status = time.monotonic() + MAX_WAIT, ""
        while True:
            batch = client.batches.retrieve(started.id)
            if batch.status != status:
                status = batch.status
                self.say(f"batch {batch.id}: {status}")
            if status in END_STATES:
                return batch
            if time.monotonic() > deadline:
                raise WriterError(f"batch {batch.id} is still {status} after a day", RESUME_HINT)
            time.sleep(POLL_SECONDS)

    def _collect(
        self, client: openai.OpenAI, batch: Batch, started: StartedBatch, by_key: Mapping[str, Question],
        advance: Callable[[], None], last: bool,
    ) -> None:  # fmt: skip
        """Write answers to the ledger, and the end of the batch last, so that a killed run repeats it."""
        cost, reasoning, outcomes, texts = Cost(), 0, dict[str, Outcome](), dict[str, str]()
        files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
        for line in (line for file in files for line in _parse_lines(client.files.content(file).text)):
            question = by_key.get(str(line.get("custom_id")))
            if question is None or question.key in outcomes:
                continue
            outcomes[question.key], texts[question.key], usage = self._read(line, question)
            cost += usage
            done = outcomes[question.key].completion
            reasoning += done.reasoning if done else 0
        self._record(outcomes, texts, by_key, advance, last)
        self.ledger.settle(
            started.reservation, cost, fault="" if batch.status == "completed" else f"batch {batch.status}",
            reasoning=reasoning,
        )  # fmt: skip
        self.ledger.note(NOTE, None)
        if batch.status == "failed":
            said = "; ".join(error.message or "" for error in (batch.errors and batch.errors.data) or [])
            raise WriterError(f"the server refuses the batch ({said[:160] or 'it does not say why'})", RESUME_HINT)
        if stopping := next((each.fault.error for each in outcomes.values() if each.fault and each.fault.error), None):
            raise stopping
        self._adapt(list(outcomes.values()))

    def _record(
        self, outcomes: Mapping[str, Outcome], texts: Mapping[str, str], by_key: Mapping[str, Question],
        advance: Callable[[], None], last: bool,
    ) -> None:  # fmt: skip
        """Write answers to the ledger, and refusals, unless nothing was answered or another request may mend them."""
        answered = any(texts.values()) or self.ledger.has_texts
        for key, outcome in outcomes.items():
            fault = outcome.fault
            if self.ledger.find(key, by_key[key].room):
                continue
            if fault is None:
                self.ledger.answer(key, Answer(texts[key]))
                advance()
            elif (
                answered
                and not self._is_mendable(outcome)
                and (fault.do is Action.REFUSE or (last and fault.do is Action.MEND))
            ):
                self.ledger.answer(key, Answer(reason=fault.reason.value, room=by_key[key].room))
                advance()

    def _is_mendable(self, outcome: Outcome) -> bool:
        """Return whether another request format may mend what came of a request."""
        used = self.request_format
        grown = outcome.lacks_reasoning and used.grow(self.settings.max_reasoning_tokens)
        return bool(grown or (outcome.refusal and used.adapt(outcome.refusal)))

    def _adapt(self, outcomes: Sequence[Outcome]) -> None:
        """Learn the request format from the errors of a batch.

        Raises:
            WriterError: the batch has no answer, and nothing can be learned from it.
        """
        used = better = self.request_format
        for refusal in {each.refusal.said: each.refusal for each in outcomes if each.refusal}.values():
            better = better.adapt(refusal) or better
        if any(each.lacks_reasoning for each in outcomes):
            better = better.grow(self.settings.max_reasoning_tokens) or better
        if better != used:
            self.ledger.note(self._format_key, better.to_note())
        elif outcomes and not self.ledger.has_texts:
            raise WriterError(
                f"{self.name} gave no edit for any of {counted(len(outcomes), 'caption')}; "
                f"a raw reply: {redact(show(self.raw), self.key)}",
                f"Check triples.model, or triples.max_reasoning_tokens and extra_body. {RESUME_HINT}",
            )

    def _read(self, line: Mapping[str, Any], question: Question) -> tuple[Outcome, str, Cost]:
        """Return outcome, text and cost in a line of the output or error file."""
        response = line.get("response") or {}
        status, body = response.get("status_code"), json.dumps(response.get("body") or line.get("error"))
        if status != 200:
            refusal = read_refusal(int(status or 0), body)
            self.raw = body
            return Outcome(None, refusal, classify_refusal(refusal, self.key)), "", Cost()
        completion = parse_completion(body, self.task.count)
        text, fault = read_completion(completion, question.wanted, self.task, self.key)
        self.raw = body if fault else self.raw
        usage = completion.usage if completion else None
        cost = self.price.of(usage.read, usage.written) if usage else self._most(question)
        return Outcome(completion, completion.error if completion else None, fault), text, cost


def _read_contents_id(batch: Batch) -> str:
    return (batch.metadata or {}).get(METADATA_KEY, "")


def _parse_lines(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL text; invalid lines are skipped, and their questions count as missing."""
    for line in text.split("\n"):  # splitlines would cut at signs that JSON may hold
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
