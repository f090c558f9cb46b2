"""The stages of text, from captions to triples, shard by shard: each reads finished shards and writes finished shards.

Whatever a killed run had not finished is made again, with the same bytes. Nothing here needs a model of pictures.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Features

from ip2p.data_gen import rows
from ip2p.data_gen.drafts import Writer
from ip2p.data_gen.triples import Seen, write_triples
from ip2p.data_gen.triples_report import TriplesTally, render_triples
from ip2p.data_gen.workspace import Stage, Workspace
from ip2p.data_gen.writers import open_writer
from ip2p.data_gen.writers.ledger import spending
from ip2p.errors import DataError, WriterError
from ip2p.progress import StageProgress
from ip2p.records import Caption
from ip2p.shards import atomic_write, read_shards, shard_done, write_shard

Row = dict[str, Any]
Make = Callable[[int, StageProgress], list[Row]]
"""Makes the rows of a shard, and tells how far it is."""


class TextStages:
    """The stages from captions to triples.

    Args:
        workspace: of the build, claimed.
        say: prints a line.
    """

    def __init__(self, workspace: Workspace, say: Callable[[str], None]) -> None:
        self.workspace, self.config, self.say = workspace, workspace.config, say

    def write_captions(self, captions: Sequence[Caption]) -> None:
        """Write all captions, as `read_captions` gives them."""
        chunks = self._chunks(captions)

        def make(index: int, progress: StageProgress) -> list[Row]:
            progress.advance(len(chunks[index]))
            return rows.dump(chunks[index])

        self._run("captions", "captions", [len(chunk) for chunk in chunks], make, rows.CAPTIONS)

    def write_triples(self) -> None:
        """Let the writer make triples of the captions, and check them.

        Raises:
            WriterError: the writer cannot go on. Shards that it has all answers for are written before.
        """
        chunks, settings = self._chunks(self.captions), self.config.triples
        seen, caught_up = Seen(settings.checks), 0

        def make(index: int, progress: StageProgress) -> list[Row]:
            nonlocal caught_up
            for earlier in range(caught_up, index):
                seen.remember(chunks[earlier], rows.read_triples(self.workspace, earlier))
            triples = write_triples(chunks[index], self.writer, settings, seen=seen)
            caught_up = index + 1
            progress.advance(len(chunks[index]))
            return rows.dump(triples)

        def run() -> None:
            self._run("triples", "captions", [len(chunk) for chunk in chunks], make, rows.TRIPLES)

        left = self._left("triples", len(chunks))
        try:
            if left:
                self.writer.prepare([each for index in left for each in chunks[index]], settings.per_caption)
            run()
        except WriterError:
            with suppress(WriterError):
                run()
            raise
        finally:
            if left:
                self.writer.close()

    def report_triples(self) -> tuple[TriplesTally, Path]:
        """Count the triples that are there, and write triples.html about them if there are any."""
        left = set(self._left("triples", self.shards))
        there = (index for index in range(self.shards) if index not in left)
        tally = TriplesTally(row for index in there for row in rows.read_triples(self.workspace, index))
        page = self.workspace.out / "triples.html"
        settings = self.config.triples
        spent = spending(self.workspace.out) if settings.writer.startswith("openai") else None
        if tally.total:
            atomic_write(page, render_triples(tally, settings.model or settings.writer, spent).encode())
        return tally, page

    def require(self, stage: Stage, fix: str) -> None:
        """Check that all shards of a stage are done with these settings.

        Raises:
            DataError: one is not.
        """
        if left := self._left(stage, self.shards):
            folder = self.workspace.folder(stage)
            raise DataError(f"shard {left[0]} of {folder} is not there, or was made with other settings", fix)

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
        """Who writes triples."""
        return open_writer(self.config.triples, self.workspace.out, seed=self.config.seed, say=self.say)

    def _chunks(self, captions: Sequence[Caption]) -> list[Sequence[Caption]]:
        size = self.config.shard_size
        return [captions[start : start + size] for start in range(0, len(captions), size)]

    def _left(self, stage: Stage, shards: int) -> list[int]:
        """Shards of a stage that are not done with these settings."""
        folder, fingerprint = self.workspace.folder(stage), self.workspace.fingerprint(stage)
        return [index for index in range(shards) if not shard_done(folder, index, fingerprint)]

    def _run(self, stage: Stage, unit: str, sizes: Sequence[int], make: Make, schema: pa.Schema | Features) -> None:
        """Make those shards of a stage that are not done; sizes are those of all shards, in units."""
        folder, fingerprint = self.workspace.folder(stage), self.workspace.fingerprint(stage)
        left = self._left(stage, len(sizes))
        done = sum(sizes) - sum(sizes[index] for index in left)
        with StageProgress(stage, unit, total=sum(sizes), done=done, say=self.say) as progress:
            for index in left:
                write_shard(folder, index, make(index, progress), schema=schema, config=fingerprint)
