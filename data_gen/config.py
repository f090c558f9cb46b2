"""The config of a data set build: one section for each stage."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ip2p.config import Config
from ip2p.data_gen.per_kind import Ranges, of_kind, require_known
from ip2p.data_gen.score_config import FilterConfig as FilterConfig
from ip2p.data_gen.score_config import KindThresholds as KindThresholds
from ip2p.data_gen.score_config import ScoresConfig as ScoresConfig
from ip2p.data_gen.score_config import Thresholds as Thresholds
from ip2p.data_gen.score_config import check_extra_body, judge_bounds
from ip2p.settings import SchedulerName


class CaptionsConfig(Config):
    """Where captions come from, how many are taken, and whether they are cleaned."""

    source: str = Field(
        default="storybook",
        min_length=1,
        description='"storybook", a file (text, JSONL, CSV, TSV, parquet; also .gz), a folder, or a hub data set',
    )
    count: int = Field(
        default=150, ge=1, description="number of captions: how many storybook makes, or the most to read"
    )
    sample: bool = Field(
        default=False, description="sample the captions by the run's seed instead of taking the first; reads all rows"
    )
    text_column: str = Field(default="text", description="column that holds the caption; not used for text files")
    split: str = Field(default="train", description="split to read of a folder or hub data set")
    subset: str = Field(
        default="", description="subset to read of a hub data set that has several; empty for its default"
    )
    clean: bool = Field(
        default=True, description="strip what is not about the picture from captions: addresses, ads, ids"
    )
    max_words: int = Field(
        default=40,
        ge=1,
        description="words to which cleaning cuts longer captions, at the end of a sentence if possible",
    )


class ChecksConfig(Config):
    """What every triple has to satisfy, whoever wrote it."""

    max_words: int = Field(default=60, ge=1, description="longest caption or instruction, in words")
    max_tokens: int = Field(default=77, ge=3, description="longest caption or instruction, in CLIP tokens")
    kept: float = Field(
        default=0.4, ge=0, le=1, description="smallest share of the caption's words that the edit keeps"
    )
    near_duplicate: float = Field(
        default=0.9, gt=0, le=1, description="Jaccard similarity to an earlier triple from which a triple is refused"
    )
    kind_share: float = Field(
        default=1.0, gt=0, le=1, description="largest share of the triples that one kind of edit may have"
    )
    moderation: Literal["none", "words", "server"] = Field(
        default="words",
        description="words: a word list; server: the word list and the server's moderation; none: neither",
    )


WriterName = Literal["rules", "openai", "openai-batch", "local", "file"]


class TriplesConfig(Config):
    """Which writer turns captions into instructions and edited captions, and how much it may cost."""

    writer: WriterName = Field(
        default="rules",
        description="rules, a server, its Batch API at half the price, a model on this machine, or a file of triples",
    )
    model: str = Field(
        default="", description="language model: its name on the server, or a folder or hub id for writer=local"
    )
    base_url: str = Field(default="", description="address of an OpenAI-compatible server; empty for OpenAI's own")
    per_caption: int = Field(default=1, ge=1, description="triples for each caption")
    inverse: bool = Field(
        default=False, description="also ask for the instruction that undoes the edit, which makes another triple"
    )
    turns: int = Field(
        default=1, ge=1, description="edits in a chain, each of the edited caption of the one before, while they pass"
    )
    long_form: bool = Field(
        default=False, description="also write each instruction in full sentences; pairs have the one or the other"
    )
    file: str = Field(
        default="",
        description="JSONL of finished triples for writer=file, with caption, instruction and edited_caption or input, "
        "edit and output; their captions take the place of captions.*",
    )
    seeds: str = Field(
        default="", description="JSONL of seed triples in place of those of ip2p, in the same layouts as a file"
    )
    system: str = Field(
        default="", description="text file that tells a language model about your edits, in place of ip2p's words"
    )
    shots: int = Field(
        default=6, ge=0, description="seed triples shown as examples in each request, drawn anew for each"
    )
    temperature: float = Field(default=0.7, ge=0, le=2, description="sampling temperature of the language model")
    parallel: int = Field(default=16, ge=1, description="requests to the server in flight at a time")
    max_usd: float = Field(default=0.0, ge=0, description="most that the requests may cost, in USD; 0 for no limit")
    max_tokens: int = Field(default=0, ge=0, description="most tokens that the requests may use; 0 for no limit")
    reply_tokens: int = Field(
        default=200,
        ge=16,
        description="most tokens of an answer of the server for each edit, without reasoning; doubled once if it is "
        "cut off",
    )
    max_reasoning_tokens: int = Field(
        default=16384,
        ge=0,
        description="most tokens of reasoning in an answer of the server; it gets none at first, and then as many as "
        "it turns out to need",
    )
    reasoning_effort: str | None = Field(
        default=None, description="how much the server's model is to reason, such as minimal, low or high"
    )
    extra_body: dict[str, Any] = Field(
        default={},
        description="further arguments of every request to the server, such as "
        "{chat_template_kwargs: {enable_thinking: false}}",
    )
    cache: str = Field(
        default="",
        description="folder of another build, or its asked.jsonl, whose answers of a server are taken over where the "
        "same was asked of the same model",
    )
    skip_unanswered: bool = Field(
        default=False,
        description="refuse captions that the server does not answer, instead of ending with an error so that the same "
        "command asks again",
    )
    price_in: float | None = Field(
        default=None, ge=0, description="USD per million input tokens; null takes the known price of the model"
    )
    price_out: float | None = Field(
        default=None, ge=0, description="USD per million output tokens; null takes the known price of the model"
    )
    checks: ChecksConfig = ChecksConfig()

    @field_validator("extra_body")
    @classmethod
    def _leave_the_question(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_extra_body(value)

    @model_validator(mode="after")
    def _has_its_file(self) -> "TriplesConfig":
        if (self.writer == "file") != bool(self.file):
            raise ValueError("the writer is file where triples.file names one, and only there")
        return self


ShareMode = Literal["attention", "features"]


class PairsConfig(Config):
    """How pairs of pictures are drawn by Prompt-to-Prompt."""

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
        default=0.1, ge=0, le=1, description="smallest share of the denoising steps that share, drawn for each pair"
    )
    p_max: float = Field(default=0.9, ge=0, le=1, description="largest share of the denoising steps that share")
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
    def needs_thresholds(self) -> bool:
        """Whether thresholds of the filter decide what is drawn, or which pictures are stored."""
        return bool(self.enough or self.give_up_below or self.early_at) or self.store_refused < 1


class PackConfig(Config):
    """How the packed data set is laid out."""

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
