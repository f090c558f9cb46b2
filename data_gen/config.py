"""The config of a data set build: one part for each stage."""

from typing import Literal

from pydantic import Field, model_validator

from ip2p.config import Config
from ip2p.settings import SCHEDULERS, SchedulerName


class CaptionsConfig(Config):
    """Where captions come from, how many of them, and whether they are cleaned."""

    source: str = Field(
        default="storybook",
        min_length=1,
        description='"storybook", a file (text, JSONL, CSV, TSV, parquet; also .gz), a folder, or a hub data set',
    )
    count: int = Field(default=150, ge=1, description="captions to draw, or at most to read")
    sample: bool = Field(
        default=False, description="draw count at random by the run's seed instead of taking the first; reads all rows"
    )
    text_column: str = Field(default="text", description="column that holds the caption, but in text files")
    split: str = Field(default="train", description="of a folder or hub data set")
    subset: str = Field(default="", description="of a folder or hub data set that has several; empty for its default")
    clean: bool = Field(
        default=True, description="take from captions that are read what is not about the picture: addresses, ads, ids"
    )
    max_words: int = Field(default=40, ge=1, description="cleaning cuts longer captions, at a sentence if possible")


class ChecksConfig(Config):
    """What a triple has to hold to, whoever wrote it."""

    max_words: int = Field(default=60, ge=1, description="longest caption or instruction, in words")
    max_tokens: int = Field(default=77, ge=3, description="longest caption or instruction, in tokens of CLIP")
    kept: float = Field(default=0.4, ge=0, le=1, description="least share of the caption's words that the edit keeps")
    near_duplicate: float = Field(
        default=0.9, gt=0, le=1, description="Jaccard similarity of two triples from which the later one is refused"
    )
    kind_share: float = Field(default=1.0, gt=0, le=1, description="largest share of the triples that one kind may be")
    moderation: Literal["none", "words", "server"] = Field(
        default="words", description="a word list, the server's moderation besides, or none"
    )


WriterName = Literal["rules", "openai", "openai-batch", "local"]


class TriplesConfig(Config):
    """Who turns captions into instructions and edited captions, at what price, and what is asked of them."""

    writer: WriterName = Field(
        default="rules", description="rules, an API, its batch form at half the price, or a model on this machine"
    )
    model: str = Field(default="", description="name of the language model, or its folder for writer=local")
    base_url: str = Field(default="", description="of an OpenAI-compatible server; empty for OpenAI's own")
    per_caption: int = Field(default=1, ge=1, description="triples for each caption")
    inverse: bool = Field(default=False, description="ask for the instruction that undoes an edit, too: another triple")
    shots: int = Field(default=6, ge=0, description="seed triples shown in each request, drawn anew for each")
    temperature: float = Field(default=0.7, ge=0, le=2, description="of the language model")
    parallel: int = Field(default=16, ge=1, description="requests to the language model at a time")
    max_usd: float = Field(default=0.0, ge=0, description="money that the requests may cost at most; 0 for no limit")
    max_tokens: int = Field(default=0, ge=0, description="tokens that the requests may cost at most; 0 for no limit")
    price_in: float | None = Field(default=None, ge=0, description="USD per million tokens read; known for some models")
    price_out: float | None = Field(default=None, ge=0, description="USD per million tokens written")
    checks: ChecksConfig = ChecksConfig()


ShareMode = Literal["attention", "features"]


class PairsConfig(Config):
    """How pairs of pictures are drawn by Prompt-to-Prompt."""

    model: str = Field(default="storybook-base", description="text-to-image model: bundled name, folder or hub id")
    candidates: int = Field(default=4, ge=1, description="pairs drawn for each triple")
    scheduler: SchedulerName = Field(default="euler_a", description=f"one of {', '.join(SCHEDULERS)}")
    steps: int = Field(default=20, ge=1, description="of the sampler")
    share: ShareMode = Field(
        default="attention", description="self-attention as the paper, or the decoder's features besides"
    )
    p_min: float = Field(default=0.1, ge=0, le=1, description="least share of the steps that share")
    p_max: float = Field(default=0.9, ge=0, le=1, description="largest share of the steps that share")
    cfg_min: float = Field(default=3.0, ge=0, description="least guidance scale")
    cfg_max: float = Field(default=5.0, ge=0, description="largest guidance scale")
    batch: int = Field(default=8, ge=1, description="pairs drawn at a time")
    size: int = Field(default=0, ge=0, description="side of the pictures in pixels; 0 for the model's own")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="of the model; fp32 for equal pictures everywhere"
    )
    safety_checker: bool = Field(
        default=True, description="refuse pairs that the model's own safety checker blocks, if it brings one"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "PairsConfig":
        if self.p_min > self.p_max or self.cfg_min > self.cfg_max:
            raise ValueError("p_min and cfg_min must not be above p_max and cfg_max")
        return self


class ScoresConfig(Config):
    """Which CLIP measures."""

    clip: str = Field(default="storybook-clip-a", description="CLIP model: bundled name, folder or hub id")


class Thresholds(Config):
    """Bounds of the four CLIP scores of a pair that is kept (paper, section 3.1)."""

    source: float = Field(default=0.2, description="least similarity of the first picture and its caption")
    edited: float = Field(default=0.2, description="least similarity of the second picture and its caption")
    image: float = Field(default=0.7, description="least similarity of the two pictures")
    image_max: float = Field(default=1.0, description="largest similarity of the two pictures: above, nothing changed")
    direction: float = Field(default=0.2, description="least cosine between change of pictures and of captions")


class KindThresholds(Config):
    """Thresholds of one kind of edit; those that are not given are as for all."""

    source: float | None = None
    edited: float | None = None
    image: float | None = None
    image_max: float | None = None
    direction: float | None = None


class FilterConfig(Thresholds):
    """Thresholds, and how many of the pairs that pass are kept for each triple."""

    top_k: int = Field(default=4, ge=1, description="pairs kept for each triple, by direction")
    per_kind: dict[str, KindThresholds] = Field(default={}, description="other thresholds for kinds of edit, by kind")

    def thresholds(self, kind: str) -> Thresholds:
        """Those that hold for a kind of edit."""
        general = self.model_dump(include=set(Thresholds.model_fields))
        other = self.per_kind.get(kind, KindThresholds()).model_dump(exclude_none=True)
        return Thresholds.model_validate(general | other)


class PackConfig(Config):
    """How the data set is laid out."""

    shard_rows: int = Field(default=500, ge=1, description="pairs in a parquet shard")
    split: float = Field(default=0.05, ge=0, lt=1, description="share of the captions whose pairs are the test split")


class DatasetConfig(Config):
    """A data set build, from captions to packed pairs: `ip2p dataset build`."""

    seed: int = Field(default=0, description="of the run; every draw follows from it")
    out: str = Field(default="data/storybook", description="folder that all stages write under")
    shard_size: int = Field(default=32, ge=1, description="triples in a shard: the unit of resume")
    captions: CaptionsConfig = CaptionsConfig()
    triples: TriplesConfig = TriplesConfig()
    pairs: PairsConfig = PairsConfig()
    scores: ScoresConfig = ScoresConfig()
    filter: FilterConfig = FilterConfig()
    pack: PackConfig = PackConfig()
