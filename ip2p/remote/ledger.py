"""The ledger: one append-only file with all requests to a language model, their costs and their answers.

A reservation is on the disk before its request is sent, and an answer together with its cost. So after a kill no
answered question is asked again, and the budget cannot be exceeded: open reservations count as spent.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from ip2p.errors import BudgetError, DataError, told_if_unwritable
from ip2p.ownership import lock
from ip2p.records import Reason

LEDGER_FILE, JUDGE_LEDGER = "asked.jsonl", "judged.jsonl"
"""Names of the ledgers in the folder of a build: of the writer, and of the judge of pairs."""


LEDGERS = (LEDGER_FILE, JUDGE_LEDGER)


class Cost(NamedTuple):
    """The cost of a request: input tokens, output tokens, and USD."""

    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return self.tokens_in + self.tokens_out

    def __add__(self, other: object) -> "Cost":
        assert isinstance(other, Cost)
        return Cost(self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out, self.usd + other.usd)

    def minus(self, other: "Cost") -> "Cost":
        """Return the difference of two costs."""
        return Cost(self.tokens_in - other.tokens_in, self.tokens_out - other.tokens_out, self.usd - other.usd)


class Spending(NamedTuple):
    """Spending over all runs: number of requests, their cost, numbers of faults by name, and tokens of reasoning."""

    requests: int
    cost: Cost
    faults: Counter[str]
    reasoning: int = 0


class Answer(NamedTuple):
    """The answer to a question: a text, or the reason (of `Reason`) why there is none.

    Attributes:
        text: text of the answer.
        reason: reason why there is none; "" if there is one.
        room: largest number of tokens that the answer could have had; 0 for refusals of earlier versions.
    """

    text: str = ""
    reason: str = ""
    room: int = 0

    def is_final(self, room: int) -> bool:
        """Return whether the question need not be asked again with this room for its answer."""
        return self.reason not in MENDABLE or self.room >= room


MENDABLE = (Reason.CUT_OFF.value, Reason.WRITER_ERROR.value)
"""Reasons that more room for the answer may mend."""


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs."""
    return sum(costs, Cost())


