"""The config of the text stages of a build: captions, and the triples that are written about them."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ip2p.config import Config
from ip2p.data_gen.score_config import check_extra_body


class CaptionsConfig(Config):
    """Source of the captions, their number, and whether they are cleaned."""

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
    """Conditions that every triple has to satisfy, whoever wrote it."""

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
    """Writer that turns captions into instructions and edited captions, and its budget."""

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
    ask_inverse: bool = Field(
        default=False,
        description="also ask a language model for the instruction that undoes the edit, for pack.inverse; rules and "
        "files give it unasked",
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

    @property
    def asks_inverse(self) -> bool:
        """Whether a language model is asked for the instruction that undoes an edit."""
        return self.inverse or self.ask_inverse

    @property
    def stores_inverse(self) -> bool:
        """Whether triples come with the instruction that undoes them."""
        return self.asks_inverse or self.writer in ("rules", "file")
