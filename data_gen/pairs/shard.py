"""Draw and score the candidates of a shard, batch by batch, each of which is stored at once.

A killed run loses no more than a batch. Once the shard is done, pictures are stored of what passed the thresholds, and
of a random share of the rest; scores are stored of all.
"""

import functools
import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Features, Value

from ip2p.data_gen import rows
from ip2p.data_gen.config import DatasetConfig, FilterConfig
from ip2p.data_gen.pairs.draw import Pair, PairMaker, Pictures, plan_candidates
from ip2p.data_gen.pairs.early import EarlyRejection
from ip2p.data_gen.pairs.filter import decide
from ip2p.data_gen.pairs.scores import Scorers, score_candidates
from ip2p.data_gen.pairs.tries import Tries
from ip2p.records import Candidate, Triple, in_share
from ip2p.shards import is_shard_done, read_shard, write_shard

Row = dict[str, Any]
SECONDS = "seconds"
"""Column of batches: how long drawing, scoring and storing took, for each row alike."""
BATCH_FEATURES = Features(rows.CANDIDATE_FEATURES | {SECONDS: Value("float64")})


class Tools(NamedTuple):
    """The models of the stage."""

    maker: PairMaker
    scorers: Scorers


class ShardDrawer:
    """Draws the candidates of a shard.

    Args:
        triples: triples of the shard, refused ones too.
        config: config of the build.
        bounds: thresholds by which a pair is enough, hopeless, or stored.
        folder: folder of the batches, which `remove` deletes.
        fingerprint: fingerprint of the settings that the batches depend on.

    Attributes:
        seconds: duration of all batches so far, those of earlier sessions among them.
    """

    def __init__(
        self, triples: Sequence[Triple], config: DatasetConfig, bounds: FilterConfig, folder: Path, fingerprint: str
    ) -> None:
        self.settings, self.bounds, self.folder, self.fingerprint = config.pairs, bounds, folder, fingerprint
        self.triples = rows.triples_by_id(triples)
        self.kinds = {each.id: each.kind for each in self.triples.values()}
        self.planned = plan_candidates(triples, config.pairs, config.seed)
        self._done: list[Row] = []
        self._batches = 0
        self._stored = set[str]()
        self.seconds = self._since = 0.0

    def draw(
        self,
        open_tools: Callable[[], Tools],
        *,
        after_batch: Callable[[Sequence[Row], bool], None],
        overlap: bool | None = None,
    ) -> list[Row]:
        """Draw and score what is not there yet; returns the rows of all candidates, without pictures.

        Args:
            open_tools: function that loads the models, called only if there is something to draw.
            after_batch: function called after each batch with its rows, and with whether it was drawn just now.
            overlap: whether a batch is scored and stored while the next one is drawn; None for on a GPU, since two
                busy threads of a CPU only slow each other.
        """
        tries = Tries(self.planned, self.kinds, self.settings, self.bounds)
        waiting: list[Future[None]] = []
        self._since = time.monotonic()

        def settle(drawn: bool = True) -> None:
            """Wait until the latest batch is stored, and read its scores."""
            for each in waiting:
                each.result()
            waiting.clear()
            made = [_without_pictures(row) for row in read_shard(self.folder, self._batches)]
            self.seconds += sum(row.pop(SECONDS, None) or 0.0 for row in made)  # earlier versions did not store them
            tries.record([rows.to_candidate(row) for row in made])
            self._done += made
            self._batches += 1
            after_batch(made, drawn)

        with ThreadPoolExecutor(1) as background:
            while True:
                if waiting and tries.must_know:
                    settle()
                if not (batch := tries.next_batch()):
                    break
                number = self._batches + len(waiting)
                if is_shard_done(self.folder, number, self.fingerprint):
                    if waiting:
                        settle()
                    settle(drawn=False)
                    continue
                tools = open_tools()
                early = EarlyRejection(self.triples, self.settings, self.bounds, tools.scorers)
                pairs = list(tools.maker.draw(batch, early if self.settings.early_at else None))
                if waiting:
                    settle()
                waiting.append(background.submit(self._store, number, pairs, early, tools.scorers))
                if not (tools.maker.backbone.device.type != "cpu" if overlap is None else overlap):
                    settle()
        self._stored = self._choose_stored()
        return [row | {"stored": row["id"] in self._stored} for row in self._done]

    def score_again(self, drawn: Iterable[Row], scorers: Scorers) -> list[Row]:
        """Score candidates of an earlier version, which stored all pictures and fewer scores; returns all rows.

        Args:
            drawn: rows with pictures.
            scorers: networks that score.
        """
        made = []
        for batch in iter(functools.partial(_take, iter(drawn), self.settings.batch), []):
            candidates = [rows.to_candidate(row) for row in batch]
            pictures = [(rows.from_png(row["original_image"]), rows.from_png(row["edited_image"])) for row in batch]
            scored = self._score(candidates, pictures, scorers)
            drawing = [{"unet_rows": row["unet_rows"], "early": "", "stored": True} for row in batch]
            made += [row | more for row, more in zip(scored, drawing, strict=True)]
        return made

    def stored(self) -> Iterator[Row]:
        """Yield the rows with pictures of the candidates whose pictures are stored, read from the batches."""
        for number in range(self._batches):
            for row in read_shard(self.folder, number):
                row.pop(SECONDS, None)
                if row["id"] in self._stored:
                    yield row | {"stored": True}

    def remove(self) -> None:
        """Remove the batches, when the shard is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _store(self, number: int, pairs: Sequence[Pair], early: EarlyRejection, scorers: Scorers) -> None:
        """Score a batch and store it."""
        pictures = [(pair.source, pair.edited) for pair in pairs]
        scored = self._score([pair.candidate for pair in pairs], pictures, scorers)
        made = [
            row
            | {"unet_rows": pair.unet_rows, "early": early.verdicts.get(pair.candidate.id, ""), "stored": True}
            | {"original_image": rows.to_png(pair.source), "edited_image": rows.to_png(pair.edited)}
            for row, pair in zip(scored, pairs, strict=True)
        ]
        now = time.monotonic()  # since the batch before was stored, which may have been while this one was drawn
        share, self._since = (now - self._since) / len(made), now
        timed = [row | {SECONDS: share} for row in made]
        write_shard(self.folder, number, timed, schema=BATCH_FEATURES, config=self.fingerprint)

    def _score(self, candidates: Sequence[Candidate], pictures: Sequence[Pictures], scorers: Scorers) -> list[Row]:
        """Score candidates, and return their rows without pictures."""
        triples = [self.triples[each.triple_id] for each in candidates]
        scored = rows.to_rows(score_candidates(candidates, pictures, triples, scorers))
        return [{name: row[name] for name in row if name in rows.CANDIDATE_SCHEMA.names} for row in scored]

    def _choose_stored(self) -> set[str]:
        """Return the ids of the candidates that pass and are among the best of their triple, and of some others."""
        decided = decide([rows.to_candidate(row) for row in self._done], self.kinds, self.bounds)
        share = self.settings.store_refused
        return {each.id for each in decided if each.status == "ok" or in_share(each.id, share, "stored")}


def _without_pictures(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in rows.PICTURES}


def _take(drawn: Iterator[Row], count: int) -> list[Row]:
    return list(itertools.islice(drawn, count))
