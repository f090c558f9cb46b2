"""The stages of a build, shard by shard: each reads finished shards and writes finished shards.

Shards that a killed run has not finished are made again, with the same bytes. Models are imported and loaded by the
stages that need them, so that text stages start at once. Pairs of a shard depend on its triples alone, and any process
that has its lease may make them: `ip2p.data_gen.scale` spreads them over processes and machines.
"""

import functools
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from datasets import Features

from ip2p.data_gen import rows
from ip2p.data_gen.build_folder import STAGES, BuildFolder, Stage
from ip2p.data_gen.costs import record_seconds
from ip2p.data_gen.models import load_maker, load_scorers
from ip2p.data_gen.pairs.filter import decide
from ip2p.data_gen.report.results import Results
from ip2p.data_gen.report.triples_page import TripleCounts, render_triples
from ip2p.data_gen.triples.proposals import Writer
from ip2p.data_gen.triples.tokens import token_counter
from ip2p.data_gen.triples.write import EarlierShards, write_triples
from ip2p.data_gen.writers import open_writer
from ip2p.errors import DataError, WriterError, settings_of
from ip2p.progress import StageProgress
from ip2p.records import Candidate, Caption
from ip2p.remote.ledger import read_spending
from ip2p.shards import (
    atomic_write,
    is_shard_done,
    list_shards,
    read_shard,
    read_shard_manifest,
    read_shards,
    shard_path,
    write_shard,
)

if TYPE_CHECKING:
    from ip2p.data_gen.pairs.draw import PairMaker
    from ip2p.data_gen.pairs.judge import Judge
    from ip2p.data_gen.pairs.scores import Scorers
    from ip2p.data_gen.pairs.shard import Tools

Row = dict[str, Any]
Make = Callable[[int, StageProgress], list[Row]]
"""Function that makes the rows of a shard, from its index, and reports progress."""
PAIR_STAGES: tuple[Stage, ...] = ("candidates", "scores")
"""Stages that may be spread over processes and machines."""
BATCHES = "batches-{}"
"""Folder of the batches of a shard that is being drawn, among the candidates."""


class ShardOutcome(NamedTuple):
    """A shard of pairs that this session has made.

    Attributes:
        drawn: candidates drawn in this session.
        unet_rows: UNet rows of these.
        reasons: scored candidates by the reason of their refusal, as the filter stands; "" for kept ones.
    """

    drawn: int
    unet_rows: int
    reasons: dict[str, int]