class Ledger:
    """The ledger of a build; a context that locks the file against other runs.

    Args:
        path: path of the file; made if missing.
        max_usd: largest cost of all requests together, in USD; 0 for no limit.
        max_tokens: largest number of tokens of all requests together; 0 for no limit.
        prefix: what stands before the names of these settings in the config.

    Attributes:
        answers: answers by key of the question.
        spent: cost of all runs so far, including reservations that were never settled.
        faults: number of faults by name.
        requests: number of requests sent.
        notes: other recorded values by name.
        reasoning: tokens of reasoning among those written.

    Raises:
        DataError: another run has locked the file, or it is damaged.
    """

    def __init__(self, path: Path, *, max_usd: float = 0.0, max_tokens: int = 0, prefix: str = "triples.") -> None:
        self.path, self.max_usd, self.max_tokens, self.prefix = path, max_usd, max_tokens, prefix
        self.answers: dict[str, Answer] = {}
        self.spent = Cost()
        self.faults: Counter[str] = Counter()
        self.requests = self.reasoning = 0
        self.notes: dict[str, Any] = {}
        self._open: dict[int, Cost] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock(self._file, path)
        except DataError:
            os.close(self._file)
            raise
        self._read()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and unlock it for other runs."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    @property
    def spending(self) -> Spending:
        """Return the spending of all runs so far."""
        return Spending(self.requests, self.spent, self.faults.copy(), self.reasoning)

    @property
    def has_texts(self) -> bool:
        """Whether any question was ever answered."""
        return any(answer.text for answer in self.answers.values())

    def find(self, key: str, room: int) -> Answer | None:
        """Return the final answer to a question; None if it is to be asked.

        Args:
            key: key of the question.
            room: largest number of tokens that an answer may have.
        """
        answer = self.answers.get(key)
        return answer if answer and answer.is_final(room) else None

    def fits(self, most: Cost) -> bool:
        """Return whether the budget, minus all reservations, has room for a cost."""
        too_dear = self.max_usd and self.spent.usd + most.usd > self.max_usd
        too_long = self.max_tokens and self.spent.tokens + most.tokens > self.max_tokens
        return not (too_dear or too_long)

    def reserve(self, most: Cost) -> int:
        """Reserve the largest possible cost of a request before it is sent; returns the number of the reservation.

        Raises:
            BudgetError: the remaining budget is too small.
        """
        if not self.fits(most):
            limit = f"{self.max_usd:g} USD" if self.max_usd else f"{self.max_tokens} tokens"
            settings = f"{self.prefix}max_usd or {self.prefix}max_tokens"
            raise BudgetError(
                f"the budget of {limit} is spent ({self.spent.usd:.4f} USD, {self.spent.tokens} tokens)",
                f"All answers are kept: run the same command with a higher {settings}",
            )
        number = self.requests
        self._append({"reserve": number, "cost": list(most)})
        return number

    def settle(self, number: int, cost: Cost, *, fault: str = "", reasoning: int = 0, **answer: Any) -> None:
        """Replace a reservation by the actual cost, and record fault and answer in the same line.

        Args:
            number: number of the reservation.
            cost: billed cost; zero for a request that the server refused.
            fault: name of the fault; "" for none.
            reasoning: tokens of reasoning among those written.
            answer: `key` of the question, `text` and `reason`, if this is its final answer.
        """
        counted = {"reasoning": reasoning} if reasoning else {}
        self._append({"settle": number, "cost": list(cost), "fault": fault, **counted, **answer})

    def answer(self, key: str, answer: Answer) -> None:
        """Record the final answer to a question whose requests are all settled."""
        self._append(_answer_line(key, answer))

    def note(self, name: str, value: Any) -> None:
        """Record another value; a later note of the same name replaces it."""
        self._append({"note": name, "value": value})

    def adopt(self, answers: Mapping[str, Answer], notes: Mapping[str, Any]) -> None:
        """Record answers that another build has paid for, by key of the question, and notes about them."""
        lines = [_answer_line(key, answer) for key, answer in answers.items()]
        self._append(*lines, *({"note": name, "value": value} for name, value in notes.items()))

    def _append(self, *lines: dict[str, Any]) -> None:
        at = {"at": round(time.time(), 3)}
        data = b"".join(json.dumps(line | at, ensure_ascii=True).encode() + b"\n" for line in lines)
        whole = os.fstat(self._file).st_size
        try:
            with told_if_unwritable(self.path):
                while data:
                    data = data[os.write(self._file, data) :]
                os.fsync(self._file)
        except DataError:
            os.ftruncate(self._file, whole)  # half a line would damage the next one
            raise
        for line in lines:
            self._apply(line)

    def _read(self) -> None:
        """Read the lines of earlier runs; an incomplete last line is dropped, since its request was never sent."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{self.path}, line {number} is damaged", "Remove that line; its question is asked again"
                ) from error

    def _apply(self, line: dict[str, Any]) -> None:
        if "reserve" in line:
            self._open[line["reserve"]] = cost = Cost(*line["cost"])
            self.spent += cost
            self.requests = max(self.requests, line["reserve"]) + 1
        if "settle" in line:
            self.spent = self.spent.minus(self._open.pop(line["settle"])) + Cost(*line["cost"])
            self.faults.update([line["fault"]] if line["fault"] else [])
            self.reasoning += line.get("reasoning", 0)
        if "key" in line:
            self.answers[line["key"]] = Answer(line["text"], line["reason"], line.get("room", 0))
        if "note" in line:
            self.notes[line["note"]] = line["value"]


def _answer_line(key: str, answer: Answer) -> dict[str, Any]:
    """Return the line of an answer."""
    room = {"room": answer.room} if answer.room else {}
    return {"key": key, "text": answer.text, "reason": answer.reason, **room}


def read_spending(folder: Path, name: str = LEDGER_FILE) -> Spending:
    """Read the spending of all runs of a build by one of its ledgers; none if nothing was ever asked.

    Raises:
        DataError: another run writes to the folder.
    """
    if not (folder / name).exists():
        return Spending(0, Cost(), Counter())
    with Ledger(folder / name) as ledger:
        return ledger.spending
