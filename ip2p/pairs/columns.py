"""Columns of a data set by their roles: found by the names that are in use, or given."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from pydantic import Field

from ip2p.config import Config

NAMES: dict[str, tuple[str, ...]] = {
    "source": (
        "original_image", "input_image", "source_image", "source_img", "src_img", "image_before", "before", "original",
        "control", "source", "input", "0", "image",
    ),
    "edited": (
        "edited_image", "target_image", "answer_image", "target_img", "output_image", "edited_img", "tgt_img",
        "image_after", "after", "edited", "target", "output", "answer", "image", "1", "file_name",
    ),
    "instruction": ("edit_prompt", "instruction", "edit_instruction", "edit", "prompt", "txt", "text", "caption"),
    "caption": ("original_prompt", "input_prompt", "input_caption", "source_caption", "original_caption"),
    "edited_caption": ("edited_prompt", "output_prompt", "output_caption", "target_caption", "edited_caption"),
    "mask": ("edit_mask", "mask_img", "mask_image", "mask"),
    "id": ("id", "img_id", "key"),
    "kind": ("kind", "edit_type", "task"),
    "inverse_of": ("inverse_of",),
    "provenance": ("provenance",),
}  # fmt: skip
"""Names of the columns of each field, the more certain ones first."""
ENDINGS = ("_file_name", "_file", "_path")
NONE = "none"


class Columns(Config):
    """Names of the columns of a data set; each that is empty is found by the names that are in use."""

    original: str = Field(
        default="",
        description="column of the pictures before the edit; none if there are none, to train without one",
    )
    instruction: str = Field(default="", description="column of the instructions")
    edited: str = Field(default="", description="column of the pictures after the edit")


class Reading(Config):
    """Options for reading the rows of a data set."""

    needs_edited: ClassVar[bool] = True
    """Whether a row without an edited picture is faulty."""

    columns: Columns = Field(
        default=Columns(), description="names of the columns; those in use, such as MagicBrush's, are found"
    )
    instruction: str = Field(
        default="", description="one instruction for all pairs, as in pix2pix; empty for their own"
    )


class TripletReading(Reading):
    """Options for reading triplets, which can be measured without their edited picture, the exact target."""

    needs_edited: ClassVar[bool] = False


def find_columns(names: Iterable[str], columns: Columns) -> dict[str, str]:
    """Find the column of each field; fields without one are left out.

    Args:
        names: names of the columns of a row.
        columns: columns that were named.
    """
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_shorten(name), name)
    said = _said(columns)
    found: dict[str, str] = {}
    for field, known in NAMES.items():
        wanted = (_shorten(said[field]),) if said.get(field) else known
        column = next((plain[each] for each in wanted if each in plain), None)
        if column is not None and said.get(field) != NONE:
            found[field] = column
    if not columns.original and found.get("source") == found.get("edited"):
        # `image` alone is a picture of a text, without one to edit; but with captions of before and after, as Emu Edit
        # has, it is one to edit, without a target
        tested = not columns.edited and {"caption", "edited_caption"} <= found.keys()
        found.pop("edited" if tested else "source", None)
    return found


def missing_columns(found: Mapping[str, str], columns: Columns) -> list[str]:
    """Return the columns that were named and are not there."""
    return [name for field, name in _said(columns).items() if name not in ("", NONE) and field not in found]


def _said(columns: Columns) -> dict[str, str]:
    return {"source": columns.original, "instruction": columns.instruction, "edited": columns.edited}


def _shorten(name: str) -> str:
    short = name.lower()
    for ending in ENDINGS:
        short = short.removesuffix(ending) or short
    return short