class Stages:
    """All stages, from captions to filtered candidates.

    Args:
        build_folder: folder of the build, claimed.
        say: function that prints a line.

    Attributes:
        triples: triples written by this process that passed the checks.
        drawn: candidates drawn by this process.
        unet_rows: UNet rows of these candidates.
        seconds: duration of drawing them.
    """

    def __init__(self, build_folder: BuildFolder, say: Callable[[str], None]) -> None:
        self.build_folder, self.config, self.say = build_folder, build_folder.config, say
        self.triples = self.drawn = self.unet_rows = 0
        self.seconds = self._since = 0.0

    def write_captions(self, captions: Sequence[Caption]) -> None:
        """Write all captions, in the order of `read_captions`."""
        chunks = self._chunks(captions)

        def make(index: int, progress: StageProgress) -> list[Row]:
            progress.advance(len(chunks[index]))
            return rows.to_rows(chunks[index])

        self._run("captions", "captions", [len(chunk) for chunk in chunks], make, rows.CAPTION_SCHEMA)

    def write_triples(self) -> None:
        """Write the triples of all captions, and check them.

        Raises:
            WriterError: the writer cannot continue. Shards with all answers are written first.
        """
        chunks, settings = self._chunks(self.captions), self.config.triples
        seen, caught_up = EarlierShards(settings.checks), 0

        def make(index: int, progress: StageProgress) -> list[Row]:
            nonlocal caught_up
            for earlier in range(caught_up, index):
                seen.remember(chunks[earlier], rows.read_triples(self.build_folder, earlier))
            triples = write_triples(chunks[index], self.writer, settings, seen=seen, count_tokens=self.count_tokens)
            caught_up = index + 1
            self.triples += sum(each.status == "ok" for each in triples)
            progress.advance(len(chunks[index]))
            return rows.to_rows(triples)

        def run() -> None:
            self._run("triples", "captions", [len(chunk) for chunk in chunks], make, rows.triple_schema(settings))

        left = self._unfinished("triples", range(len(chunks)))
        try:
            if left:
                with self._timed("triples"):
                    self.writer.prepare([each for index in left for each in chunks[index]], settings.per_caption)
            run()
        except WriterError:
            with suppress(WriterError):
                run()
            raise
        finally:
            if left:
                self.writer.close()

    def report_triples(self) -> tuple[TripleCounts, Path]:
        """Count the finished triples, and write triples.html if there are any; returns counts and path."""
        left, settings = set(self._unfinished("triples", range(self.shards))), self.config.triples
        there = (index for index in range(self.shards) if index not in left)
        counts = TripleCounts(row for index in there for row in rows.read_triples(self.build_folder, index))
        page = self.build_folder.out / "triples.html"
        spent = read_spending(self.build_folder.out) if settings.writer.startswith("openai") else None
        if counts.total:
            atomic_write(page, render_triples(counts, settings.model or settings.writer, spent).encode())
        return counts, page

    def has_triples(self) -> bool:
        """Return whether the triples of all captions are written."""
        return not self._unfinished("triples", range(self.shards))

    def open_models(self) -> None:
        """Load all models that draw and score, unless they are loaded, and check that the settings suit them."""
        with settings_of("pairs"):
            _ = self.maker, self.scorers

    def require(self, stage: Stage, fix: str) -> None:
        """Check that all shards of a stage are finished with these settings.

        Args:
            stage: stage to check.
            fix: remedy for the error message.

        Raises:
            DataError: a shard is missing, or was made with other settings.
        """
        if not list_shards(self.build_folder.stage_folder("captions")):
            raise DataError(f"there are no captions in {self.build_folder.out}", fix)
        if left := self._unfinished(stage, range(self.shards)):
            folder = self.build_folder.stage_folder(stage)
            raise DataError(f"shard {left[0]} of {folder} is not there, or was made with other settings", fix)

    def make_pairs(self, index: int, progress: StageProgress) -> ShardOutcome | None:
        """Draw and score the candidates of a shard; returns None if another process is doing it.

        Args:
            index: index of the shard.
            progress: progress over all candidates; each counts once.
        """
        from ip2p.device import cpu_threads

        with self.build_folder.lease(index) as mine:
            if not mine:
                return None
            drawn, unet_rows = self.drawn, self.unet_rows
            with cpu_threads(self.config.pairs.threads), settings_of("pairs"):
                self._make_shard_of_pairs(index, progress)
            reasons = Counter(str(each.reason) for each in self._decide(index)[1])
            return ShardOutcome(self.drawn - drawn, self.unet_rows - unet_rows, dict(reasons))

    def unfinished_pairs(self, shards: Sequence[int] | None = None) -> list[int]:
        """Return the indices of those of some shards, or of all, whose pairs are not all drawn and scored."""
        asked = range(self.shards) if shards is None else shards
        left = {index for stage in PAIR_STAGES for index in self._unfinished(stage, asked)}
        return [index for index in asked if index in left]

    def filter_pairs(self) -> None:
        """Decide from the scores which candidates are kept, and from the judge's verdicts if there is one.

        Raises:
            WriterError: the judge cannot be reached, or refuses. Its answers so far are kept.
        """
        judge = self._judge_pairs() if self.config.scores.judge else None

        def make(index: int, progress: StageProgress) -> list[Row]:
            scored, decided = self._decide(index, judge)
            progress.advance(len(decided))
            return [
                row | {name: before.get(name) for name in rows.DRAWING_COLUMNS}
                for row, before in zip(rows.to_rows(decided), scored, strict=True)
            ]

        schema = rows.JUDGED_SCHEMA if judge else rows.CANDIDATE_SCHEMA
        for batches in self.build_folder.stage_folder("candidates").glob(BATCHES.format("*")):
            shutil.rmtree(batches)  # of a process that was killed between the shard and this
        folder = self.build_folder.stage_folder("scores")
        scored = [read_shard_manifest(shard_path(folder, index)).rows for index in range(self.shards)]
        self._run("filtered", "candidates", scored, make, schema)

    def results(self) -> Results:
        """Return the results of the finished stages: counts, report and packed data set."""
        return Results(self.build_folder, self.shards, self.say)

    @cached_property
    def captions(self) -> list[Caption]:
        """All captions, read from the finished stage.

        Raises:
            DataError: a shard of captions is damaged, or missing although there are later ones, here or in another
                stage.
        """
        folder = self.build_folder.stage_folder("captions")
        captions = [Caption.model_validate(row) for row in read_shards(folder)]
        shards = len(list_shards(folder))
        if others := [each for each in STAGES if list_shards(self.build_folder.stage_folder(each))[shards:]]:
            last = f"{folder} ends before shard {shards} of {self.build_folder.stage_folder(others[0])}"
            raise DataError(last, "Run `ip2p dataset build` with this out=, which makes what is missing")
        return captions

    @property
    def shards(self) -> int:
        """Number of shards of each stage."""
        return math.ceil(len(self.captions) / self.config.shard_size)

    @cached_property
    def candidates(self) -> dict[int, int]:
        """Number of candidates that each shard may have, by its index; adaptive sampling draws fewer."""
        triples = ((index, rows.read_triples(self.build_folder, index)) for index in range(self.shards))
        return {
            index: self.config.pairs.candidates * sum(each.status == "ok" for each in shard) for index, shard in triples
        }

    @cached_property
    def writer(self) -> Writer:
        """The writer of triples."""
        return open_writer(self.config.triples, self.build_folder.out, seed=self.config.seed, say=self.say)

    @cached_property
    def count_tokens(self) -> Callable[[str], int]:
        """Function that counts the tokens that the base model reads, or estimates them."""
        return token_counter(self.config.pairs.model, self.config.triples.checks.max_tokens)

    @cached_property
    def maker(self) -> "PairMaker":
        """The pair maker, whose base model is loaded for the first shard that needs it."""
        return load_maker(self.build_folder)

    @cached_property
    def scorers(self) -> "Scorers":
        """The networks that score pairs, loaded for the first shard that needs them."""
        return load_scorers(self.build_folder)

    def _chunks(self, captions: Sequence[Caption]) -> list[Sequence[Caption]]:
        size = self.config.shard_size
        return [captions[start : start + size] for start in range(0, len(captions), size)]

    def _unfinished(self, stage: Stage, shards: Iterable[int]) -> list[int]:
        """Return those of some shards of a stage, by their indices, that are not finished with these settings."""
        folder, fingerprint = self.build_folder.stage_folder(stage), self.build_folder.fingerprint(stage)
        return [index for index in shards if not is_shard_done(folder, index, fingerprint)]

    def _run(self, stage: Stage, unit: str, sizes: Sequence[int], make: Make, schema: pa.Schema | Features) -> None:
        """Make the unfinished shards of a stage.

        Args:
            stage: stage to run.
            unit: unit of the progress, such as captions.
            sizes: size of each shard, in units.
            make: function that makes the rows of a shard.
            schema: columns of the rows.
        """
        left = self._unfinished(stage, range(len(sizes)))
        done = sum(sizes) - sum(sizes[index] for index in left)
        with StageProgress(stage, unit, total=sum(sizes), done=done, say=self.say) as progress:
            for index in left:
                self._make_shard(stage, index, make, schema, progress)

    def _make_shard(
        self, stage: Stage, index: int, make: Make, schema: pa.Schema | Features, progress: StageProgress
    ) -> None:
        """Make a shard of a stage."""
        folder, fingerprint = self.build_folder.stage_folder(stage), self.build_folder.fingerprint(stage)
        with self._timed(stage):
            write_shard(folder, index, make(index, progress), schema=schema, config=fingerprint)

    def _make_shard_of_pairs(self, index: int, progress: StageProgress) -> None:
        """Draw and score the candidates of a shard, or score those that an earlier version has drawn."""
        from ip2p.data_gen.pairs.shard import ShardDrawer

        folders = [self.build_folder.stage_folder(stage) for stage in PAIR_STAGES]
        fingerprints = [self.build_folder.fingerprint(stage) for stage in PAIR_STAGES]
        shard = ShardDrawer(
            rows.read_triples(self.build_folder, index), self.config, self.build_folder.thresholds_of_drawing(),
            folders[0] / BATCHES.format(f"{index:05d}"), fingerprints[1],
        )  # fmt: skip
        if not (self.config.pairs.needs_thresholds or self._unfinished("candidates", [index])):
            with self._timed("scores"):
                made = shard.score_again(read_shard(folders[0], index), self.scorers)
                write_shard(folders[1], index, made, schema=rows.CANDIDATE_SCHEMA, config=fingerprints[1])
            progress.advance(self.candidates[index])
            return
        made = shard.draw(self._open_tools, after_batch=functools.partial(self._count, progress))
        progress.advance(len(shard.planned) - len(made))  # those that were not worth it
        contents = (shard.stored(), rows.CANDIDATE_FEATURES), (made, rows.CANDIDATE_SCHEMA)
        name, began = f"{index} {fingerprints[1]}", time.monotonic()
        self._record("candidates", shard.seconds, of=name)  # before it is done, for then no later run would do so
        for folder, config, (content, schema) in zip(folders, fingerprints, contents, strict=True):
            write_shard(folder, index, content, schema=schema, config=config)
        self._record("candidates", shard.seconds + time.monotonic() - began, of=name)
        shard.remove()

    def _open_tools(self) -> "Tools":
        """Load the models that draw and score, before the clock starts."""
        from ip2p.data_gen.pairs.shard import Tools

        tools = Tools(self.maker, self.scorers)
        self._since = self._since or time.monotonic()
        return tools

    def _count(self, progress: StageProgress, made: Sequence[Row], drawn: bool) -> None:
        """Count the candidates of a batch."""
        if drawn:
            self.drawn += len(made)
            self.unet_rows += sum(row["unet_rows"] for row in made)
            now = time.monotonic()
            self.seconds += now - self._since
            self._since = now
        progress.advance(len(made), f"{self.unet_rows / self.seconds:.0f} UNet rows/s" if self.seconds else "")

    def _judge_pairs(self) -> "Judge":
        """Judge the pairs that all other thresholds keep, and record the verdicts before the filter goes by them."""
        from ip2p.data_gen.pairs.judge import Judge

        began = time.monotonic()
        judge = Judge(self.config.scores, self.build_folder, say=self.say)
        judge.judge_best(range(self.shards), lambda index: self._decide(index, judge, judged=False)[1])
        self.build_folder.record_verdicts(judge.digest())
        self.say(judge.describe())
        if judge.asked:
            with self.build_folder.mutex():
                record_seconds(self.build_folder.out, "judged", time.monotonic() - began)
        return judge

    def _decide(
        self, index: int, judge: "Judge | None" = None, *, judged: bool = True
    ) -> tuple[list[Row], list[Candidate]]:
        """Decide about the candidates of a shard; returns its scored rows, and the candidates as decided.

        Args:
            index: index of the shard.
            judge: judge with its verdicts so far; None before it is asked, or without one.
            judged: whether it has judged all that it will.
        """
        scored = list(read_shard(self.build_folder.stage_folder("scores"), index))
        triples = rows.triples_by_id(rows.read_triples(self.build_folder, index)).values()
        kinds = {each.id: each.kind for each in triples}
        there = {row["id"] for row in scored if row.get("stored", True)}  # earlier versions stored all
        candidates = [rows.to_candidate(row) for row in scored]
        if judge:
            candidates = [judge.apply(each) for each in candidates]
        return scored, decide(candidates, kinds, self.config.filter, there, judged=judged and judge is not None)

    @contextmanager
    def _timed(self, stage: Stage) -> Iterator[None]:
        """Context manager that records the seconds of a stage, for the cost of each pair."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._record(stage, time.monotonic() - began)

    def _record(self, stage: Stage, seconds: float, of: str = "") -> None:
        """Record the seconds of some work."""
        with self.build_folder.mutex():
            record_seconds(self.build_folder.out, stage, seconds, of=of)
