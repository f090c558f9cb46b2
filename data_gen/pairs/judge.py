"""A vision model judges pairs: those that all other thresholds keep, and no more than are needed.

The best pairs of each triple are asked about first. Where the judge refuses one, the next best is asked about, until as
many pass as are kept. Answers stand in `judged.jsonl` in the folder, by a hash of the question, and are never paid for
again. When the budget ends, the run goes on with what was judged: a pair without a verdict is not kept if a threshold
asks for one, and the same command with more money judges the rest.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ip2p.data_gen import rows
from ip2p.data_gen.build_folder import BuildFolder
from ip2p.data_gen.config import DatasetConfig, ScoresConfig
from ip2p.data_gen.servers import judging_server
from ip2p.errors import BudgetError
from ip2p.measuring.vision_verdicts import (
    MOST_TOKENS,
    SYSTEM,
    TOKENS,
    TOKENS_WRITTEN,
    VerdictReply,
    ask_about,
    average,
    count_tokens,
    count_verdicts,
    read_verdict,
    texts_about,
)
from ip2p.plurals import counted
from ip2p.records import Candidate, Reason, Triple
from ip2p.remote.asker import Asker
from ip2p.remote.cache import read_cache
from ip2p.remote.ledger import JUDGE_LEDGER, Answer, Cost
from ip2p.remote.prices import price_of, tokens_about, tokens_at_most
from ip2p.remote.sender import Question
from ip2p.remote.server import ServerSettings, Task, question_key
from ip2p.shards import fingerprint

AT_ONCE = 64
"""Number of questions whose pictures are in memory at a time."""
SEED = 0
"""Seed of all questions: a pair has one verdict, whatever the seed of the build."""
TASK = Task(VerdictReply, count_verdicts, "verdict", "pairs")


class Pair(NamedTuple):
    """A candidate that may be judged: the shard of its pictures, the candidate, and its triple."""

    shard: int
    candidate: Candidate
    triple: Triple


class Asked(NamedTuple):
    """A pair in one order of its pictures, and the hash of the question about it."""

    pair: Pair
    edited_first: bool
    key: str


class Judge:
    """Judges pairs, and remembers its verdicts in the folder of the build.

    Args:
        settings: model and budget of the judge.
        build_folder: folder of the build, with all pairs.
        say: function that prints a line.

    Attributes:
        judged: candidates with their verdicts by id; those that got none have the reason why in `judge_said`.
        unjudged: number of pairs without a verdict that were to be judged.
        spent: whether the budget has ended.
        asked: whether the server was asked anything in this session.
    """

    def __init__(self, settings: ScoresConfig, build_folder: BuildFolder, *, say: Callable[[str], None]) -> None:
        self.settings, self.build_folder, self.folder, self.say = settings, build_folder, build_folder.out, say
        self.server: ServerSettings = judging_server(settings)
        self.judged: dict[str, Candidate] = {}
        self.unjudged = 0
        self.spent = self.asked = False
        self._keys: dict[str, list[str]] = {}
        self._paid = self._read_paid()

    def judge_best(self, shards: Iterable[int], decide: Callable[[int], Iterable[Candidate]]) -> None:
        """Judge what all other thresholds keep, and the next best in place of what is refused, until nothing is left.

        Args:
            shards: indices of all shards.
            decide: function that decides about the candidates of a shard, with the verdicts so far.

        Raises:
            ConfigError, WriterError: see `judge`.
        """
        shards, more = list(shards), True
        while more:
            wanted = list[Pair]()
            for index in shards:
                by_id = rows.triples_by_id(rows.read_triples(self.build_folder, index))
                kept = (each for each in decide(index) if each.status == "ok")
                wanted += [Pair(index, each, by_id[each.triple_id]) for each in kept]
            more = self.judge(wanted)

    def judge(self, pairs: Sequence[Pair]) -> bool:
        """Judge pairs, and return whether there are new verdicts.

        Args:
            pairs: pairs that have no verdict yet.

        Raises:
            ConfigError: the budget is limited, and the price of the model is not known.
            WriterError: the server cannot be reached, or refuses the key, the model or the account.
        """
        pairs = [each for each in pairs if each.candidate.id not in self.judged]
        before = len(self.judged)
        left = self._look_up(pairs)
        if left and not self.spent:
            self._ask(left)
        self._settle(pairs)
        self.unjudged = sum(each.candidate.id not in self.judged for each in pairs)
        return len(self.judged) > before

    def apply(self, candidate: Candidate) -> Candidate:
        """Return a candidate with its verdict, if it has one."""
        found = self.judged.get(candidate.id)
        if found is None:
            return candidate
        names = ("judge_edit", "judge_kept", "judge_clean", "judge_said")
        return candidate.model_copy(update={name: getattr(found, name) for name in names})

    def digest(self) -> str:
        """Return the hash of all verdicts."""
        return fingerprint(
            {
                name: [each.judge_edit, each.judge_kept, each.judge_clean, each.judge_said]
                for name, each in sorted(self.judged.items())
            }
        )

    def describe(self) -> str:
        """Describe how many pairs were judged, and how far the two orders agree."""
        silent = Counter(each.judge_said for each in self.judged.values() if each.judge_edit is None)
        without = ", ".join(f"{count} {reason}" for reason, count in silent.most_common())
        parts = [f"{self.settings.judge} has judged {counted(len(self.judged) - silent.total(), 'pair')}"]
        parts += [f"{silent.total()} got no verdict ({without})"] * bool(silent)
        if self.unjudged:
            ended = "the budget has ended" if self.spent else "the server did not answer"
            parts += [f"{self.unjudged} are not judged, since {ended}, and the same command goes on with them"]
        if (apart := self.disagreement()) is not None:
            parts += [f"the two orders of the pictures differ by {apart:.3f} on average"]
        return "; ".join(parts)

    def disagreement(self) -> float | None:
        """Return by how much the marks of the two orders differ on average; None if pairs are asked about in one."""
        differences = []
        for keys in self._keys.values():
            verdicts = [read_verdict(each.text) for key in keys if (each := self._paid.get(key))]
            if len(verdicts) == 2 and all(verdicts):
                first, second = (each for each in verdicts if each)
                differences += [abs(one - other) for one, other in zip(first[:3], second[:3], strict=True)]
        return sum(differences) / len(differences) if differences else None

    def _read_paid(self) -> dict[str, Answer]:
        """Read all answers that were paid for, in this folder and in the cache."""
        own = self.folder / JUDGE_LEDGER
        found = read_cache(own, key="out").answers if own.exists() else {}
        if not self.server.cache:
            return found
        return read_cache(Path(self.server.cache), JUDGE_LEDGER, key=self.server.key("cache")).answers | found

    @property
    def _room(self) -> int:
        return self.server.room(self.server.reply_tokens)

    def _look_up(self, pairs: Sequence[Pair]) -> list[Asked]:
        """Find the keys of pairs, and return what was not answered yet."""
        by_shard: dict[int, dict[str, Pair]] = {}
        for each in pairs:
            by_shard.setdefault(each.shard, {})[each.candidate.id] = each
        left = []
        for shard, wanted in by_shard.items():
            unknown = {name: pair for name, pair in wanted.items() if name not in self._keys}
            for row in rows.read_pictures(self.build_folder, shard, unknown):
                self._keys[row["id"]] = [self._key(unknown[row["id"]], row, order) for order in self._orders]
            for name, pair in wanted.items():
                for order, key in zip(self._orders, self._keys.get(name, []), strict=False):
                    if key not in self._paid or not self._paid[key].is_final(self._room):
                        left.append(Asked(pair, order, key))
        return left

    @property
    def _orders(self) -> tuple[bool, ...]:
        return (False, True)[: self.settings.judge_orders]

    def _key(self, pair: Pair, pictures: Mapping[str, Any], edited_first: bool) -> str:
        return question_key(self.server, self.server.model, SEED, *texts_about(pair.triple, pictures, edited_first))

    def _ask(self, left: Sequence[Asked]) -> None:
        """Ask until all is answered, or the budget has ended."""
        self.asked = True
        asker = Asker(self.server, self.folder, TASK, seed=SEED, say=self.say, ledger=JUDGE_LEDGER)
        try:
            light = [self._question(asker, each) for each in left]
            read = sum(count_tokens(each.pair.triple, tokens_about, TOKENS) for each in left)
            likely = asker.price.of(read, TOKENS_WRITTEN * len(left))
            share = Cost(likely.tokens_in // len(left), likely.tokens_out // len(left), likely.usd / len(left))
            with asker.session(light, likely) as advance:
                while left and (chosen := _affordable(left, asker, light[0].most, share)):
                    questions = self._with_pictures(asker, chosen)
                    while some := list(islice(questions, AT_ONCE)):
                        asker.ask(some, advance)
                    done = {each.key for each in chosen}
                    left = [each for each in left if each.key not in done]
        except BudgetError as error:
            self.spent = True
            self.say(f"{error.what}: pairs without a verdict stay unjudged; {error.fix}")
        finally:
            self._paid |= asker.ledger.answers
            asker.close()

    def _with_pictures(self, asker: Asker, chosen: Sequence[Asked]) -> Iterator[Question]:
        """Yield questions with their pictures, shard by shard."""
        for shard in sorted({each.pair.shard for each in chosen}):
            here = [each for each in chosen if each.pair.shard == shard]
            wanted = {each.pair.candidate.id: each for each in here}
            for row in rows.read_pictures(self.build_folder, shard, wanted):
                for each in here:
                    if each.pair.candidate.id == row["id"]:
                        yield self._question(asker, each, ask_about(each.pair.triple, row, each.edited_first))

    def _question(self, asker: Asker, asked: Asked, messages: Sequence[Mapping[str, Any]] = ()) -> Question:
        """Make a question; without messages it stands for its key and its cost."""
        most = count_tokens(asked.pair.triple, tokens_at_most, MOST_TOKENS)
        return asker.make_question(asked.key, messages, wanted=1, read=most, written=self.server.reply_tokens)

    def _settle(self, pairs: Sequence[Pair]) -> None:
        """Remember the verdicts on pairs whose questions are all answered or refused."""
        for each in pairs:
            answers = [self._paid.get(key) for key in self._keys.get(each.candidate.id, [])]
            final = [answer for answer in answers if answer and answer.is_final(self._room)]
            if not answers or len(final) < len(answers):
                continue
            verdicts = [verdict for answer in final if (verdict := read_verdict(answer.text))]
            if len(verdicts) < len(final):
                reason = next((answer.reason for answer in final if answer.reason), Reason.BAD_REPLY.value)
                self.judged[each.candidate.id] = each.candidate.model_copy(update={"judge_said": reason})
                continue
            mean = average(verdicts)
            marks = {"judge_edit": mean.edit, "judge_kept": mean.kept, "judge_clean": mean.clean}
            said = {"judge_said": mean.said}
            self.judged[each.candidate.id] = each.candidate.model_copy(update=marks | said)


def price_of_judging(config: DatasetConfig, triples: int) -> str:
    """Say what judging will cost before a build: if all first choices pass, and if none does until the last candidate.

    Args:
        config: config of the build.
        triples: number of triples.
    """
    settings, scores = config, config.scores
    if not scores.judge:
        return "none, 0 USD"
    price = price_of(judging_server(scores.model_copy(update={"judge_max_usd": 0.0})), scores.judge)
    least = triples * min(settings.filter.top_k, settings.pairs.candidates) * scores.judge_orders
    most = triples * settings.pairs.candidates * scores.judge_orders
    tokens = tokens_about(SYSTEM) + 60 + 2 * TOKENS
    read, written = (price.of(count * tokens, count * TOKENS_WRITTEN) for count in (least, most))
    usd = "USD unknown" if price.source == "not known" else f"{read.usd:.2f} to {written.usd:.2f} USD"
    limit = f", limited to {scores.judge_max_usd:g} USD" if scores.judge_max_usd else ""
    return f"{scores.judge}, {usd}{limit} for {least} to {most} questions, without reasoning (price: {price.source})"


def _affordable(left: Sequence[Asked], asker: Asker, most: Cost, likely: Cost) -> list[Asked]:
    """Return the pairs to ask about next: all, or the best for which a limited budget is likely to last.

    Args:
        left: pairs without an answer.
        asker: asker with its budget.
        most: largest possible cost of a question, which is reserved while it is asked.
        likely: cost that is expected of one.
    """
    spent, server = asker.ledger.spent, asker.server
    rooms = [(server.max_usd - spent.usd - most.usd) / likely.usd] if server.max_usd and likely.usd else []
    rooms += [(server.max_tokens - spent.tokens - most.tokens) / likely.tokens] if server.max_tokens else []
    if not rooms or 1 + min(rooms) >= len(left):
        return list(left)
    best_first = sorted(left, key=lambda each: (-each.pair.candidate.sim_direction, each.pair.candidate.id))
    return best_first[: max(1, 1 + int(min(rooms)))]
