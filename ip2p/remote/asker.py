"""Ask a server many questions, whatever they are about: cache, estimate, progress, and a bill at the end."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ip2p.progress import StageProgress
from ip2p.remote.cache import Cache, read_cache
from ip2p.remote.client import Client
from ip2p.remote.connection import last_day, open_access
from ip2p.remote.ledger import LEDGER_FILE, Cost, Ledger, Spending
from ip2p.remote.sender import Question
from ip2p.remote.server import ServerSettings, Task


class Bill(NamedTuple):
    """The requests of one session, and their cost.

    Attributes:
        model: the model that was asked.
        subjects: what it was asked about, such as "captions".
        answered: number of questions with an answer.
        refused: number of questions that were refused.
        requests: number of requests sent.
        cost: cost of these requests.
        seconds: duration of the session.
        faults: number of faults by name.
        reasoning: tokens of reasoning among those written.
    """

    model: str
    subjects: str
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
        rate = 60 * self.answered / max(self.seconds, 1e-9)
        return (
            f"{self.model} answered for {self.answered} {self.subjects} and not for {self.refused}, in {self.requests} "
            f"requests and {self.seconds:.0f} s: {rate:.0f} {self.subjects} a minute\n"
            f"{self.cost.tokens_in} tokens read, {self.cost.tokens_out} written{reasoning}, {self.cost.usd:.4f} USD: "
            f"{per_thousand:.4f} USD per thousand {self.subjects}; faults: {faults}"
        )


class Asker:
    """Asks a server, and keeps its answers in a ledger, so that none is ever paid for again.

    A fault of an answer refuses its question, with a reason. A fault of the server, the key or the account stops the
    run instead, so that no question is lost.

    Args:
        settings: model, address, parallel requests, budget.
        folder: folder of the build.
        task: what is asked for.
        seed: seed of the run; sampling seeds follow from it.
        say: function that prints a line.
        api_key: secret API key; None for that in the environment variable OPENAI_API_KEY.
        ledger: name of the ledger in the folder.

    Raises:
        ConfigError: no model is named and the server has several, or the budget is limited and the price is unknown.
        DataError: another run writes to the folder.
        WriterError: there is no key for OpenAI's server, or the server cannot be reached.
    """

    def __init__(
        self, settings: ServerSettings, folder: Path, task: Task, *, seed: int, say: Callable[[str], None],
        api_key: str | None = None, ledger: str = LEDGER_FILE,
    ) -> None:  # fmt: skip
        self.server, self.key, self.name, self.price = open_access(settings, api_key)
        self.task, self.seed, self.say = task, seed, say
        self.ledger = Ledger(
            folder / ledger, max_usd=settings.max_usd, max_tokens=settings.max_tokens, prefix=settings.prefix
        )

    def ask_all(self, questions: Sequence[Question], likely: Cost) -> None:
        """Ask all questions that have no answer yet.

        Args:
            questions: questions of different keys.
            likely: cost that is expected of those without an answer, for the estimate.

        Raises:
            WriterError: the server cannot be reached, or refuses the key, the model or the account; or the budget is
                spent.
        """
        if left := self.unanswered(questions):
            with self.session(left, likely, done=len(questions) - len(left)) as advance:
                self.ask(left, advance)

    @contextmanager
    def session(self, questions: Sequence[Question], likely: Cost, *, done: int = 0) -> Iterator[Callable[[], None]]:
        """Context manager that says what questions will cost, shows the progress, and ends with the bill.

        Args:
            questions: questions that will be asked in it, which need no messages yet.
            likely: cost that is expected of them.
            done: number of further questions that have an answer.

        Yields:
            A function to call for each question that is answered or refused.
        """
        before = self.ledger.spending
        if day := last_day(self.name, self.server.base_url, self.key):
            self.say(f"note: {self.name} is shut down on {day}; after that, the same settings ask nobody")
        self.say(self.estimate(questions, likely))
        total, unit = done + len(questions), self.task.subjects
        with StageProgress("asked", unit, total=total, done=done, say=self.say) as progress:
            try:
                yield lambda: progress.advance(1, self._note())
            finally:
                self.say(str(self._bill(questions, before, progress.seconds)))

    def unanswered(self, questions: Sequence[Question]) -> list[Question]:
        """Return the questions without a final answer, after those of the cache are taken over."""
        if self.server.cache:
            rooms = {each.key: each.room for each in questions}
            if adopted := self._cache.give(self.ledger, rooms):
                self.say(f"{adopted} answers are taken over from {self.server.cache}, and cost nothing again")
        return [each for each in questions if not self.ledger.find(each.key, each.room)]

    def estimate(self, questions: Sequence[Question], likely: Cost) -> str:
        """Return one line with the estimated cost of questions."""
        most = sum(question.most.usd for question in questions)
        reasoning = self.price.of(0, self.server.max_reasoning_tokens * len(questions)).usd
        limits = [f"{self.server.max_usd:g} USD"] * bool(self.server.max_usd)
        limits += [f"{self.server.max_tokens} tokens"] * bool(self.server.max_tokens)
        return (
            f"asking {self.name} for {len(questions)} {self.task.subjects}: about {likely.tokens_in} tokens read and "
            f"{likely.tokens_out} written, {likely.usd:.4f} USD (at most {most:.4f}, and {reasoning:.4f} more "
            f"for reasoning; price: {self.price.source}); "
            f"limit: {' and '.join(limits) or 'none'}, spent before: {self.ledger.spent.usd:.4f} USD"
        )

    def make_question(
        self, key: str, messages: Sequence[Mapping[str, Any]], *, wanted: int, read: int, written: int
    ) -> Question:
        """Make a question.

        Args:
            key: hash of the question.
            messages: messages of the request.
            wanted: number of answers that are asked for.
            read: most tokens that the messages have.
            written: most tokens of an answer, without reasoning.
        """
        return Question(key, messages, wanted, self.price.of(read, written), self.server.room(written))

    def close(self) -> None:
        """Close the ledger, so that other runs may write to the folder."""
        self.ledger.close()

    @cached_property
    def _cache(self) -> Cache:
        return read_cache(Path(self.server.cache), self.ledger.path.name, key=self.server.key("cache"))

    def ask(self, questions: Sequence[Question], advance: Callable[[], None]) -> None:
        """Ask questions, with one request for each, within a session. See `ask_all` for errors."""
        asyncio.run(self._client(advance).ask_all(questions))

    def _client(self, advance: Callable[[], None]) -> Client:
        return Client(
            self.ledger, self.server, model=self.name, key=self.key, price=self.price, task=self.task, seed=self.seed,
            advance=advance, say=self.say,
        )  # fmt: skip

    def _note(self) -> str:
        return f"{self.ledger.spent.usd:.4f} USD, {self.ledger.requests} requests"

    def _bill(self, asked: Sequence[Question], before: Spending, seconds: float) -> Bill:
        """Return the bill of this session, from the spending before it."""
        answers = [answer for each in asked if (answer := self.ledger.find(each.key, each.room))]
        refused = sum(bool(answer.reason) for answer in answers)
        now = self.ledger.spending
        return Bill(
            self.name, self.task.subjects, len(answers) - refused, refused, now.requests - before.requests,
            now.cost.minus(before.cost), seconds, now.faults - before.faults, now.reasoning - before.reasoning,
        )  # fmt: skip
