"""Write triples by a language model behind OpenAI's API, or a compatible server (vLLM, Ollama, llama.cpp)."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import openai
from pydantic import BaseModel

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.triples.proposals import Message, Proposal
from ip2p.data_gen.writers.api.cache import Cache, read_cache
from ip2p.data_gen.writers.api.client import Client
from ip2p.data_gen.writers.api.connection import connect
from ip2p.data_gen.writers.api.faults import KEY_VARIABLE, RESUME_HINT, describe
from ip2p.data_gen.writers.api.ledger import LEDGER_FILE, Cost, Ledger, Spending
from ip2p.data_gen.writers.api.prices import Price, price_of, tokens_about, tokens_at_most
from ip2p.data_gen.writers.api.sender import Question, arguments_of
from ip2p.data_gen.writers.prompts import ask, reply_model
from ip2p.data_gen.writers.replies import read_reply
from ip2p.errors import ConfigError, WriterError
from ip2p.progress import StageProgress
from ip2p.records import Caption, Reason, content_id

URL_VARIABLE = "OPENAI_BASE_URL"
"""Environment variable of the SDK for the server's address."""
TOKENS_PER_EDIT = 60
"""Estimated number of tokens for each edit in an answer."""
MODERATION_BATCH = 32


class Bill(NamedTuple):
    """The requests of one session, and their cost.

    Attributes:
        model: the model that was asked.
        answered: number of captions with edits.
        refused: number of captions without edits.
        requests: number of requests sent.
        cost: cost of these requests.
        seconds: duration of the session.
        faults: number of faults by name.
        reasoning: tokens of reasoning among those written.
    """

    model: str
    answered: int
    refused: int
    requests: int
    cost: Cost
    seconds: float
    faults: Counter[str]
    reasoning: int

    def __str__(self) -> str:
        faults = ", ".join(f"{name} {count}" for name, count in self.faults.most_common()) or "none"
        per_thousand = 1000 * self.cost.usd / self.answered if self.answered else 0.0
        reasoning = f" ({self.reasoning} of them reasoning)" if self.reasoning else ""
        return (
            f"{self.model} answered for {self.answered} captions and not for {self.refused}, in {self.requests} "
            f"requests and {self.seconds:.0f} s: {60 * self.answered / max(self.seconds, 1e-9):.0f} captions a minute\n"
            f"{self.cost.tokens_in} tokens read, {self.cost.tokens_out} written{reasoning}, {self.cost.usd:.4f} USD: "
            f"{per_thousand:.4f} USD per thousand captions; faults: {faults}"
        )


