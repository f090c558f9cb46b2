"""The stages that need models: candidates are drawn, scored, and decided about, shard by shard."""

import time
from collections.abc import Callable, Sequence
from functools import cached_property

from ip2p.backbone import load_backbone
from ip2p.data_gen import rows
from ip2p.data_gen.filter import decide
from ip2p.data_gen.pairs import PairMaker, plan
from ip2p.data_gen.results import Results
from ip2p.data_gen.scores import score
from ip2p.data_gen.stages import Row, TextStages
from ip2p.data_gen.workspace import Workspace
from ip2p.editor import best_device
from ip2p.errors import ConfigError
from ip2p.precision import PRECISIONS
from ip2p.progress import StageProgress
from ip2p.shards import read_shard
from ip2p.similarity import ClipScorer

SCORED_AT_ONCE = 64
"""Candidates whose pictures are decoded and scored together."""


class Stages(TextStages):
    """All stages, from captions to decided candidates.

    Args:
        workspace: of the build, claimed.
        say: prints a line.

    Attributes:
        drawn, unet_rows, seconds: candidates drawn in this sitting, the UNet rows of these, and how long that took.
    """

    def __init__(self, workspace: Workspace, say: Callable[[str], None]) -> None:
        super().__init__(workspace, say)
        self.drawn = self.unet_rows = 0
        self.seconds = 0.0

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

    def results(self) -> Results:
        """What comes after the last stage."""
        return Results(self.workspace, self.shards, self.say)

    @cached_property
    def maker(self) -> PairMaker:
        """The base model, loaded when the first shard wants it."""
        settings, device = self.config.pairs, best_device()
        if device.type == "cpu" and settings.precision == "fp16":
            raise ConfigError(
                f"pairs.precision={settings.precision} is for a GPU",
                "Give pairs.precision=fp32, or bf16 if this CPU computes it",
            )
        backbone = load_backbone(
            settings.model, device=device, dtype=PRECISIONS[settings.precision], want="base",
            safety_checker=settings.safety_checker,
        )  # fmt: skip
        return PairMaker(backbone, settings)

    @cached_property
    def scorer(self) -> ClipScorer:
        """The CLIP that filters, loaded when the first shard wants it."""
        return ClipScorer.from_pretrained(self.config.scores.clip, device=best_device())

    def _candidates(self) -> list[int]:
        """Candidates of each shard."""
        triples = (rows.read_triples(self.workspace, index) for index in range(self.shards))
        return [self.config.pairs.candidates * sum(each.status == "ok" for each in shard) for shard in triples]


def _with_cost(values: Sequence[Row], earlier: Sequence[Row]) -> list[Row]:
    """Rows of candidates with the UNet rows that the stage before knew."""
    return [value | {"unet_rows": row["unet_rows"]} for value, row in zip(values, earlier, strict=True)]
