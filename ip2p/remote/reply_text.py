"""The text of a model's reply, whatever was asked: its thoughts, the JSON in it, and how it is shown in an error."""

import re
from collections import Counter
from collections.abc import Iterator

MAX_UNREAD = 20
"""Number of questions without any answer of use after which a run stops, if it has had none at all."""
MAX_SHOWN = 500
"""Number of characters of a raw reply in an error message."""

THOUGHT_OPENS = (
    r"<(?:\w+:)?(?:think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad|longcat_think)>",
    r"\[THINK\]", r"◁think▷", r"<\|begin_of_thought\|>", r"<\|START_THINKING\|>", r"<\|channel>thought",
    r"<\|channel\|>(?:analysis|commentary)", r"Here is my thought process:",
)  # fmt: skip
THOUGHT_ENDS = (
    r"</(?:\w+:)?(?:think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad|longcat_think)>",
    r"\[/THINK\]", r"◁/think▷", r"<\|end_of_thought\|>", r"<\|END_THINKING\|>", r"<channel\|>",
    r"<\|channel\|>final(?:<\|message\|>)?", r"assistantfinal", r"Here is my response:",
)  # fmt: skip
"""Marks around the thoughts of reasoning models; servers without a parser for the model leave them in the text."""
QUOTED = r':\s*+"(?:[^"\\]|\\.)*+"(?=\s*+[,}\]])'
"""A text in JSON behind its name: marks in it are words of the caption."""
THOUGHT = re.compile(
    f"(?P<quoted>{QUOTED})|(?P<open>{'|'.join(THOUGHT_OPENS)})|(?P<end>{'|'.join(THOUGHT_ENDS)})", re.I | re.DOTALL
)

SIGNS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
PARTNERS = {"}": "{", "]": "["}


def strip_invisible(text: str) -> str:
    """Replace control, zero-width and bidirectional characters of a text by spaces."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def show(text: str) -> str:
    """Return a reply in one line, without characters that control the terminal, for an error message."""
    line = " ".join(strip_invisible(text).split())
    return line[:MAX_SHOWN] + " ..." * (len(line) > MAX_SHOWN) or "(empty)"


def strip_thoughts(text: str) -> str:
    """Remove a model's thoughts from a reply.

    Where only their end is marked, since the prompt has opened them, they are all that stands before it; where only
    their start is, all that stands after it.
    """
    kept, start, inside = list[str](), 0, False
    for mark in _thought_marks(text):
        if mark["open"] and not inside:
            kept.append(text[start : mark.start()])
            inside = True
        elif mark["end"]:
            if not inside:
                kept.clear()
            start, inside = mark.end(), False
    return "".join(kept if inside else [*kept, text[start:]])


def opens_thought(text: str) -> bool:
    """Return whether a text ends within a thought."""
    marks = list(_thought_marks(text))
    return bool(marks) and marks[-1]["open"] is not None


def closed_brackets(text: str) -> list[tuple[int, int]]:
    """Return all outermost closed brackets of a text, in one pass.

    A quotation mark counts only where JSON may have one, so that one that is not escaped does not end its text.
    """
    stack, spans, quoted = list[tuple[str, int]](), list[tuple[int, int]](), False
    open_ones = Counter[str]()
    for found in SIGNS.finditer(text):
        sign, start = found[0], found.start()
        if sign == '"':
            quoted = not _ends_string(text, found.end()) if quoted else bool(stack) and _starts_string(text, start)
        elif quoted or sign[0] == "\\":
            continue
        elif sign in "{[":
            stack.append((sign, start))
            open_ones[sign] += 1
        elif open_ones[PARTNERS[sign]]:
            partner, opened = "", 0
            while partner != PARTNERS[sign]:  # those between were never closed
                partner, opened = stack.pop()
                open_ones[partner] -= 1
            while spans and spans[-1][0] > opened:
                spans.pop()
            spans.append((opened, found.end()))
    return spans


def _thought_marks(text: str) -> Iterator[re.Match[str]]:
    return (mark for mark in THOUGHT.finditer(text) if not mark["quoted"])


def _starts_string(text: str, place: int) -> bool:
    before = place - 1
    while before >= 0 and text[before].isspace():
        before -= 1
    return before < 0 or text[before] in '{[,:"'


def _ends_string(text: str, place: int) -> bool:
    while place < len(text) and text[place].isspace():
        place += 1
    return place == len(text) or text[place] in '}],:"'
