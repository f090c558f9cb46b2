"""The stages of a build, shard by shard: each reads finished shards and writes finished shards.

Whatever a killed run had not finished is made again, with the same bytes.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
import torch
from datasets import Features

from ip2p.backbone import load_backbone
from ip2p.data_gen import rows
from ip2p.data_gen.filter import decide
from ip2p.data_gen.llm import ModelWriter
from ip2p.data_gen.pairs import PairMaker, plan
from ip2p.data_gen.progress import StageProgress
from ip2p.data_gen.results import Results
from ip2p.data_gen.rules import RuleWriter
from ip2p.data_gen.scores import score
from ip2p.data_gen.triples import Writer, write_triples
from ip2p.data_gen.workspace import Stage, Workspace
from ip2p.editor import best_device
from ip2p.errors import ConfigError, DataError
from ip2p.records import Caption
from ip2p.shards import read_shard, read_shards, shard_done, write_shard
from ip2p.similarity import ClipScorer

SCORED_AT_ONCE = 64
"""Candidates whose pictures are decoded and scored together."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Row = dict[str, Any]
Make = Callable[[int, StageProgress], list[Row]]
"""Makes the rows of a shard, and tells how far it is."""


class Stages:
    """The stages from captions to decided candidates, in the order in which they run.

    Args:
        workspace: of the build, claimed.
        say: prints a line.

    Attributes:
        drawn, unet_rows, seconds: candidates drawn in this sitting, the UNet rows of these, and how long that took.
    """

    def __init__(self, workspace: Workspace, say: Callable[[str], None]) -> None:
        self.workspace, self.config, self.say = workspace, workspace.config, say
        self.drawn = self.unet_rows = 0
        self.seconds = 0.0

    def write_captions(self, captions: Sequence[Caption]) -> None:
        """Write all captions, as `read_captions` gives them."""
        chunks = self._chunks(captions)

        def make(index: int, progress: StageProgress) -> list[Row]:
            progress.advance(len(chunks[index]))
            return rows.dump(chunks[index])

        self._run("captions", "captions", [len(chunk) for chunk in chunks], make, rows.CAPTIONS)

    def write_triples(self) -> None:
        """Let the writer make triples of the captions."""
        chunks = self._chunks(self.captions)

        def make(index: int, progress: StageProgress) -> list[Row]:
            known = {caption.id for chunk in chunks[:index] for caption in chunk}
            triples = write_triples(chunks[index], self.writer, self.config.triples, known=known)
            progress.advance(len(chunks[index]))
            return rows.dump(triples)

        self._run("triples", "captions", [len(chunk) for chunk in chunks], make, rows.TRIPLES)

    def draw_pairs(self) -> None:
        """Draw all candidates of all triples that were not refused."""
        settings, seed = self.config.pairs, self.config.seed

        def make(index: int, progress: StageProgress) -> list[Row]:
            jobs = plan(rows.read_triples(self.workspace, index), settings, seed)
            maker = self.maker if jobs else None  # loading is not drawing
            before, started, made = self.seconds, time.monotonic(), []
            for pair in maker.draw(jobs) if maker else ():
                pictures = {"original_image": rows.to_png(pair.source), "edited_image": rows.to_png(pair.edited)}
                made.append(pair.candidate.model_dump(mode="json") | {"unet_rows": pair.unet_rows} | pictures)
                self.drawn += 1
                self.unet_rows += pair.unet_rows
                self.seconds = before + time.monotonic() - started
                progress.advance(1, f"{self.unet_rows / self.seconds:.0f} UNet rows/s")
            return made

        self._run("candidates", "candidates", self._candidates(), make, rows.DRAWN)

    def score_pairs(self) -> None:
        """Score all candidates by CLIP."""

        def make(index: int, progress: StageProgress) -> list[Row]:
            triples = rows.by_id(rows.read_triples(self.workspace, index))
            drawn, done = list(read_shard(self.workspace.folder("candidates"), index)), []
            for start in range(0, len(drawn), SCORED_AT_ONCE):
                chunk = drawn[start : start + SCORED_AT_ONCE]
                candidates = [rows.to_candidate(row) for row in chunk]
                images = [(rows.from_png(row["original_image"]), rows.from_png(row["edited_image"])) for row in chunk]
                scored = score(candidates, images, [triples[each.triple_id] for each in candidates], self.scorer)
                done += _with_cost(rows.dump(scored), chunk)
                progress.advance(len(chunk))
            return done

        self._run("scores", "candidates", self._candidates(), make, rows.SCORED)

    def filter_pairs(self) -> None:
        """Decide by the scores alone which candidates are kept."""

        def make(index: int, progress: StageProgress) -> list[Row]:
            scored = list(read_shard(self.workspace.folder("scores"), index))
            kinds = {each.id: each.kind for each in rows.by_id(rows.read_triples(self.workspace, index)).values()}
            decided = decide([rows.to_candidate(row) for row in scored], kinds, self.config.filter)
            progress.advance(len(scored))
            return _with_cost(rows.dump(decided), scored)

        self._run("filtered", "candidates", self._candidates(), make, rows.SCORED)

    def require(self, stage: Stage, fix: str) -> None:
        """Check that all shards of a stage are done with these settings.

        Raises:
            DataError: one is not.
        """
        folder, fingerprint = self.workspace.folder(stage), self.workspace.fingerprint(stage)
        for index in range(self.shards):
            if not shard_done(folder, index, fingerprint):
                raise DataError(f"shard {index} of {folder} is not there, or was made with other settings", fix)

    def results(self) -> Results:
        """What comes after the last stage."""
        return Results(self.workspace, self.shards, self.say)

    @cached_property
    def captions(self) -> list[Caption]:
        """All captions, once they are written."""
        return [Caption.model_validate(row) for row in read_shards(self.workspace.folder("captions"))]

    @property
    def shards(self) -> int:
        """Shards of each stage."""
        return math.ceil(len(self.captions) / self.config.shard_size)

    @cached_property
    def writer(self) -> Writer:
        """Rules or a language model."""
        return (
            RuleWriter(self.config.seed) if self.config.triples.writer == "rules" else ModelWriter(self.config.triples)
        )

    @cached_property
    def maker(self) -> PairMaker:
        """The base model, loaded when the first shard wants it."""
        settings, device = self.config.pairs, best_device()
        if device.type == "cpu" and settings.precision == "fp16":
            raise ConfigError(
                f"pairs.precision={settings.precision} is for a GPU",
                "Give pairs.precision=fp32, or bf16 if this CPU computes it",
            )
        backbone = load_backbone(settings.model, device=device, dtype=DTYPES[settings.precision], want="base")
        return PairMaker(backbone, settings)

    @cached_property
    def scorer(self) -> ClipScorer:
        """The CLIP that filters, loaded when the first shard wants it."""
        return ClipScorer.from_pretrained(self.config.scores.clip, device=best_device())

    def _chunks(self, captions: Sequence[Caption]) -> list[Sequence[Caption]]:
        size = self.config.shard_size
        return [captions[start : start + size] for start in range(0, len(captions), size)]

    def _candidates(self) -> list[int]:
        """Candidates of each shard."""
        triples = (rows.read_triples(self.workspace, index) for index in range(self.shards))
        return [self.config.pairs.candidates * sum(each.status == "ok" for each in shard) for shard in triples]

    def _run(self, stage: Stage, unit: str, sizes: Sequence[int], make: Make, schema: pa.Schema | Features) -> None:
        """Make those shards of a stage that are not done; sizes are those of all shards, in units."""
        folder, fingerprint = self.workspace.folder(stage), self.workspace.fingerprint(stage)
        done = [shard_done(folder, index, fingerprint) for index in range(len(sizes))]
        finished = sum(size for size, there in zip(sizes, done, strict=True) if there)
        with StageProgress(stage, unit, total=sum(sizes), done=finished, say=self.say) as progress:
            for index in (index for index, there in enumerate(done) if not there):
                write_shard(folder, index, make(index, progress), schema=schema, config=fingerprint)


def _with_cost(values: Sequence[Row], earlier: Sequence[Row]) -> list[Row]:
    """Rows of candidates with the UNet rows that the stage before knew."""
    return [value | {"unet_rows": row["unet_rows"]} for value, row in zip(values, earlier, strict=True)]
