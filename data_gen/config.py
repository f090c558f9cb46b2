"""The config of a data set build: one section for each stage."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ip2p.config import Config
from ip2p.data_gen.per_kind import Ranges, of_kind, require_known
from ip2p.data_gen.score_config import FilterConfig as FilterConfig
from ip2p.data_gen.score_config import KindThresholds as KindThresholds
from ip2p.data_gen.score_config import ScoresConfig as ScoresConfig
from ip2p.data_gen.score_config import Thresholds as Thresholds
from ip2p.data_gen.score_config import judge_bounds
from ip2p.data_gen.text_config import CaptionsConfig as CaptionsConfig
from ip2p.data_gen.text_config import ChecksConfig as ChecksConfig
from ip2p.data_gen.text_config import TriplesConfig as TriplesConfig
from ip2p.data_gen.text_config import WriterName as WriterName
from ip2p.settings import SchedulerName

ShareMode = Literal["attention", "features"]


class PairsConfig(Config):
    """Settings by which Prompt-to-Prompt draws pairs of pictures."""

    model: str = Field(default="storybook-base", description="text-to-image model: bundled name, folder or hub id")
    vae: str = Field(
        default="",
        description="folder or hub id of an autoencoder in place of the model's own, such as stabilityai/sd-vae-ft-mse",
    )
    loras: list[str] = Field(
        default=[], description="LoRA files to merge into the model, each FILE or FILE:SCALE, such as lcm.safetensors:1"
    )
    negative_prompt: str = Field(
        default="", description="what the pictures should not show; guidance leads away from it"
    )
    candidates: int = Field(default=4, ge=1, description="most pairs drawn for each triple")
    tree: int = Field(
        default=1,
        ge=1,
        description="candidates of a triple that share seed, guidance scale and source picture and differ in p; what "
        "their edited pictures have in common is computed once",
    )
    enough: int = Field(
        default=0, ge=0, description="pairs that pass the filter after which no more of a triple are drawn; 0 draws all"
    )
    give_up_below: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of pairs that pass below which a triple is given up, once this is 95 % sure; 0 for never",
    )
    early_at: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the denoising steps after which hopeless pairs are drawn no further; 0 for never",
    )
    early_decoder: str = Field(
        default="",
        description="folder or hub id of a small decoder that pairs are looked at through then, such as "
        "madebyollin/taesd; empty for the model's own",
    )
    early_margin: float = Field(
        default=0.1, ge=0, description="how far below its threshold a score is at which a pair is rejected early"
    )
    early_audit: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of the pairs that are never rejected early, which show how many good ones are lost",
    )
    store_refused: float = Field(
        default=1.0, ge=0, le=1, description="share of the refused pairs whose pictures are stored; scores always are"
    )
    scheduler: SchedulerName = Field(default="euler_a", description="scheduler of the denoising steps")
    steps: int = Field(default=20, ge=1, description="denoising steps")
    text_every: int = Field(
        default=1, ge=1, description="denoising steps between computations of the text difference; 1 is exact"
    )
    guidance_start: float = Field(
        default=0.0, ge=0, le=1, description="share of the noise schedule at which guidance begins"
    )
    guidance_stop: float = Field(default=1.0, ge=0, le=1, description="share of the noise schedule at which it ends")
    share: ShareMode = Field(
        default="attention",
        description="what both pictures share: self-attention, as in the paper, or the decoder's features as well",
    )
    p_min: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="lower bound of p, the share of denoising steps with shared attention, drawn for each pair",
    )
    p_max: float = Field(default=0.9, ge=0, le=1, description="upper bound of p")
    cfg_min: float = Field(
        default=3.0, ge=0, description="smallest guidance scale, drawn for each pair; 1 and 0 are none"
    )
    cfg_max: float = Field(default=5.0, ge=0, description="largest guidance scale")
    per_kind: dict[str, Ranges] = Field(
        default={},
        description="other ranges for some kinds of edit, by name; those of swap are those of swap_building, too",
    )
    batch: int = Field(default=8, ge=1, description="pairs drawn at a time")
    threads: int = Field(
        default=1,
        ge=1,
        description="threads of each process that draws or scores on a CPU; another number rounds differently, so that "
        "bytes differ, and --workers uses more cores without that",
    )
    size: int = Field(default=0, ge=0, description="side of the pictures in pixels; 0 for the model's own")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="precision of the model; fp32 draws the same pictures everywhere"
    )
    safety_checker: bool = Field(
        default=True, description="refuse pairs that the model's own safety checker blocks, if it brings one"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "PairsConfig":
        for each in (self, *map(self.for_kind, self.per_kind)):
            if each.p_min > each.p_max or each.cfg_min > each.cfg_max:
                raise ValueError("p_min and cfg_min must not be above p_max and cfg_max, for any kind of edit")
        if self.guidance_start > self.guidance_stop:
            raise ValueError("guidance_start must not be above guidance_stop")
        if self.tree > self.batch:
            raise ValueError("tree must not be above batch, for a tree is drawn in one")
        return self

    def for_kind(self, kind: str) -> "PairsConfig":
        """Return the settings for a kind of edit, with its own ranges, or else those of its general kind."""
        return self.model_copy(update=of_kind(self.per_kind, kind))

    @field_validator("per_kind")
    @classmethod
    def _of_known_kinds(cls, value: dict[str, Ranges]) -> dict[str, Ranges]:
        require_known(value)
        return value

    @property
    def early_step(self) -> int:
        """Denoising steps after which hopeless pairs are drawn no further; 0 for never."""
        early = max(1, round(self.early_at * self.steps)) if self.early_at else 0
        return min(early, self.steps - 1)

    @property
    def needs_thresholds(self) -> bool:
        """Whether thresholds of the filter decide what is drawn, or which pictures are stored."""
        return bool(self.enough or self.give_up_below or self.early_at) or self.store_refused < 1


class PackConfig(Config):
    """Layout of the packed data set."""

    shard_rows: int = Field(default=500, ge=1, description="pairs in a parquet shard")
    split: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="share of the captions whose pairs go to the test split; near duplicates of a caption go with it",
    )
    preferences: bool = Field(
        default=True,
        description="also pack preference pairs, kept and refused candidates of one triple, as a second configuration",
    )
    inverse: bool = Field(
        default=False,
        description="also pack each pair the other way round, where an instruction undoes the edit; nothing is drawn",
    )
    near_copies: Literal["keep", "refuse"] = Field(
        default="keep",
        description="what becomes of a pair both pictures of which are near copies of those of another triple's pair",
    )
    captions_license: str = Field(
        default="", description="licence of the captions, such as cc-by-4.0; empty to look for it on their card"
    )
    writer_license: str = Field(
        default="", description="licence or terms of what the writer wrote; empty to look for it on the model's card"
    )
    model_license: str = Field(
        default="", description="licence of the base model; empty to look for it on the model's card"
    )


class DatasetConfig(Config):
    """A data set build, from captions to packed pairs: `ip2p dataset build`."""

    seed: int = Field(default=0, description="seed of the run; every random draw follows from it")
    out: str = Field(default="data/storybook", description="folder that all stages write under")
    shard_size: int = Field(default=32, ge=1, description="triples in a shard, the unit of work that is resumed")
    captions: CaptionsConfig = CaptionsConfig()
    triples: TriplesConfig = TriplesConfig()
    pairs: PairsConfig = PairsConfig()
    scores: ScoresConfig = ScoresConfig()
    filter: FilterConfig = FilterConfig()
    pack: PackConfig = PackConfig()

    @model_validator(mode="after")
    def _has_its_judge(self) -> "DatasetConfig":
        asked = {name for each in (self.filter, *self.filter.per_kind.values()) for name in judge_bounds(each)}
        if asked and not self.scores.judge:
            raise ValueError(f"filter.{min(asked)} asks for a judge, and scores.judge names none")
        return self

    @model_validator(mode="after")
    def _asks_for_what_it_packs(self) -> "DatasetConfig":
        if self.pack.inverse and not self.triples.stores_inverse:
            raise ValueError(
                "pack.inverse takes instructions that undo the edits, for which a language model is asked only with "
                "triples.ask_inverse=true, set before triples are written"
            )
        return self