class ApiWriter:
    """Asks a language model for edits, many captions at a time.

    A fault of a reply refuses its caption, with a reason. A fault of the server, the key or the account stops the run
    instead, so that no caption is lost. Answers are stored in `asked.jsonl` in the folder.

    Args:
        settings: model, base_url, parallel requests, budget.
        folder: folder of the build.
        seed: seed of the run; examples and draws follow from it.
        say: function that prints a line.
        api_key: secret API key; None for that in the environment variable OPENAI_API_KEY.

    Raises:
        ConfigError: no model is named and the server has several, or the budget is limited and the price is unknown.
        DataError: another run writes to the folder.
        WriterError: there is no key for OpenAI's server, or the server cannot be reached.
    """

    def __init__(
        self,
        settings: TriplesConfig,
        folder: Path,
        *,
        seed: int,
        say: Callable[[str], None],
        api_key: str | None = None,
    ) -> None:
        self.key = (api_key or os.environ.get(KEY_VARIABLE, "")).strip()
        settings = settings.model_copy(update={"base_url": settings.base_url or os.environ.get(URL_VARIABLE, "")})
        if not self.key and not settings.base_url:
            raise WriterError(
                f"no key for OpenAI in {KEY_VARIABLE}",
                f"Set {KEY_VARIABLE}, or triples.base_url for a server of your own",
            )
        connect(settings.base_url, self.key).close()  # which checks key and proxy
        self.settings, self.seed, self.say = settings, seed, say
        self.name = settings.model or only_model(settings.base_url, self.key)
        self.price: Price = price_of(settings, self.name)
        self.reply: type[BaseModel] = reply_model(settings.asks_inverse, long_form=settings.long_form)
        self._asked = False
        self.ledger = Ledger(folder / LEDGER_FILE, max_usd=settings.max_usd, max_tokens=settings.max_tokens)

    def question(self, caption: Caption, count: int) -> Question:
        """Make the question for a caption, with its own examples."""
        turns = ask(caption, count, self.settings, self.seed)
        read = sum(tokens_at_most(turn["content"]) for turn in turns)
        settings, most = self.settings, self.settings.reply_tokens * count
        more = arguments_of(settings)
        asked = [json.dumps(more, sort_keys=True)] if more else []  # so that other keys are those of earlier versions
        key = content_id(
            self.name, repr(settings.temperature), str(self.seed), *asked, *(turn["content"] for turn in turns)
        )
        return Question(key, turns, count, self.price.of(read, most), 2 * most + settings.max_reasoning_tokens)

    def prepare(self, captions: Sequence[Caption], count: int) -> None:
        """Ask about all captions without an answer.

        Raises:
            WriterError: the server cannot be reached, or refuses the key, the model or the account; or the budget is
                spent.
        """
        questions = list({each.key: each for each in (self.question(caption, count) for caption in captions)}.values())
        before = self.ledger.spending
        if self.settings.cache:
            rooms = {each.key: each.room for each in questions}
            if adopted := self._cache.give(self.ledger, rooms):
                self.say(f"{adopted} answers are taken over from {self.settings.cache}, and cost nothing again")
        left = [each for each in questions if not self.ledger.find(each.key, each.room)]
        if left:
            if day := last_day(self.name, self.settings.base_url, self.key):
                self.say(f"note: {self.name} is shut down on {day}; after that, the same settings ask nobody")
            self.say(self.estimate(left))
            done = len(questions) - len(left)
            with StageProgress("asked", "captions", total=len(questions), done=done, say=self.say) as progress:
                try:
                    self._ask(left, lambda: progress.advance(1, self._note()))
                    self._asked = True
                finally:
                    self.say(str(self._bill(left, before, progress.seconds)))
        if self.settings.checks.moderation == "server":
            self._moderate(questions)

    def write(self, captions: Sequence[Caption], count: int) -> list[list[Proposal]]:
        """Return the edits of each caption, in order, from the stored answers.

        Raises:
            WriterError: a caption has no answer, because `prepare` was stopped.
        """
        return [self._proposals(self.question(caption, count)) for caption in captions]

    def conversation(self, caption: Caption, count: int) -> tuple[list[Message], str]:
        """See Writer."""
        question = self.question(caption, count)
        answer = self.ledger.find(question.key, question.room)
        return question.messages, answer.text if answer else ""

    def estimate(self, questions: Sequence[Question]) -> str:
        """Return one line with the estimated cost of questions."""
        read = sum(tokens_about(turn["content"]) for question in questions for turn in question.messages)
        likely = self.price.of(read, sum(TOKENS_PER_EDIT * question.edits for question in questions))
        most = sum(question.most.usd for question in questions)
        reasoning = self.price.of(0, self.settings.max_reasoning_tokens * len(questions)).usd
        limits = [f"{self.settings.max_usd:g} USD"] * bool(self.settings.max_usd)
        limits += [f"{self.settings.max_tokens} tokens"] * bool(self.settings.max_tokens)
        return (
            f"asking {self.name} for {len(questions)} captions: about {likely.tokens_in} tokens read and "
            f"{likely.tokens_out} written, {likely.usd:.4f} USD (at most {most:.4f}, and {reasoning:.4f} more "
            f"for reasoning; price: {self.price.source}); "
            f"limit: {' and '.join(limits) or 'none'}, spent before: {self.ledger.spent.usd:.4f} USD"
        )

    def close(self) -> None:
        """Close the ledger, so that other runs may write to the folder."""
        self.ledger.close()

    @cached_property
    def _cache(self) -> Cache:
        return read_cache(Path(self.settings.cache))

    def _ask(self, questions: Sequence[Question], advance: Callable[[], None]) -> None:
        """Ask questions, with one request for each."""
        asyncio.run(self._client(advance).ask_all(questions))

    def _client(self, advance: Callable[[], None]) -> Client:
        return Client(
            self.ledger, self.settings, model=self.name, key=self.key, price=self.price, reply=self.reply,
            seed=self.seed, advance=advance, say=self.say,
        )  # fmt: skip

    def _proposals(self, question: Question) -> list[Proposal]:
        answer = self.ledger.find(question.key, question.room)
        if answer is None and self.settings.skip_unanswered and self._asked:
            return [Proposal(reason=Reason.WRITER_ERROR)]
        if answer is None:
            raise WriterError(f"{self.name} was not asked for all captions", RESUME_HINT)
        if answer.reason:
            return [Proposal(reason=Reason(answer.reason))]
        proposals = read_reply(answer.text, question.edits)
        flagged = self.ledger.notes.get(f"flagged {question.key}", [])
        return [
            proposal._replace(reason=Reason.MODERATED) if number in flagged else proposal
            for number, proposal in enumerate(proposals)
        ]

    def _moderate(self, questions: Sequence[Question]) -> None:
        """Ask the server's moderation about every edit that it has not judged yet."""
        left = [each for each in questions if f"flagged {each.key}" not in self.ledger.notes]
        with connect(self.settings.base_url, self.key) as client:
            for start in range(0, len(left), MODERATION_BATCH):
                chunk = left[start : start + MODERATION_BATCH]
                proposals = [(each, n, d) for each in chunk for n, d in enumerate(self._proposals(each))]
                try:
                    verdicts = client.moderations.create(
                        input=[f"{proposal.instruction}\n{proposal.edited_caption}" for _, _, proposal in proposals]
                    ).results
                except openai.OpenAIError as error:
                    fix = f"Set triples.checks.moderation to words. {RESUME_HINT}"
                    raise WriterError(f"the server's moderation fails ({describe(error, self.key)})", fix) from None
                for each in chunk:
                    pairs = zip(proposals, verdicts, strict=True)
                    flagged = [n for (other, n, _), result in pairs if other is each and result.flagged]
                    self.ledger.note(f"flagged {each.key}", flagged)

    def _note(self) -> str:
        return f"{self.ledger.spent.usd:.4f} USD, {self.ledger.requests} requests"

    def _bill(self, asked: Sequence[Question], before: Spending, seconds: float) -> Bill:
        """Return the bill of this session, from the spending before it."""
        answers = [answer for each in asked if (answer := self.ledger.find(each.key, each.room))]
        refused = sum(bool(answer.reason) for answer in answers)
        now = self.ledger.spending
        return Bill(
            self.name, len(answers) - refused, refused, now.requests - before.requests, now.cost.minus(before.cost),
            seconds, now.faults - before.faults, now.reasoning - before.reasoning,
        )  # fmt: skip


def only_model(base_url: str, key: str) -> str:
    """Return the only model of a server.

    Raises:
        ConfigError: the server has no model or several.
        WriterError: the server cannot be reached.
    """
    if not base_url:
        raise ConfigError("the writer is a language model, and none is named", "Name one by triples.model=...")
    try:
        with connect(base_url, key) as client:
            names = [model.id for model in client.models.list()]
    except openai.APIConnectionError as error:
        raise WriterError(
            f"there is no server at {base_url} ({describe(error, key)})", "Check triples.base_url"
        ) from None
    except openai.OpenAIError as error:
        raise ConfigError(
            f"the server does not say which models it has ({describe(error, key)})", "Name one by triples.model=..."
        ) from None
    if len(names) != 1:
        found = f"there are {', '.join(names[:8])}" if names else "the server has none"
        raise ConfigError(f"no model is named, and {found}", "Name one by triples.model=...")
    return names[0]


def last_day(model: str, base_url: str, key: str) -> str:
    """Return the day on which a server retires a model; "" if it gives none, or fails, which is reported later."""
    try:
        with connect(base_url, key, max_retries=0) as client:
            return str(getattr(client.models.retrieve(model), "shutdown_date", None) or "")
    except openai.OpenAIError:
        return ""
