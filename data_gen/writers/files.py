"""Triples in JSONL files: in ip2p's own layout, or in that of the paper's authors (keys input, edit, output)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ip2p.data_gen.kinds import OTHER, known_kind
from ip2p.data_gen.triples.agreement import REMOVALS, REPLACEMENTS
from ip2p.data_gen.triples.placement import STATES
from ip2p.data_gen.triples.wording import content, has_aspect, inflected
from ip2p.errors import DataError, reason

OURS, AUTHORS = ("caption", "instruction", "edited_caption"), ("input", "edit", "output")
"""Keys of the two layouts, in the same order."""
_SHOWN_BY = {
    "color": "color", "material": "material", "medium": "style", "mood": "expression", "place": "place",
    "weather": "weather", "time": "time", "season": "season",
}  # fmt: skip
_ADDING = ("add", "put", "give", "place", "insert", "draw")


class SeedTriple(NamedTuple):
    """A triple that somebody wrote: an example for language models, or a finished triple.

    Args:
        caption: caption before the edit.
        instruction: instruction, in a few words.
        edited_caption: caption after the edit, in the caption's own words where nothing changes.
        kind: kind of edit, see `ip2p.data_gen.kinds`.
        inverse: instruction of the inverse edit; "" if there is no natural one.
    """

    caption: str
    instruction: str
    edited_caption: str
    kind: str
    inverse: str


def read_triple_file(path: str | Path) -> tuple[SeedTriple, ...]:
    """Read all triples of a JSONL file, in order. Other keys are ignored, and so are empty lines.

    Where there is no kind it is guessed from the instruction; kinds outside of the taxonomy become "other".

    Raises:
        DataError: the file is missing, empty or not UTF-8, or a line is no triple; its number is named.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the triples in {path} ({reason(error)})", "Give a JSONL file") from error
    found = tuple(_read_line(line, f"line {number} of {path}") for number, line in enumerate(lines, 1) if line.strip())
    if not found:
        raise DataError(f"there are no triples in {path}", f"Write a JSON object with {', '.join(OURS)} on each line")
    return found


def _read_line(line: str, place: str) -> SeedTriple:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place} is not JSON ({reason(error)})", "Write one object on each line") from error
    fix = f"Give it the keys {', '.join(OURS)}, or {', '.join(AUTHORS)}, with texts"
    if not isinstance(row, dict):
        raise DataError(f"{place} is not a JSON object", fix)
    keys = AUTHORS if AUTHORS[0] in row and OURS[0] not in row else OURS
    caption, instruction, edited = (_text(row, key, place, fix) for key in keys)
    kind = row.get("kind")
    return SeedTriple(
        caption,
        instruction,
        edited,
        known_kind(kind) if isinstance(kind, str) and kind else guess_kind(caption, instruction),
        inverse.strip() if isinstance(inverse := row.get("inverse"), str) else "",
    )


def _text(row: Mapping[str, Any], key: str, place: str, fix: str) -> str:
    """Return the text of a key, without spaces around it."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        what = f"has no {key}" if key not in row else f"has {key}={str(value)[:40]!r}"
        raise DataError(f"{place} {what}", fix)
    return value.strip()


def guess_kind(caption: str, instruction: str) -> str:
    """Guess the general kind of an edit from what its instruction asks for; "other" where no rule says it."""
    asked = " ".join(instruction.lower().split())
    if any(pattern.search(asked) for pattern in REMOVALS):
        return "remove"
    if asked.startswith(_ADDING):
        return "add"
    before = content(caption)
    new = [word for word in content(instruction) if word not in before]
    for kind, groups in STATES.items():
        if any(inflected(name) in new for group in groups for name in group.partition("|")[0].split()):
            return kind
    for aspect, kind in _SHOWN_BY.items():
        if any(has_aspect(word, aspect) for word in new):
            return kind
    return "swap" if any(pattern.search(asked) for pattern in REPLACEMENTS) else OTHER
