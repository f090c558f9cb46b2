"""Settings of a run: one frozen, checked model for each stage, read from YAML and `key=value`.

Every field says what it is for; an unknown key is an error that names the nearest known one.
"""

import difflib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ip2p.errors import ConfigError
from ip2p.settings import SCHEDULERS, SchedulerName

M = TypeVar("M", bound=BaseModel)


class Settings(BaseModel):
    """Base of all configs: they do not change once read, and know no other keys than their own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Captions(Settings):
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


class Checks(Settings):
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


class Triples(Settings):
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
    checks: Checks = Checks()


Share = Literal["attention", "features"]


class Pairs(Settings):
    """How pairs of pictures are drawn by Prompt-to-Prompt."""

    model: str = Field(default="storybook-base", description="text-to-image model: bundled name, folder or hub id")
    candidates: int = Field(default=4, ge=1, description="pairs drawn for each triple")
    scheduler: SchedulerName = Field(default="euler_a", description=f"one of {', '.join(SCHEDULERS)}")
    steps: int = Field(default=20, ge=1, description="of the sampler")
    share: Share = Field(
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
    def _ordered(self) -> "Pairs":
        if self.p_min > self.p_max or self.cfg_min > self.cfg_max:
            raise ValueError("p_min and cfg_min must not be above p_max and cfg_max")
        return self


class Scores(Settings):
    """Which CLIP measures."""

    clip: str = Field(default="storybook-clip-a", description="CLIP model: bundled name, folder or hub id")


class Thresholds(Settings):
    """Bounds of the four CLIP scores of a pair that is kept (paper, section 3.1)."""

    source: float = Field(default=0.2, description="least similarity of the first picture and its caption")
    edited: float = Field(default=0.2, description="least similarity of the second picture and its caption")
    image: float = Field(default=0.7, description="least similarity of the two pictures")
    image_max: float = Field(default=1.0, description="largest similarity of the two pictures: above, nothing changed")
    direction: float = Field(default=0.2, description="least cosine between change of pictures and of captions")


class OtherThresholds(Settings):
    """Thresholds of one kind of edit; those that are not given are as for all."""

    source: float | None = None
    edited: float | None = None
    image: float | None = None
    image_max: float | None = None
    direction: float | None = None


class Filter(Thresholds):
    """Thresholds, and how many of the pairs that pass are kept for each triple."""

    top_k: int = Field(default=4, ge=1, description="pairs kept for each triple, by direction")
    per_kind: dict[str, OtherThresholds] = Field(default={}, description="other thresholds for kinds of edit, by kind")

    def thresholds(self, kind: str) -> Thresholds:
        """Those that hold for a kind of edit."""
        general = self.model_dump(include=set(Thresholds.model_fields))
        other = self.per_kind.get(kind, OtherThresholds()).model_dump(exclude_none=True)
        return Thresholds.model_validate(general | other)


class Pack(Settings):
    """How the data set is laid out."""

    shard_rows: int = Field(default=500, ge=1, description="pairs in a parquet shard")
    split: float = Field(default=0.05, ge=0, lt=1, description="share of the captions whose pairs are the test split")


class DatasetConfig(Settings):
    """A data set build, from captions to packed pairs: `ip2p dataset build`."""

    seed: int = Field(default=0, description="of the run; every draw follows from it")
    out: str = Field(default="data/storybook", description="folder that all stages write under")
    shard_size: int = Field(default=32, ge=1, description="triples in a shard: the unit of resume")
    captions: Captions = Captions()
    triples: Triples = Triples()
    pairs: Pairs = Pairs()
    scores: Scores = Scores()
    filter: Filter = Filter()
    pack: Pack = Pack()


class FinetuneConfig(Settings):
    """Training an editor from a base model and packed pairs: `accelerate launch train/finetune.py`."""

    seed: int = Field(default=0, description="of the run; noise, order, crops and dropping follow from it")
    base: str = Field(default="storybook-base", description="text-to-image model: bundled name, folder or hub id")
    dataset: str | tuple[str, ...] = Field(
        default="data/storybook/packed", description="folder of a packed data set, or a hub data set; or several"
    )
    out: str = Field(default="runs/editor", description="folder of checkpoints, metrics, sheets and the editor")

    minutes: float | None = Field(default=None, gt=0, description="end by the clock too, counted over all sittings")
    steps: int = Field(default=1000, ge=1, description="optimizer steps")
    batch: int = Field(default=32, ge=1, description="pairs in a micro-batch of one process")
    accumulation: int = Field(default=1, ge=1, description="micro-batches in a step")
    cache_latents: bool = Field(default=False, description="encode every picture once and train from memory")
    size: int = Field(default=0, ge=0, description="side of the training crop in pixels; 0 for the model's own")
    flip: bool = Field(default=True, description="mirror half of the samples")

    train_text_encoder: bool = Field(default=False, description="train the text encoder too, not the UNet alone")
    optimizer: Literal["adamw", "muon"] = Field(default="adamw", description="muon: for matrices and kernels")
    learning_rate: float = Field(default=1e-4, gt=0, description="at its peak")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="of the learning rate after the warm-up"
    )
    warmup: int = Field(default=0, ge=0, description="steps until the learning rate is at its peak")
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled from the gradient")
    max_grad_norm: float = Field(default=1.0, ge=0, description="clip the gradient's norm to this; 0 for no clipping")
    ema_decay: float = Field(default=0.9999, ge=0, lt=1, description="of the moving average of the weights")
    drop: float = Field(
        default=0.05, ge=0, le=1 / 3, description="share of samples without text, without image, without both, each"
    )
    threads: int = Field(default=0, ge=0, description="of a process on a CPU; 0 shares all cores among the ranks")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto measures on a CPU and takes bf16 where a GPU has it"
    )

    checkpoint_every: int = Field(default=500, ge=1, description="steps between checkpoints")
    checkpoint_minutes: float = Field(default=10.0, gt=0, description="minutes after which one comes in any case")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints that stay")
    validate_every: int = Field(default=500, ge=1, description="steps between held-out losses and sheets of edits")
    report_to: str = Field(default="none", description="tracker that accelerate knows, such as tensorboard; or none")
    text_scale: float = Field(default=7.5, ge=0, description="default text guidance of the editor")
    image_scale: float = Field(default=1.5, ge=0, description="default image guidance of the editor")

    @property
    def datasets(self) -> tuple[str, ...]:
        """All data sets that are trained on."""
        return (self.dataset,) if isinstance(self.dataset, str) else self.dataset


def load_config(model: type[M], source: str | Path | None = None, overrides: Sequence[str] = ()) -> M:
    """Read a config from YAML, change single values, and check it.

    Args:
        model: the class of the config.
        source: a YAML file, the name of one of ip2p's own with or without its ending, or None for defaults.
        overrides: such as ["pairs.steps=10", "seed=3"]; values are YAML.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, or a value that the config does not take.
    """
    values = _read(source) if source is not None else {}
    for override in overrides:
        _override(values, override)
    place = f"config {source}" if source is not None else "config"
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _explain(error, model, place) from None


def bundled_configs() -> list[str]:
    """Names of the configs that come with ip2p."""
    return sorted(entry.name for entry in files("ip2p.configs").iterdir() if entry.name.endswith(".yaml"))


def _read(source: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    path, name = Path(source), f"{str(source).removesuffix('.yaml')}.yaml"
    if not path.is_file() and name not in bundled_configs():
        raise ConfigError(
            f"there is no config file {source}",
            f"Give the path of one, or a bundled name: {', '.join(bundled_configs())}",
        )
    try:
        text = path.read_text() if path.is_file() else files("ip2p.configs").joinpath(name).read_text()
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"cannot read the config {source} ({reason})", "Write it as YAML, one `key: value` a line"
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"the config {source} is not a mapping", "Write it as YAML, one `key: value` a line")
    return values


def _override(values: dict[str, Any], override: str) -> None:
    """Set the value that "a.b=c" names."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"cannot use {override!r} as a setting", "Write key=value, such as seed=3 or pairs.steps=10")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *parents, last = key.strip().split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{parent} in {override!r} has no settings inside it", f"Write {parent}=value")
        values = inner
    values[last] = value


