"""The config of scoring and filtering: which models score and judge pairs, and within which bounds pairs are kept."""

import json
from typing import Any

from pydantic import Field, field_validator

from ip2p.config import Config
from ip2p.data_gen.per_kind import of_kind, require_known

JUDGE_BOUNDS = ("judge_edit_min", "judge_kept_min", "judge_clean_min")
"""Names of the thresholds of a judge's marks."""


def check_extra_body(value: dict[str, Any]) -> dict[str, Any]:
    """Check further arguments of requests to a server, and return them."""
    if taken := sorted({"model", "messages"} & value.keys()):
        raise ValueError(f"{taken[0]} is ip2p's own")
    try:
        json.dumps(value)
    except TypeError as error:
        raise ValueError(f"it cannot be sent as JSON ({error})") from None
    return value


class ScoresConfig(Config):
    """Models that score the pairs."""

    clip: str = Field(default="storybook-clip-a", description="CLIP model: bundled name, folder or hub id")
    dino: str = Field(
        default="",
        description="DINOv2 model whose features measure the layout: folder or hub id; empty to compare edges by phase "
        "correlation",
    )
    judge: str = Field(
        default="",
        description="vision model on an OpenAI-compatible server that judges the pairs that pass all other thresholds; "
        "empty for none",
    )
    judge_base_url: str = Field(default="", description="address of its server; empty for OpenAI's own")
    judge_orders: int = Field(
        default=1,
        ge=1,
        le=2,
        description="orders of the two pictures in which each pair is judged; 2 also asks with the edited one first "
        "and takes the mean, at twice the price",
    )
    judge_parallel: int = Field(default=8, ge=1, description="requests to the judge in flight at a time")
    judge_max_usd: float = Field(
        default=0.0, ge=0, description="most that judging may cost, in USD; 0 for no limit; the best pairs are first"
    )
    judge_max_tokens: int = Field(default=0, ge=0, description="most tokens that judging may use; 0 for no limit")
    judge_reply_tokens: int = Field(
        default=200, ge=16, description="most tokens of a verdict, without reasoning; doubled once if it is cut off"
    )
    judge_max_reasoning_tokens: int = Field(
        default=16384, ge=0, description="most tokens of reasoning before a verdict, as far as the model needs them"
    )
    judge_reasoning_effort: str | None = Field(
        default=None, description="how much the judge is to reason, such as minimal, low or high"
    )
    judge_extra_body: dict[str, Any] = Field(default={}, description="further arguments of every request to the judge")
    judge_cache: str = Field(
        default="", description="folder of another build, or its judged.jsonl, whose verdicts are taken over"
    )
    judge_price_in: float | None = Field(
        default=None, ge=0, description="USD per million input tokens of the judge; null takes the known price"
    )
    judge_price_out: float | None = Field(
        default=None, ge=0, description="USD per million output tokens of the judge; null takes the known price"
    )

    @field_validator("judge_extra_body")
    @classmethod
    def _leave_the_question(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_extra_body(value)


class Thresholds(Config):
    """Bounds of the scores of a pair that is kept: the four of CLIP (paper, section 3.1), and others if asked for."""

    source: float = Field(default=0.2, description="smallest CLIP similarity of the source picture and its caption")
    edited: float = Field(default=0.2, description="smallest CLIP similarity of the edited picture and its caption")
    image: float = Field(default=0.7, description="smallest CLIP similarity of the two pictures")
    image_max: float = Field(
        default=1.0, description="largest CLIP similarity of the two pictures; above it, nothing has changed"
    )
    direction: float = Field(
        default=0.2,
        description="smallest directional similarity: cosine of the change of pictures and the change of captions",
    )
    layout_max: float | None = Field(
        default=None, description="largest distance of the layouts of the two pictures, from 0; null for any"
    )
    changed_min: float | None = Field(
        default=None, description="smallest share of pixels that differ visibly, 0 to 1; null for any"
    )
    changed_max: float | None = Field(
        default=None, description="largest share of pixels that differ visibly, 0 to 1; null for any"
    )
    shift_max: float | None = Field(
        default=None, description="largest shift between the pictures in pixels; null for any"
    )
    judge_edit_min: float | None = Field(
        default=None, ge=0, le=1, description="smallest mark of scores.judge for the edit being done; null for any"
    )
    judge_kept_min: float | None = Field(
        default=None, ge=0, le=1, description="smallest mark of the judge for all else being as before; null for any"
    )
    judge_clean_min: float | None = Field(
        default=None, ge=0, le=1, description="smallest mark of the judge for both pictures being whole; null for any"
    )


class KindThresholds(Config):
    """Thresholds of one kind of edit; null leaves a threshold as it is for all kinds."""

    source: float | None = Field(default=None, description="in place of filter.source")
    edited: float | None = Field(default=None, description="in place of filter.edited")
    image: float | None = Field(default=None, description="in place of filter.image")
    image_max: float | None = Field(default=None, description="in place of filter.image_max")
    direction: float | None = Field(default=None, description="in place of filter.direction")
    layout_max: float | None = Field(default=None, description="in place of filter.layout_max")
    changed_min: float | None = Field(default=None, description="in place of filter.changed_min")
    changed_max: float | None = Field(default=None, description="in place of filter.changed_max")
    shift_max: float | None = Field(default=None, description="in place of filter.shift_max")
    judge_edit_min: float | None = Field(default=None, ge=0, le=1, description="in place of filter.judge_edit_min")
    judge_kept_min: float | None = Field(default=None, ge=0, le=1, description="in place of filter.judge_kept_min")
    judge_clean_min: float | None = Field(default=None, ge=0, le=1, description="in place of filter.judge_clean_min")


class FilterConfig(Thresholds):
    """Thresholds, and how many of the pairs that pass are kept for each triple."""

    top_k: int = Field(
        default=4, ge=1, description="most pairs kept for each triple: those of the highest directional similarity"
    )
    per_kind: dict[str, KindThresholds] = Field(
        default={},
        description="other thresholds for some kinds of edit, by name; those of swap are those of swap_building, too",
    )

    def thresholds(self, kind: str) -> Thresholds:
        """Return the thresholds of a kind of edit: its own, those of its general kind, and those of all."""
        bounds = self.model_dump(include=set(Thresholds.model_fields))
        return Thresholds.model_validate(bounds | of_kind(self.per_kind, kind))

    @field_validator("per_kind")
    @classmethod
    def _of_known_kinds(cls, value: dict[str, KindThresholds]) -> dict[str, KindThresholds]:
        require_known(value)
        return value


def judge_bounds(bounds: Config) -> dict[str, float]:
    """Return the bounds that a judge's marks have, by name."""
    return bounds.model_dump(include={name for name in JUDGE_BOUNDS if getattr(bounds, name) is not None})
