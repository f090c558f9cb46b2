"""Write triples by a language model behind OpenAI's API, or a compatible server (vLLM, Ollama, llama.cpp)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import openai

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.servers import writing_server
from ip2p.data_gen.triples.proposals import Message, Proposal
from ip2p.data_gen.writers.prompts import ask, reply_model
from ip2p.data_gen.writers.replies import find_edits, read_reply
from ip2p.errors import WriterError
from ip2p.records import Caption, Reason
from ip2p.remote.asker import Asker
from ip2p.remote.connection import connect
from ip2p.remote.faults import RESUME_HINT, describe
from ip2p.remote.prices import tokens_about, tokens_at_most
from ip2p.remote.sender import Question
from ip2p.remote.server import Task, question_key

TOKENS_PER_EDIT = 60
"""Estimated number of tokens for each edit in an answer."""
MODERATION_BATCH = 32


class ApiWriter(Asker):
    """Asks a language model for edits, many captions at a time. Answers are stored in `asked.jsonl` in the folder.

    Args:
        settings: model, base_url, parallel requests, budget.
        folder: folder of the build.
        seed: seed of the run; examples and draws follow from it.
        say: function that prints a line.
        api_key: secret API key; None for that in the environment variable OPENAI_API_KEY.

    Raises:
        ConfigError, DataError, WriterError: see Asker.
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
        reply = reply_model(settings.asks_inverse, long_form=settings.long_form)
        task = Task(reply, lambda text: len(find_edits(text).edits), "edit", "captions")
        super().__init__(writing_server(settings), folder, task, seed=seed, say=say, api_key=api_key)
        self.settings = settings
        self._asked = False

    def question(self, caption: Caption, count: int) -> Question:
        """Make the question for a caption, with its own examples."""
        turns = ask(caption, count, self.settings, self.seed)
        texts = [turn["content"] for turn in turns]
        key, read = question_key(self.server, self.name, self.seed, *texts), sum(map(tokens_at_most, texts))
        return self.make_question(key, turns, wanted=count, read=read, written=self.settings.reply_tokens * count)

    def prepare(self, captions: Sequence[Caption], count: int) -> None:
        """Ask about all captions without an answer.

        Raises:
            WriterError: the server cannot be reached, or refuses the key, the model or the account; or the budget is
                spent.
        """
        questions = list({each.key: each for each in (self.question(caption, count) for caption in captions)}.values())
        if left := self.unanswered(questions):
            read = sum(tokens_about(turn["content"]) for question in left for turn in question.messages)
            self.ask_all(questions, self.price.of(read, sum(TOKENS_PER_EDIT * each.wanted for each in left)))
            self._asked = True
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
        return [dict(turn) for turn in question.messages], answer.text if answer else ""

    def _proposals(self, question: Question) -> list[Proposal]:
        answer = self.ledger.find(question.key, question.room)
        if answer is None and self.settings.skip_unanswered and self._asked:
            return [Proposal(reason=Reason.WRITER_ERROR)]
        if answer is None:
            raise WriterError(f"{self.name} was not asked for all captions", RESUME_HINT)
        if answer.reason:
            return [Proposal(reason=Reason(answer.reason))]
        proposals = read_reply(answer.text, question.wanted)
        flagged = self.ledger.notes.get(f"flagged {question.key}", [])
        return [
            proposal._replace(reason=Reason.MODERATED) if number in flagged else proposal
            for number, proposal in enumerate(proposals)
        ]

    def _moderate(self, questions: Sequence[Question]) -> None:
        """Ask the server's moderation about every edit that it has not judged yet."""
        left = [each for each in questions if f"flagged {each.key}" not in self.ledger.notes]
        with connect(self.server.base_url, self.key) as client:
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