def _explain(error: ValidationError, model: type[BaseModel], place: str) -> ConfigError:
    """The first fault of a config, with its remedy."""
    fault = error.errors(include_url=False)[0]
    location = fault["loc"]
    key = ".".join(str(part) for part in location) or "it"
    others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if fault["type"] == "extra_forbidden":
        parent = _model_at(model, location[:-1])
        known = sorted(parent.model_fields) if parent else []
        nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        path = ".".join(str(part) for part in (*location[:-1], *nearest))
        fix = f"Did you mean {path}?" if nearest else f"Known are: {', '.join(known)}"
        return ConfigError(f"unknown key {key} in the {place}{others}", fix)
    said = fault["msg"].removeprefix("Value error, ")
    given = fault["input"]
    value = "" if isinstance(given, Mapping | BaseModel) else f"={given!r}"
    parent = _model_at(model, location[:-1])
    field = parent.model_fields.get(str(location[-1])) if parent and location else None
    fix = (
        f"Give {key} another value ({field.description})"
        if field and field.description
        else "Change it there, or by key=value"
    )
    return ConfigError(f"{key}{value} in the {place} is wrong: {said[0].lower()}{said[1:]}{others}", fix)


def _model_at(model: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    """The class of the settings at a place inside a config."""
    inner: Any = model
    for part in location:
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            field = inner.model_fields.get(str(part))
            inner = field.annotation if field else None
        else:  # dict[str, Settings]: the part is a key of it
            inner = get_args(inner)[-1] if get_args(inner) else None
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
