"""Rows that the stages of a data set exchange on disk: frozen, validated, and identified by a hash of their content.

Every input row of a stage has an output row: `status` says whether the row is used further, `reason` why not.
"""

import hashlib
import json
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
"""Version in every manifest; it is raised when the fields below change."""

Status = Literal["ok", "refused"]

PACKED_COLUMNS = (
    # The first five, in this order, are those of timbrooks/instructpix2pix-clip-filtered.
    "original_prompt", "original_image", "edit_prompt", "edited_prompt", "edited_image",
    "edit_mask", "id", "kind", "seed", "p", "cfg", "sim_source", "sim_edited", "sim_image", "sim_direction", "layout",
    "changed", "shift", "provenance",
)  # fmt: skip
"""Columns of the packed data set."""

AUDIT = "early audit"
"""Name of the share of candidates that are never rejected early, see `in_share`."""


SCORES = ("sim_source", "sim_edited", "sim_image", "sim_direction", "layout", "changed", "shift")
"""Columns of candidates that are measured on their pictures."""


JUDGE_SCORES = ("judge_edit", "judge_kept", "judge_clean")
"""Columns of candidates that a vision model has judged, if a build asks one."""


class Reason(StrEnum):
    """Reason for which a row was refused; "" for rows that were not."""

    OK = ""
    NO_RULE = "no_rule"
    BAD_REPLY = "bad_reply"
    CUT_OFF = "cut_off"
    WRITER_REFUSED = "writer_refused"
    WRITER_ERROR = "writer_error"
    EMPTY = "empty"
    UNCHANGED = "unchanged"
    NEAR_UNCHANGED = "near_unchanged"
    IS_CAPTION = "instruction_is_caption"
    DRIFT = "drift"
    TOO_LONG = "too_long"
    WRONG_LANGUAGE = "wrong_language"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    UNGRAMMATICAL = "ungrammatical"
    DISAGREES = "disagrees"
    MODERATED = "moderated"
    KIND_FULL = "kind_full"
    UNSAFE = "unsafe"
    REJECTED_EARLY = "rejected_early"
    LOW_SOURCE = "low_source"
    LOW_EDITED = "low_edited"
    LOW_IMAGE = "low_image"
    HIGH_IMAGE = "high_image"
    LOW_DIRECTION = "low_direction"
    HIGH_LAYOUT = "high_layout"
    LOW_CHANGED = "low_changed"
    HIGH_CHANGED = "high_changed"
    HIGH_SHIFT = "high_shift"
    LOW_JUDGE_EDIT = "low_judge_edit"
    LOW_JUDGE_KEPT = "low_judge_kept"
    LOW_JUDGE_CLEAN = "low_judge_clean"
    NOT_JUDGED = "not_judged"
    NOT_TOP_K = "not_top_k"
    NOT_STORED = "not_stored"


NOT_SEEN_WHOLE = (Reason.UNSAFE, Reason.REJECTED_EARLY)
"""Reasons that a pair got while it was drawn: its whole pictures are unknown, and no score changes the reason."""


def content_id(*parts: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the parts: equal content has equal ids on every machine."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:16]


def in_share(content: str, share: float, purpose: str) -> bool:
    """Return whether the row with this id is in a random share of all rows, the same one on every machine.

    Args:
        content: id of the row.
        share: size of the share, 0 to 1.
        purpose: name of the share; shares of different names are independent.
    """
    return int(content_id(purpose, content), 16) < share * 16**16


class Record(BaseModel):
    """Base class of rows: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Caption(Record):
    """A text that describes a picture to draw."""

    id: str = Field(description="content_id of the text")
    text: str = Field(description="what the picture shows, in one sentence")
    source: str = Field(description='where the text comes from: "storybook" or the name of a file')


class Triple(Record):
    """A caption, an instruction, and the caption after the edit."""

    id: str = Field(description="content_id of caption, instruction and edited caption")
    caption_id: str = Field(description="id of the caption that it was written for")
    caption: str = Field(description="caption before the edit")
    instruction: str = Field(description='instruction, such as "make it winter"')
    edited_caption: str = Field(description="caption after the edit")
    kind: str = Field(description='kind of edit, such as "season"; "other" if it is unknown')
    writer: str = Field(description='"rules", or name of the language model that wrote it')
    status: Status = "ok"
    reason: Reason = Reason.OK
    chain: str = Field(
        default="", description="id of the chain of edits, each of which edits the caption of the last; empty if single"
    )
    turn: int = Field(default=1, description="place in the chain, from 1")
    long_instruction: str = Field(default="", description="the instruction in full sentences; empty if not asked for")


class Candidate(Record):
    """A pair of pictures drawn for a triple: its sampling settings and its scores."""

    id: str = Field(description="content_id of the triple's id and the candidate's number")
    triple_id: str
    seed: int = Field(description="seed of the noise that both pictures start from")
    p: float = Field(description="share of the denoising steps with shared attention, 0 to 1")
    cfg: float = Field(description="guidance scale of both pictures")
    steps: int = Field(description="denoising steps")
    sim_source: float = Field(default=0.0, description="CLIP similarity of picture and caption before the edit")
    sim_edited: float = Field(default=0.0, description="CLIP similarity of picture and caption after the edit")
    sim_image: float = Field(default=0.0, description="CLIP similarity of the two pictures")
    sim_direction: float = Field(
        default=0.0, description="cosine between the change of the pictures and the change of the captions"
    )
    layout: float = Field(default=0.0, description="distance of the layouts of the two pictures, 0 for equal ones")
    changed: float = Field(default=0.0, description="share of the pixels that differ visibly, 0 to 1")
    shift: float = Field(default=0.0, description="pixels by which the second picture is shifted against the first")
    judge_edit: float | None = Field(
        default=None, description="whether the edit is done, by the judge, 0 to 1; None if it was not asked"
    )
    judge_kept: float | None = Field(default=None, description="whether all else is as before, by the judge, 0 to 1")
    judge_clean: float | None = Field(
        default=None, description="whether both pictures are drawn whole, by the judge, 0 to 1"
    )
    judge_said: str = Field(default="", description="why the judge says so, in its words; or why it gave no marks")
    status: Status = "ok"
    reason: Reason = Reason.OK
