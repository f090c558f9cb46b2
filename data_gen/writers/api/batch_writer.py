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
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, ValidationError

from ip2p.data_gen.writers.api.client import Question, connect, give_up, read_completion
from ip2p.data_gen.writers.api.faults import RESUME_HINT, Action, Fault, classify_error, describe
from ip2p.data_gen.writers.api.ledger import Answer, Cost, total
from ip2p.data_gen.writers.api.request_format import ReplyFormat, RequestFormat
from ip2p.data_gen.writers.api.writer import ApiWriter
from ip2p.errors import WriterError
from ip2p.records import Reason

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

    def _ask(self, questions: Sequence[Question], advance: Callable[[], None]) -> None:
        by_key = {question.key: question for question in questions}
        with connect(self.settings.base_url, self.key) as client:
            try:
                for number in range(MAX_BATCHES):
                    left = [each for each in questions if each.key not in self.ledger.answers]
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
        give_up(self.ledger, questions, f"{self.name} in {MAX_BATCHES} batches", advance)

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
        costs = accumulate((each.most for each in left), initial=Cost())
        fitting = sum(self.ledger.fits(cost) for cost in costs) - 1
        chosen = left[: max(1, min(fitting, MAX_REQUESTS))]
        sizes = accumulate(len(self._line(each)) for each in chosen)
        chosen = chosen[: max(1, sum(size <= MAX_FILE_BYTES for size in sizes))]
        started = StartedBatch(
            keys=[each.key for each in chosen], reservation=self.ledger.reserve(total(e.most for e in chosen))
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
        arguments = RequestFormat(ReplyFormat.JSON_SCHEMA).arguments(
            self.reply, most=question.most.tokens_out, temperature=self.settings.temperature, seed=self.seed % 2**31
        )
        body = {"model": self.name, "messages": question.messages, **arguments}
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
        cost, seen = Cost(), set[str]()
        files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
        for line in (line for file in files for line in _parse_lines(client.files.content(file).text)):
            question = by_key.get(str(line.get("custom_id")))
            if question is None or question.key in seen:
                continue
            seen.add(question.key)
            text, fault, usage = self._read(line, question)
            cost += usage
            reason = fault.reason.value if fault and fault.ends(last=last) else ""
            if (reason or not fault) and question.key not in self.ledger.answers:
                self.ledger.answer(question.key, Answer(text, reason))
                advance()
        self.ledger.settle(
            started.reservation, cost, fault="" if batch.status == "completed" else f"batch {batch.status}"
        )
        self.ledger.note(NOTE, None)
        if batch.status == "failed":
            said = "; ".join(error.message or "" for error in (batch.errors and batch.errors.data) or [])
            raise WriterError(f"the server refuses the batch ({said[:160] or 'it does not say why'})", RESUME_HINT)

    def _read(self, line: Mapping[str, Any], question: Question) -> tuple[str, Fault | None, Cost]:
        """Return text, fault and cost in a line of the output or error file."""
        response = line.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
        if status != 200:
            refused = status in (400, 422)
            return "", Fault(f"status {status}", Action.REFUSE if refused else Action.AGAIN), Cost()
        try:
            completion = ChatCompletion.model_validate(body)
        except ValidationError:
            return "", Fault("no edit in the answer", Action.MEND, Reason.BAD_REPLY), question.most
        usage = completion.usage
        cost = self.price.of(usage.prompt_tokens, usage.completion_tokens) if usage else question.most
        text, fault = read_completion(completion, question, self.key)
        return text, fault, cost


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
