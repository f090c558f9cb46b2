"""Ask a language model many questions concurrently, within a budget; handles all faults, and is safe to kill.

The SDK retries requests that the server refuses temporarily. If it gives up, the question goes back to the queue, which
has all questions without an answer in the ledger, so a run that was killed resumes. The cost of every request is
reserved before it is sent, including retries of the SDK. A question is refused for good only where the fault is in it
or in its answers; what the server or the account is to blame for leaves it open.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from ip2p.errors import WriterError
from ip2p.records import Reason
from ip2p.remote.faults import RESUME_HINT, Action, Fault, redact
from ip2p.remote.ledger import Answer, Ledger
from ip2p.remote.prices import Price
from ip2p.remote.reply_text import MAX_UNREAD, show
from ip2p.remote.request_format import FIRST_REASONING, ReplyFormat, RequestFormat, parse_request_format
from ip2p.remote.sender import RETRIES, Outcome, Question, Sender
from ip2p.remote.server import ServerSettings, Task

ROUNDS = 4
"""Largest number of rounds; each asks the questions without an answer from the round before."""
ROUND_PAUSE = 2.0
"""Seconds before the second round, and after a rate limit that says no time; doubled for each further one."""
PROBES = 3
"""Largest number of questions to find the server's request format with."""
PATIENCE = 4
"""Rate limits in a row stop a run only when there are this many times as many as of other faults."""


