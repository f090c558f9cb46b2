"""A vision model behind an OpenAI-compatible API judges edits, each in both orders of its pictures.

Its answers stand in a ledger, by a hash of the question, and are never paid for again: a run that was stopped goes on,
and one that is repeated asks nobody. When the budget ends, or the server gives no answer, edits have no verdict.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ip2p.errors import BudgetError, ConfigError, DataError, ImageError
from ip2p.measuring.vision_verdicts import (
    MOST_TOKENS,
    TOKENS,
    TOKENS_WRITTEN,
    Edit,
    Verdict,
    VerdictReply,
    ask_about,
    average,
    count_tokens,
    count_verdicts,
    read_verdict,
    texts_about,
)
from ip2p.remote.asker import Asker
from ip2p.remote.cache import read_cache
from ip2p.remote.connection import open_access
from ip2p.remote.ledger import JUDGE_LEDGER, Answer
from ip2p.remote.prices import tokens_about, tokens_at_most
from ip2p.remote.sender import Question
from ip2p.remote.server import ServerSettings, Task, question_key

OPENAI = "openai:"
AT_ONCE = 64
"""Questions whose pictures are in memory at a time."""
SEED = 0
TASK = Task(VerdictReply, count_verdicts, "verdict", "questions")
NAMES = {
    "model": "--judge", "base_url": "--judge-url", "max_usd": "--judge-budget", "price_in": "--judge-prices",
    "price_out": "--judge-prices",
}  # fmt: skip
"""Options of the settings of the server, for messages."""


def judge_server(
    name: str, *, url: str = "", budget: float = 0.0, prices: tuple[float, float] | None = None
) -> ServerSettings:
    """Return the server of a judge.

    Args:
        name: "openai:" and the name of a vision model.
        url: address of an OpenAI-compatible server; empty for OpenAI's own.
        budget: most that judging may cost, in USD, over all runs; 0 for no limit.
        prices: USD per million tokens read and written; None for the known price.

    Raises:
        ConfigError: the name is of another form.
    """
    if not name.startswith(OPENAI) or not name.removeprefix(OPENAI).strip():
        raise ConfigError(f"there is no judge {name!r}", "Give --judge openai:MODEL, such as openai:gpt-5-mini")
    price_in, price_out = prices or (None, None)
    return ServerSettings(
        prefix="--judge-", names=NAMES, model=name.removeprefix(OPENAI).strip(), base_url=url, temperature=0.0,
        parallel=8, max_usd=budget, max_tokens=0, reply_tokens=200, max_reasoning_tokens=16384, reasoning_effort=None,
        cache="", skip_unanswered=True, price_in=price_in, price_out=price_out,
    )  # fmt: skip


class JudgedEdit(NamedTuple):
    """An edit to be judged: its words, and its pictures as PNG or JPEG; that before the edit is read when needed."""

    words: Edit
    before: Callable[[], bytes]
    after: bytes

    def read(self) -> dict[str, dict[str, bytes]]:
        """Read the pictures, by the names that questions know them by.

        Raises:
            DataError, ImageError: the picture before the edit cannot be read any more.
        """
        return {"original_image": {"bytes": self.before()}, "edited_image": {"bytes": self.after}}


class VisionJudge:
    """Judges edits, and remembers its answers in a folder.

    Args:
        server: model, address and budget.
        folder: folder of the ledger of answers.
        say: function that prints a line.
    """

    def __init__(self, server: ServerSettings, folder: Path, *, say: Callable[[str], None]) -> None:
        self.server, self.folder, self.say = server, folder, say

    def require_access(self) -> None:
        """Check key, address and price before hours of work, unless there are answers already.

        Raises:
            ConfigError: the budget is limited, and the price of the model is not known.
            WriterError: there is no key for OpenAI's server.
        """
        if not (self.folder / JUDGE_LEDGER).exists():
            open_access(self.server)

    def judge(self, edits: Sequence[JudgedEdit]) -> list[Verdict | None]:
        """Judge edits in both orders; a verdict is the mean of both, and None where one or a picture is missing.

        Args:
            edits: edits, of which the first are asked about first. Their pictures are read twice and not held.

        Raises:
            ConfigError: the budget is limited, and the price of the model is not known.
            WriterError: the server cannot be reached, or refuses the key, the model or the account.
        """
        keys = [self._keys(each) for each in edits]
        paid = self._read_paid()
        asked = [
            (key, each, bool(order))
            for each, both in zip(edits, keys, strict=True)
            for order, key in enumerate(both)
            if not (key in paid and paid[key].is_final(self._room))
        ]
        if asked:
            paid |= self._ask(list({key: (key, each, order) for key, each, order in asked}.values()))
        return [self._settle([paid.get(key) for key in both]) for both in keys]

    def _ask(self, asked: Sequence[tuple[str, JudgedEdit, bool]]) -> dict[str, Answer]:
        """Ask until all is answered or the budget has ended; returns all answers of the ledger."""
        self.folder.mkdir(parents=True, exist_ok=True)
        asker = Asker(self.server, self.folder, TASK, seed=SEED, say=self.say, ledger=JUDGE_LEDGER)
        try:
            light = [self._question(asker, key, each.words, ()) for key, each, _ in asked]
            read = sum(count_tokens(each.words, tokens_about, TOKENS) for _, each, _ in asked)
            with asker.session(light, asker.price.of(read, TOKENS_WRITTEN * len(asked))) as advance:
                questions = self._with_pictures(asker, asked)
                while some := list(islice(questions, AT_ONCE)):
                    asker.ask(some, advance)
        except BudgetError as error:
            self.say(f"{error.what}: edits without a verdict stay unjudged; more of {NAMES['max_usd']} goes on")
        finally:
            answers = dict(asker.ledger.answers)
            asker.close()
        return answers

    def _with_pictures(self, asker: Asker, asked: Sequence[tuple[str, JudgedEdit, bool]]) -> Iterator[Question]:
        for key, each, edited_first in asked:
            try:
                pictures = each.read()
            except (DataError, ImageError):
                continue
            yield self._question(asker, key, each.words, ask_about(each.words, pictures, edited_first))

    def _question(self, asker: Asker, key: str, words: Edit, messages: Sequence[Any]) -> Question:
        read = count_tokens(words, tokens_at_most, MOST_TOKENS)
        return asker.make_question(key, messages, wanted=1, read=read, written=self.server.reply_tokens)

    def _keys(self, edit: JudgedEdit) -> list[str]:
        """Return the keys of both questions about an edit; none where a picture cannot be read."""
        try:
            pictures = edit.read()
        except (DataError, ImageError):
            return []
        said = [texts_about(edit.words, pictures, edited_first) for edited_first in (False, True)]
        return [question_key(self.server, self.server.model, SEED, *texts) for texts in said]

    @property
    def _room(self) -> int:
        return self.server.room(self.server.reply_tokens)

    def _read_paid(self) -> dict[str, Answer]:
        own = self.folder / JUDGE_LEDGER
        return dict(read_cache(own, key="its ledger").answers) if own.exists() else {}

    def _settle(self, answers: Sequence[Answer | None]) -> Verdict | None:
        """Return the mean verdict of both orders, if there are questions and each has one."""
        verdicts = [verdict for each in answers if each and (verdict := read_verdict(each.text))]
        return average(verdicts) if answers and len(verdicts) == len(answers) else None


def encode_png(image: Image.Image) -> bytes:
    """Encode a picture for a question without loss, so that equal pictures make equal questions."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG")
    return stream.getvalue()
