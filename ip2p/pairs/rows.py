"""Pairs as they were read. What is wrong with a row is told in the row, so that the others can be used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ip2p.pairs.columns import Reading, find_columns, missing_columns
from ip2p.pairs.stored import Stored

NO_EDITED_COLUMN = "column of edited pictures (name it by columns.edited)"
NO_EDITED = ("no edited picture", f"no {NO_EDITED_COLUMN}")
"""Beginnings of faults that are no faults where edited pictures are not needed."""
P = TypeVar("P")
SIDES = ("source", "edited", "mask")
"""Fields that are pictures."""
TYPES = {list: "a list", dict: "a record", bytes: "bytes", bool: "a truth value", int: "a number", float: "a number"}
"""Words in place of a text."""


@dataclass(frozen=True)
class Pair(Generic[P]):
    """A pair as it was read.

    Attributes:
        place: file and row.
        source, edited, mask: pictures; None if there is none.
        instruction, caption, edited_caption, kind, id, inverse_of, provenance: texts; "" if there is none.
        split: "train" or "test".
        fault: what is wrong, if the row cannot be read.
    """

    place: str
    source: P | None = None
    edited: P | None = None
    mask: P | None = None
    instruction: str = ""
    caption: str = ""
    edited_caption: str = ""
    kind: str = ""
    id: str = ""
    inverse_of: str = ""
    provenance: str = ""
    split: str = "train"
    fault: str = ""


class PairRow(Pair[bytes]):
    """A pair with the bytes of its picture files."""


class StoredPair(Pair[Stored]):
    """A pair whose pictures are where they are stored."""


def to_pair(values: Mapping[str, Any], place: str, find: Callable[[str], Path | None], reading: Reading) -> StoredPair:
    """Make a pair of a row.

    Args:
        values: row, by names of columns.
        place: file and row, for people.
        find: function that finds the picture file that a row names; None if it is not there.
        reading: names of columns, and an instruction for all.
    """
    columns = find_columns(values, reading.columns)
    faults = _missing(columns, list(values), reading)
    found: dict[str, Any] = {}
    for field, column in columns.items():
        value = values[column]
        if field in SIDES:
            found[field], fault = _picture(value, field, find)
            faults += [fault] if fault and field != "mask" else []
        elif field == "instruction" and value is not None and not isinstance(value, str):
            what = TYPES.get(type(value), f"of the type {type(value).__name__}")
            faults += [] if reading.instruction else [f"the instruction is {what}, not a text"]
        else:
            text = " ".join(str(value).split("\0")).strip() if value is not None else ""
            found[field] = _encodable(text)
            if field == "instruction" and found[field] != text and not reading.instruction:
                faults.append("the instruction has half of a character")
    if reading.instruction:
        found["instruction"] = reading.instruction
    if "edited" in columns and not found["edited"] and not any("edited picture" in fault for fault in faults):
        faults.append("no edited picture")
    if not reading.needs_edited:
        faults = [fault for fault in faults if not fault.startswith(NO_EDITED)]
    return StoredPair(_encodable(place), **found, fault=_encodable(" and ".join(faults)))


def _missing(columns: Mapping[str, str], names: list[str], reading: Reading) -> list[str]:
    """Tell which columns are not there, and how to name them."""
    there = ", ".join(names) or "none"
    missing = [f"column {name}" for name in missing_columns(columns, reading.columns)]
    if "edited" not in columns and not reading.columns.edited:
        missing.append(NO_EDITED_COLUMN)
    if not {"instruction"} & columns.keys() and not reading.columns.instruction and not reading.instruction:
        missing.append("column of instructions (name it by columns.instruction, or give instruction for all)")
    return [f"no {each}, but {there}" for each in missing]


def _picture(value: Any, side: str, find: Callable[[str], Path | None]) -> tuple[Stored | None, str]:
    """Return where a picture is stored, given as bytes, {bytes, path} or the name of a file; and what is wrong."""
    if isinstance(value, dict) and value.keys() & {"bytes", "path"}:
        value = value.get("bytes") or value.get("path")
    if value is None or value == "" or value == b"":
        return None, f"no {side} picture" if value == b"" else ""
    if isinstance(value, bytes):
        return Stored(bytes=value, path=None), ""
    if not isinstance(value, str):
        return None, f"the {side} picture is {TYPES.get(type(value), type(value).__name__)}, not a picture"
    path = find(value)
    if path and _encodable(str(path)) != str(path):
        return None, f"the name of the {side} picture {value[:200]!r} is not UTF-8"
    return (Stored(bytes=None, path=str(path)), "") if path else (None, f"no {side} picture {value[:200]!r}")


def _encodable(text: str) -> str:
    """Return a text with ? in place of what no table can hold: bytes of file names and halves of characters."""
    return text.encode("utf-8", "replace").decode()