class Client:
    """Asks a server.

    Args:
        ledger: ledger of answers and costs.
        settings: address, temperature, parallel requests, limits of an answer, further arguments.
        model: name of the model on the server.
        key: secret API key; never shown or written.
        price: price of the model.
        task: what is asked for.
        seed: seed of the run.
        advance: function called for every question that is answered or finally refused.
        say: function that prints a line.

    Raises:
        WriterError: the key cannot be sent, or the proxy not be used.
    """

    def __init__(
        self, ledger: Ledger, settings: ServerSettings, *, model: str, key: str, price: Price, task: Task, seed: int,
        advance: Callable[[], None], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.sender = Sender(ledger, settings, model=model, key=key, price=price, task=task, seed=seed)
        self.ledger, self.settings, self.model, self.key = ledger, settings, model, key
        self.task, self.advance, self.say = task, advance, say
        self.server = f"{settings.base_url or 'OpenAI'} {model}"
        self.request_format = parse_request_format(ledger.notes.get(self.server))
        self.rate_limiter = self.sender.rate_limiter
        self.stopped: WriterError | None = None
        self._held: dict[str, tuple[int, Answer]] = {}
        self._clock = 0
        self._succeeded = False
        self._failed_in_a_row = 0

    async def ask_all(self, questions: Sequence[Question]) -> None:
        """Ask until the ledger has an answer or a reason for every question, but for those that the server fails at.

        Raises:
            WriterError: the server fails or refuses, nothing that it says can be read, or the budget is spent. Earlier
                answers are kept.
        """
        async with self.sender.client:
            for number in range(ROUNDS):
                left = self._unanswered(questions)
                if number:
                    self.rate_limiter.pause(ROUND_PAUSE * 2 ** (number - 1) * bool(left))
                await self._round(left)
        if not self._succeeded and not self.ledger.has_texts:
            self._stop_for_nothing()
        self._record_held()
        check_answers(self.ledger, self.settings, questions, self.task, self.server, self._shown())

    def _unanswered(self, questions: Sequence[Question]) -> list[Question]:
        return [each for each in questions if not self.ledger.find(each.key, each.room) and each.key not in self._held]

    async def find_request_format(self, questions: Sequence[Question]) -> None:
        """Find the server's request format with a question, or with another one if it refuses the first.

        Raises:
            WriterError: the server cannot be reached, or refuses all requests.
        """
        found = RequestFormat()
        for question in questions[:PROBES]:
            works, found = await self._probe(question, found._replace(form=ReplyFormat.PARSE))
            if works:
                break
        self._remember(found)

    async def _probe(self, question: Question, used: RequestFormat) -> tuple[bool, RequestFormat]:
        """Ask one question in all request formats until one works; returns whether one does, and the last one.

        A format works if the answer can be parsed or is a refusal of the content. A server without support for a format
        refuses it, fails, or ignores it and answers in prose. Each format is tried twice, because servers and small
        models fail at random. Whatever the server refuses besides is left out from then on.
        """
        tries = 0
        while True:
            await self.rate_limiter.wait()
            outcome = await self._ask(question, used, number=tries, retries=RETRIES if tries else 0)
            tries += 1
            if outcome.fault is None or outcome.fault.reason is Reason.WRITER_REFUSED:
                return True, used
            better = self._learn(used, outcome)
            if better is None and outcome.lacks_reasoning:
                raise WriterError(
                    f"{self.server} is cut off after {used.reasoning} tokens of reasoning, without an answer; "
                    f"a raw reply: {self._shown()}",
                    f"Raise {self.settings.key('max_reasoning_tokens')}, "
                    f"or lower {self.settings.key('reasoning_effort')}",
                )
            if better is None and tries < 2:
                continue
            if better is None and (better := used.fall_back()) is None:
                if outcome.fault.do is Action.AGAIN:
                    raise self._failure(outcome.fault)
                return False, used._replace(reasoning=0)
            used, tries = better, 0

    def _learn(self, used: RequestFormat, outcome: Outcome) -> RequestFormat | None:
        """Return a better request format for what came of one; None if nothing can be learned of it.

        Raises:
            WriterError: the server refuses an argument that the settings give.
        """
        may_reason = self.request_format is None and used.form is ReplyFormat.TEXT and outcome.lacks_start
        cut_off = outcome.lacks_reasoning or (may_reason and used.reasoning <= FIRST_REASONING)
        if (cut_off or outcome.refusal) and self.request_format not in (None, used):
            return self.request_format  # another worker has learned it
        if cut_off:
            return used.grow(self.settings.max_reasoning_tokens)
        if outcome.refusal is None:
            return None
        better = used.adapt(outcome.refusal)
        own = next((name for name in self.settings.arguments() if outcome.refusal.names(name)), None)
        if own and (better is None or better.form is not used.form):
            fix = f"Change {self.settings.key('reasoning_effort')} or {self.settings.key('extra_body')}"
            said = redact(show(outcome.refusal.message), self.key)
            raise WriterError(f"the server refuses {own} ({said})", fix)
        return better

    def _remember(self, request_format: RequestFormat) -> None:
        before = self.request_format or RequestFormat()
        if new := [name for name in request_format.without if name not in before.without]:
            self.say(f"note: {self.model} takes no {' and no '.join(new)}; its own is used")
        self.request_format = request_format
        self.ledger.note(self.server, request_format.to_note())

    async def _round(self, questions: Sequence[Question]) -> None:
        """Ask each question once, after finding the request format if it is unknown."""
        if questions and self.request_format is None:
            await self.find_request_format(questions)
        if left := self._unanswered(questions):
            shared = iter(left)
            workers = [asyncio.create_task(self._work(shared)) for _ in range(min(self.settings.parallel, len(left)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
        if self.stopped:
            raise self.stopped

    async def _work(self, questions: Iterator[Question]) -> None:
        """Ask questions from the shared queue until it is empty or the run stops."""
        try:
            for question in questions:
                await self._wait_to_ask(question)
                if self.stopped:
                    return
                await self._ask_until_settled(question)
        except WriterError as error:
            self.stopped = self.stopped or error

    async def _wait_to_ask(self, question: Question) -> None:
        """Wait until the server accepts requests and the budget has room, or no open request can free any."""
        await self.rate_limiter.wait()
        assert self.request_format is not None
        while (
            not self.stopped
            and self.sender.in_flight
            and not self.ledger.fits(self.sender.most(question, self.request_format))
        ):
            await asyncio.sleep(0.02)

    async def _ask_until_settled(self, question: Question) -> None:
        """Ask a question until it is answered or refused, or goes back to the queue.

        It is asked again as often as something is learned about the server, and once more if its answer is of no use.
        """
        number, outcome = 0, Outcome()
        while True:
            assert self.request_format is not None
            used = self.request_format
            room = 2 if outcome.fault and outcome.fault.reason is Reason.CUT_OFF else 1
            outcome = await self._ask(question, used, number=number, room=room)
            fault = outcome.fault
            if fault is None:
                return
            if better := self._learn(used, outcome):
                if better != self.request_format:
                    self._remember(better)
                outcome = Outcome()
            elif fault.do is Action.MEND and number == 0 and not outcome.lacks_reasoning:
                number = 1
            else:
                self._watch(fault)
                if fault.do in (Action.MEND, Action.REFUSE):
                    self._refuse(question, fault)
                return

    async def _ask(self, question: Question, used: RequestFormat, **options: int) -> Outcome:
        """Ask a question once. See Sender.ask."""
        began = self._clock = self._clock + 1
        outcome = await self.sender.ask(question, used, **options)
        if outcome.fault is None:
            self._succeeded, self._failed_in_a_row = True, 0
            self._record_held(before=began)
            self.advance()
        else:
            self._pause(outcome.fault)
        return outcome

    def _refuse(self, question: Question, fault: Fault) -> None:
        """Refuse a question; only kept in mind until it is certain that the fault is not in the server.

        Raises:
            WriterError: the server has answered none of many questions.
        """
        answer = Answer(reason=fault.reason.value, room=question.room)
        if self._succeeded and fault.sure:
            self.ledger.answer(question.key, answer)
            self.advance()
            return
        self._held[question.key] = self._clock, answer
        if not self._succeeded and len(self._held) >= MAX_UNREAD:
            self._stop_for_nothing()

    def _record_held(self, before: int | None = None) -> None:
        """Write the refusals that were kept in mind to the ledger.

        Args:
            before: number of a request that succeeded, which clears the server of what it refused before; None for all.
        """
        for key, (number, answer) in list(self._held.items()):
            if before is None or number < before:
                self.ledger.answer(key, answer)
                self.advance()
                del self._held[key]

    def _stop_for_nothing(self) -> None:
        """Stop a run in which the server has answered nothing.

        Raises:
            WriterError: there are questions that it was asked.
        """
        if self._held:
            reasons = ", ".join(sorted({answer.reason for _, answer in self._held.values()}))
            said = f"{self.server} gave no {self.task.answer} for any of {len(self._held)} {self.task.subjects}"
            name = self.settings.key
            raise WriterError(
                f"{said} ({reasons}); a raw reply: {self._shown()}",
                f"Check {name('model')} and {name('base_url')}, or change {name('reply_tokens')}, "
                f"{name('max_reasoning_tokens')}, {name('reasoning_effort')} or {name('extra_body')}; "
                "nothing is refused, and the same command asks again",
            )

    def _shown(self) -> str:
        return redact(show(self.sender.raw), self.key)

    def _failure(self, fault: Fault) -> WriterError:
        said = f"the server cannot be reached or fails ({fault.name}); a raw reply: {self._shown()}"
        return WriterError(said, RESUME_HINT)

    def _pause(self, fault: Fault | None) -> None:
        """Send nothing for as long as the server says, or after a rate limit without a time for longer and longer."""
        if fault:
            often = min(self._failed_in_a_row // self.settings.parallel, 6)
            self.rate_limiter.pause(fault.wait or ROUND_PAUSE * 2**often * (fault.name == "rate limit"))

    def _watch(self, fault: Fault) -> None:
        """Stop the run after too many failures of the server in a row.

        Raises:
            WriterError: there are too many.
        """
        if fault.do is not Action.AGAIN and not self._succeeded:
            return  # which is looked at by itself
        self._failed_in_a_row = 0 if fault.do is not Action.AGAIN and fault.sure else self._failed_in_a_row + 1
        patience = PATIENCE if fault.name == "rate limit" else 1
        if self._failed_in_a_row >= patience * max(8, 2 * self.settings.parallel):
            raise self._failure(fault)


def check_answers(
    ledger: Ledger, settings: ServerSettings, asked: Sequence[Question], task: Task, server: str, raw: str
) -> None:
    """Check that all questions have an answer or a reason, unless the settings say that others may be refused.

    Args:
        ledger: ledger of the answers.
        settings: settings of the server.
        asked: all questions of this run.
        task: what was asked for.
        server: name of the server in errors.
        raw: the server's last words that are no answer.

    Raises:
        WriterError: a question has none.
    """
    left = [each for each in asked if not ledger.find(each.key, each.room)]
    if left and not (settings.skip_unanswered and ledger.has_texts):
        skip = settings.key("skip_unanswered")
        raise WriterError(
            f"{len(left)} of {len(asked)} {task.subjects} got no answer from {server}; a raw reply: {raw}",
            RESUME_HINT + ("" if settings.skip_unanswered else f"; or refuse these {task.subjects} by {skip}=true"),
        )
