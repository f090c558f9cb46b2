"""Reading of a language model's reply: the edits in it, whatever is around them and however its JSON is damaged.

An edit is taken only if its object is closed and its instruction and caption stand in it as quoted text. So nothing is
made of prose, of the model's thoughts, or of an edit that is cut off.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import NamedTuple

import json_repair

from ip2p.data_gen.kinds import KINDS, OTHER
from ip2p.data_gen.triples.proposals import Proposal
from ip2p.records import Reason
from ip2p.remote.reply_text import closed_brackets, strip_thoughts

WRAPPER, QUESTION = "edits", {"caption", "count"}
"""Key of the list of edits; keys of a question, which a model may repeat, or go on with after its answer."""
ASIDES = {
    "thought", "thoughts", "thinking", "reasoning", "analysis", "rationale", "explanation", "draft", "drafts",
    "scratch", "scratchpad", "example", "examples", "note", "notes", "plan", "plans", "attempt", "attempts", "comment",
    "comments",
}  # fmt: skip
"""Keys that hold anything but the answer."""
LABEL = re.compile(r"\b(?:(?P<draft>drafts?|examples?|attempts?|sketch)|(?P<final>final|answer|revised))\b", re.I)
"""Words right before an edit that say what it is; the first one counts: "final draft", but "draft of the answer"."""
CLAUSE_ENDS = re.compile(r"\n|[.,;!?]\s|```\w*")
MAX_DEPTH = 8
"""Depth to which an answer may stand in other brackets."""
MAX_NESTING = 2 * MAX_DEPTH
"""Number of brackets that may be open at once in what is repaired: the time grows with its square."""

PAIRED_QUOTES = re.compile(r'[^"]*(?:(?:(?<=\s)|^)"[^"\s](?:[^"]*[^"\s])?"(?=[\s,.;:!?)]|$)[^"]*)*')
"""Texts whose quotation marks, if there are any, are around words: other ones are what is left of a wrong repair."""


class _Parsed(NamedTuple):
    """A parsed value, the text that it was read from if that had to be repaired, and what the prose before calls it."""

    value: object
    repaired: str = ""
    label: str = ""


class Found(NamedTuple):
    """The edits in a reply, whether there is a list of them that is closed, and whether drafts await a final answer."""

    edits: list[Proposal]
    closed: bool
    awaited: bool


def read_reply(text: str, count: int) -> list[Proposal]:
    """Read the edits in a reply, at most `count`; a single refused proposal if there is none."""
    return find_edits(text).edits[:count] or [Proposal(reason=Reason.BAD_REPLY)]


def is_whole(text: str, count: int) -> bool:
    """Return whether a text has all edits of a reply: a closed list of them, or `count` by themselves."""
    found = find_edits(text)
    begun = f'"{WRAPPER}"' in strip_thoughts(text).lower()
    return not found.awaited and (found.closed or (len(found.edits) >= count and not begun))


def find_edits(text: str) -> Found:
    """Find all different edits in a reply, in its order.

    Edits may stand in one object with a list, in several, in a list, or by themselves; in fences or prose. Where a
    model goes on with a question of its own, what follows belongs to that. Drafts, as the prose before them says, count
    only if nothing is called final.
    """
    try:
        values: Iterator[_Parsed] = iter([_Parsed(json.loads(text, strict=False))])
    except (ValueError, RecursionError):
        values = _parse_brackets(strip_thoughts(text))
    answers, closed = list[tuple[str, list[Proposal]]](), False
    for parsed in values:
        if answers and _is_question(parsed.value):
            break
        if edits := _read_edits(parsed.value, parsed.repaired):
            answers.append((parsed.label, edits))
        closed |= bool(answers) and _has_list(parsed.value)
    labels = {label for label, _ in answers}
    left_out = "draft" if "final" in labels else None
    kept = dict.fromkeys(edit for label, edits in answers if label != left_out for edit in edits)
    return Found(list(kept), closed, "draft" in labels and not left_out)


def _parse_brackets(text: str, label: str = "", depth: int = 0) -> Iterator[_Parsed]:
    """Yield the outermost closed objects and lists of a text that hold edits or a question.

    Args:
        text: text of a reply, or what is in a bracket of it.
        label: what the prose before that bracket calls it.
        depth: number of brackets around the text.
    """
    before = 0
    for start, end in closed_brackets(text):
        label, before = _read_label(text[before:start], label), end
        if "caption" not in text[start:end].lower():
            continue
        parsed = _parse(text[start:end])
        if _is_question(parsed.value) or _read_edits(parsed.value, parsed.repaired):
            yield parsed._replace(label=label)
        elif depth < MAX_DEPTH:  # a bracket of the prose around it
            yield from _parse_brackets(text[start + 1 : end - 1], label, depth + 1)


def _read_label(prose: str, previous: str) -> str:
    """Return whether the prose right before a bracket calls it a "draft" or "final".

    Without a word between them, two brackets share their label. An empty string stands for none.
    """
    clauses = [clause for clause in CLAUSE_ENDS.split(prose) if re.search(r"\w", clause)]
    if not clauses:
        return previous
    found = LABEL.search(clauses[-1])
    return str(found.lastgroup) if found else ""


def _parse(source: str) -> _Parsed:
    """Parse a bracket as JSON, repaired if need be; None if it cannot be."""
    with suppress(ValueError, RecursionError):
        return _Parsed(json.loads(source, strict=False))
    if _nesting(source) <= MAX_NESTING:
        with suppress(ValueError, RecursionError):
            return _Parsed(json_repair.loads(source, skip_json_loads=True), source)
    return _Parsed(None)


def _nesting(source: str) -> int:
    """Return how many brackets are open at once at most, whatever is in quotation marks."""
    return max(accumulate((1 if sign in "{[" else -1 for sign in re.findall(r"[{}\[\]]", source)), initial=0))


def _read_edits(value: object, repaired: str, depth: int = 0) -> list[Proposal]:
    """Return the edits in a parsed value, however they are wrapped.

    Args:
        value: what JSON can hold.
        repaired: the reply's own text if the value is a repair of it.
        depth: number of objects and lists around the value; none is read in more than `MAX_NESTING`.
    """
    if depth > MAX_NESTING:
        return []
    if isinstance(value, str):  # JSON within JSON
        return find_edits(value).edits if value.lstrip()[:1] in ("{", "[") else []
    if isinstance(value, dict):
        fields = {_letters(name): each for name, each in value.items()}
        if edit := _read_edit(fields, repaired):
            return [edit]
        answers = [each for name, each in value.items() if _letters(name) not in ASIDES]
        inner = [fields[WRAPPER]] if WRAPPER in fields else answers
    else:
        inner = value if isinstance(value, list) else []
    return [edit for each in inner for edit in _read_edits(each, repaired, depth + 1)]


def _read_edit(fields: dict[str, object], repaired: str) -> Proposal | None:
    """Return the edit in an object, whose names are small letters only; None if it is no edit."""
    instruction, caption = fields.get("instruction"), fields.get("editedcaption")
    if not isinstance(instruction, str) or not isinstance(caption, str):
        return None
    if not all(any(map(str.isalnum, said)) and _is_said(said, repaired) for said in (instruction, caption)):
        return None
    long_form = fields.get("longinstruction")
    kind, inverse = str(fields.get("kind")).strip().lower().replace("colour", "color"), fields.get("inverse")
    undo = inverse if isinstance(inverse, str) and _is_said(inverse, repaired) else ""
    spelled_out = long_form if isinstance(long_form, str) and _is_said(long_form, repaired) else ""
    known = kind if kind in KINDS else OTHER
    return Proposal(instruction, caption, known, inverse=undo, long_instruction=spelled_out)


def _letters(name: object) -> str:
    """Return the letters of a name, small: "Edited caption" and "editedCaption" are one."""
    return re.sub("[^a-z]", "", str(name).lower())


def _is_question(value: object) -> bool:
    return isinstance(value, dict) and QUESTION <= set(map(_letters, value)) and not _has_list(value)


def _has_list(value: object) -> bool:
    return isinstance(value, dict) and WRAPPER in map(_letters, value)


def _is_said(said: str, repaired: str) -> bool:
    """Return whether a text stands in a repaired reply in quotation marks, and is whole."""
    if not repaired:
        return True
    forms = {said, json.dumps(said)[1:-1], json.dumps(said, ensure_ascii=False)[1:-1], said.replace("'", "\\'")}
    written = "|".join(map(re.escape, sorted(forms)))
    return bool(re.search(f"[\"'“”](?:{written})\\\\?[\"'“”]", repaired)) and bool(PAIRED_QUOTES.fullmatch(said))
