"""A corpus of replies as language models write them, each with its right reading."""

import json
from typing import Any, NamedTuple

import json_repair
import pytest

from ip2p.data_gen.triples.proposals import Proposal
from ip2p.data_gen.writers.replies import (
    MAX_DEPTH,
    MAX_NESTING,
    find_edits,
    is_whole,
    read_reply,
)
from ip2p.records import Reason

A = Proposal("make it night", "a barn at night", "time")
B = Proposal("add a cow", "a barn and a cow", "add")
EDIT, OTHER = (
    {"instruction": each.instruction, "edited_caption": each.edited_caption, "kind": each.kind} for each in (A, B)
)
ONE, TWO = json.dumps(EDIT), json.dumps(OTHER)
GOOD, DRAFT = f'{{"edits": [{ONE}]}}', f'{{"edits": [{TWO}]}}'
BOTH = f'{{"edits": [{ONE}, {TWO}]}}'
ANY = A._replace(kind="other")
QUOTING = 'a barn with a sign "open" at night'


class Row(NamedTuple):
    """A reply, the edits in it, and how many were asked for."""

    text: str
    edits: list[Proposal]
    count: int = 1


def said(caption: str) -> Proposal:
    """Return the first edit with another caption."""
    return A._replace(edited_caption=caption)


CORPUS = {
    # As asked for.
    "as asked": Row(GOOD, [A]),
    "several edits": Row(BOTH, [A, B], 2),
    "more than asked": Row(BOTH, [A]),
    "fewer than asked": Row(GOOD, [A], 3),
    "over several lines": Row(json.dumps({"edits": [EDIT, OTHER]}, indent=4), [A, B], 2),
    "with spaces around": Row(f"\n\n  {GOOD}\n", [A]),
    "with a byte order mark": Row(f"\ufeff{GOOD}", [A]),
    "letters as escapes": Row(GOOD.replace("night", "\\u006eight"), [A]),
    "the way back": Row(GOOD[:-3] + ', "inverse": "make it day"}]}', [A._replace(inverse="make it day")]),
    "keys that nobody asked for": Row(GOOD[:-3] + ', "confidence": 0.9, "steps": [1, 2]}]}', [A]),
    "brackets in the text": Row(GOOD.replace("a barn", "a barn {old} [sic]"), [said("a barn {old} [sic] at night")]),
    "quotation marks in the text": Row(GOOD.replace("a barn", 'a barn with a sign \\"open\\"'), [said(QUOTING)]),
    "tags of thoughts in the text": Row(
        GOOD.replace("make it night", "write <think> on it</think>"),
        [A._replace(instruction="write <think> on it</think>")],
    ),
    # Kinds.
    "kind null": Row(GOOD.replace('"time"', "null"), [ANY]),
    "kind left out": Row(GOOD.replace(', "kind": "time"', ""), [ANY]),
    "kind unknown": Row(GOOD.replace('"time"', '"nightfall"'), [ANY]),
    "kind a number": Row(GOOD.replace('"time"', "3"), [ANY]),
    "kind a list": Row(GOOD.replace('"time"', '["time"]'), [ANY]),
    "kind in capitals": Row(GOOD.replace('"time"', '" Time "'), [A]),
    "kind in British English": Row(GOOD.replace('"time"', '"colour"'), [A._replace(kind="color")]),
    "inverse null": Row(GOOD[:-3] + ', "inverse": null}]}', [A]),
    # Around the JSON.
    "a fence": Row(f"```json\n{GOOD}\n```", [A]),
    "a fence without a language": Row(f"```\n{GOOD}\n```", [A]),
    "a fence that is not closed": Row(f"```json\n{GOOD}", [A]),
    "prose before": Row(f"Sure! Here is the edit you asked for:\n\n{GOOD}", [A]),
    "prose behind": Row(f"{GOOD}\n\nI kept the composition {{as told}} and changed only the hour.", [A]),
    "prose with braces on both sides": Row(f"The set {{barn, lake}} stays:\n{GOOD}\nHere {{sky}} is dark.", [A]),
    "prose with a smile": Row(f"Done :-{{ {GOOD}", [A]),
    "prose with quotation marks": Row(f'I make the "barn" dark: {GOOD} It is 5" wide.', [A]),
    "brackets around it": Row(f"[Answer: {GOOD}]", [A]),
    "a tag around it": Row(f"<tool_call>\n{GOOD}\n</tool_call>", [A]),
    "closing braces too many": Row(f"{GOOD}}}}}", [A]),
    # Wrapped otherwise.
    "a bare object": Row(ONE, [A]),
    "a bare list": Row(f"[{ONE}, {TWO}]", [A, B], 2),
    "an object in place of the list": Row(f'{{"edits": {ONE}}}', [A]),
    "another wrapper": Row(f'{{"result": {{"edits": [{ONE}]}}}}', [A]),
    "a list of wrappers": Row(f"[{GOOD}, {DRAFT}]", [A, B], 2),
    "a key for each edit": Row(f'{{"edit_1": {ONE}, "edit_2": {TWO}}}', [A, B], 2),
    "arguments of a function": Row(f'{{"name": "edits", "arguments": {GOOD}}}', [A]),
    "arguments as text": Row(json.dumps({"name": "edits", "arguments": GOOD}), [A]),
    "JSON within JSON": Row(json.dumps(GOOD), [A]),
    "JSON with escaped quotation marks": Row(GOOD.replace('"', '\\"'), [A]),
    "the question repeated": Row(json.dumps({"caption": "a barn", "count": 1}) + f"\n{GOOD}", [A]),
    "the question within": Row(json.dumps({"caption": "a barn", "count": 1, "edits": [EDIT]}), [A]),
    "names in camel case": Row(GOOD.replace("edited_caption", "editedCaption"), [A]),
    "names in capitals": Row(GOOD.replace("edited_caption", "Edited Caption").replace("instr", "Instr"), [A]),
    "one edit of two without a caption": Row(f'{{"edits": [{{"instruction": "add a dog"}}, {ONE}]}}', [A], 2),
    "one edit of two of another type": Row(f'{{"edits": ["add a dog", 3, null, {ONE}]}}', [A], 2),
    # Several objects.
    "an object a line": Row(f"{ONE}\n{TWO}", [A, B], 2),
    "a list a line": Row(f"{GOOD}\n{DRAFT}", [A, B], 2),
    "the same object again": Row(f"{GOOD}\n\n{GOOD}", [A], 2),
    "several fences": Row(f"First:\n```json\n{ONE}\n```\nSecond:\n```json\n{TWO}\n```", [A, B], 2),
    "a question and an answer of its own behind": Row(f'{GOOD}\n{{"caption": "a boat", "count": 1}}\n{DRAFT}', [A], 2),
    "the form repeated before": Row(
        f'{{"edits": [{{"instruction": ..., "edited_caption": ..., "kind": ...}}]}}\n{GOOD}', [A]
    ),
    "the schema repeated before": Row(
        '{"properties": {"instruction": {"type": "string"}, "edited_caption": {"type": "string"}}}\n' + GOOD, [A]
    ),
    # Damaged.
    "trailing commas": Row(GOOD.replace("}]}", ",},],}"), [A]),
    "a comma lacking between names": Row(GOOD.replace('night", "edited', 'night" "edited'), [A]),
    "a comma lacking between edits": Row(BOTH.replace("}, {", "} {"), [A, B], 2),
    "line breaks in texts": Row(GOOD.replace("a barn at", "a barn\nat"), [said("a barn\nat night")]),
    "tabs in texts": Row(GOOD.replace("make it", "make\tit"), [A._replace(instruction="make\tit night")]),
    "single quotation marks": Row(str({"edits": [EDIT]}), [A]),
    "single quotation marks, and none": Row(str({"edits": [EDIT | {"kind": None}]}), [ANY]),
    "an apostrophe in single quotation marks": Row(
        "{'instruction': 'make it night', 'edited_caption': 'a dog\\'s barn'}",
        [ANY._replace(edited_caption="a dog's barn")],
    ),
    "typographic quotation marks": Row(
        "{“edits”: [{“instruction”: “make it night”, “edited_caption”: “a barn at night”}]}", [ANY]
    ),
    "quotation marks that are not escaped": Row(GOOD.replace("a barn", 'a barn with a sign "open"'), [said(QUOTING)]),
    "names without quotation marks": Row(GOOD.replace('"instruction"', "instruction").replace('"kind"', "kind"), [A]),
    "comments": Row(GOOD.replace(' "edited', ' // the caption\n "edited'), [A]),
    "an escaped apostrophe": Row(GOOD.replace("a barn", "the dog\\'s barn"), [said("the dog's barn at night")]),
    "the last brackets lacking": Row(GOOD[:-2], [A]),
    "the last brace lacking": Row(GOOD[:-1], [A]),
    "an inner brace lacking": Row(GOOD.replace("}]}", "]}"), [A]),
    "the second edit cut off": Row(BOTH[:-30], [A], 2),
    # Thoughts.
    "a thought before": Row(f"<think>\nThe barn could be dark.\n</think>\n\n{GOOD}", [A]),
    "an empty thought": Row(f"<think>\n\n</think>\n\n{GOOD}", [A]),
    "a thought with braces": Row(f"<think>The set {{barn}} or {{lake: [}}?</think>{GOOD}", [A]),
    "a thought with a draft": Row(f"<think>Perhaps {DRAFT}? No: too much.</think>\n{GOOD}", [A]),
    "a thought with a draft in a fence": Row(f"<think>\n```json\n{DRAFT}\n```\n</think>\n```json\n{GOOD}\n```", [A]),
    "a thought that the prompt has opened": Row(f"Perhaps {DRAFT}? No.\n</think>\n{GOOD}", [A]),
    "a thought about thoughts": Row(f"<think>I write <think> first. {DRAFT}</think>{GOOD}", [A]),
    "a thought about the end of thoughts": Row(f"<think>Then </think> follows. {DRAFT}</think>{GOOD}", [A]),
    "a thought behind": Row(f"{GOOD}<think>Or rather {DRAFT}?</think>", [A]),
    "thoughts before and behind": Row(f"<think>{DRAFT}</think>{GOOD}<think>{DRAFT}", [A], 2),
    "a thought in another tag": Row(f"<thinking>{DRAFT}</thinking>{GOOD}", [A]),
    "reasoning in a tag": Row(f"<reasoning>{DRAFT}</reasoning>{GOOD}", [A]),
    "a thought with a prefix": Row(f"<seed:think>{DRAFT}</seed:think>{GOOD}", [A]),
    "a thought in brackets": Row(f"[THINK]{DRAFT}[/THINK]{GOOD}", [A]),
    "a thought in triangles": Row(f"◁think▷{DRAFT}◁/think▷{GOOD}", [A]),
    "channels": Row(
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}", [A]
    ),
    "channels without their marks": Row(f"analysisPerhaps {DRAFT}.assistantfinal{GOOD}", [A]),
    "a thought in tokens": Row(f"<|START_THINKING|>{DRAFT}<|END_THINKING|>{GOOD}", [A]),
    "a thought under a heading": Row(f"Here is my thought process: {DRAFT}\nHere is my response: {GOOD}", [A]),
    "thoughts as a key": Row(json.dumps({"thoughts": {"first": OTHER}, "answer": EDIT}), [A], 2),
    "notes as a key": Row(json.dumps({"notes": OTHER, "answer": EDIT}), [A], 2),
    "a plan, an attempt and a comment as keys": Row(
        json.dumps({"Plan": OTHER, "attempt_1": OTHER, "scratch": OTHER, "edit": EDIT, "comments": [OTHER]}), [A], 2
    ),
    "a thought in capitals": Row(f"<THINK>Perhaps {DRAFT}? No.</THINK>\n{GOOD}", [A], 2),
    "a thought with a capital": Row(f"<Think>Perhaps {DRAFT}? No.</Think>\n{GOOD}", [A], 2),
    "a thought in brackets, in small letters": Row(f"[think]{DRAFT}[/think]{GOOD}", [A], 2),
    "a mark of thoughts in the text, and prose behind": Row(
        f"{GOOD.replace('a barn', 'a <think> sign')}\nThe rest stays.", [said("a <think> sign at night")]
    ),
    "the end of a thought in the text of damaged JSON": Row(
        f"Here: {GOOD.replace('a barn', 'a </think> sign').replace('}]', ',}]')}", [said("a </think> sign at night")]
    ),
    "a thought with a draft that is cut off": Row(f"<think>Perhaps {DRAFT[:30]}</think>\n{GOOD}", [A], 2),
    # Drafts.
    "a draft and a final answer": Row(f"Draft: {TWO}\nFinal answer: {ONE}", [A], 2),
    "a draft and a final answer in fences": Row(
        f"### First attempt\n```json\n{DRAFT}\n```\nIt is too much.\n\n**Final**\n\n```json\n{GOOD}\n```", [A], 2
    ),
    "an example, then the answer": Row(f"For example, a draft may be {DRAFT}. So here is my answer: {GOOD}", [A], 2),
    "a draft of two": Row(f"Draft: {TWO},\n{TWO.replace('cow', 'dog')}\nFinal answer: {ONE}", [A], 3),
    "a draft of the answer": Row(f"Draft of the answer: {DRAFT}\nFinal draft: {GOOD}", [A], 2),
    "a draft that is final, too": Row(f"Draft: {ONE}\nFinal answer: {ONE}, {TWO}", [A, B], 2),
    "a draft in brackets": Row(f"[Draft: {TWO}; final: {ONE}]", [A], 2),
    "a draft in a bracket of the prose": Row(f"Draft [... {TWO} !]. Final answer: {ONE}", [A], 2),
    "many lines before": Row("\n" * 100_000 + f"Draft: {TWO}" + "\n" * 100_000 + f"Final: {ONE}", [A], 2),
    "a draft and nothing final": Row(f"Draft: {ONE}\nAnd then: {TWO}", [A, B], 2),
    "drafts far before": Row(f"No draft is needed. The first: {ONE}\nThe final one: {TWO}", [A, B], 2),
    # Nothing to read.
    "nothing": Row("", []),
    "prose": Row("I would make it night.", []),
    "prose about an edit": Row("The instruction is make it night, and the edited caption a barn at night.", []),
    "markdown": Row("**Instruction:** make it night\n**Edited caption:** a barn at night", []),
    "prose in braces": Row("{make it night} gives {edited caption: a barn at night}", []),
    "an empty list": Row('{"edits": []}', []),
    "null": Row("null", []),
    "no caption": Row('{"edits": [{"instruction": "make it night"}]}', []),
    "texts that are no texts": Row('{"edits": [{"instruction": 3, "edited_caption": {"text": "a barn"}}]}', []),
    "texts without a letter": Row('{"edits": [{"instruction": "...", "edited_caption": "?"}]}', []),
    "texts without quotation marks": Row("{instruction: make it night, edited_caption: a barn, at night}", []),
    "cut off in the caption": Row(GOOD[: GOOD.index(" night", 50)], []),
    "cut off behind the caption": Row(GOOD[: GOOD.index(', "kind"')], []),
    "cut off in the instruction": Row('{"edits": [{"instruction": "make it', []),
    "cut off within a thought": Row(f"<think>Perhaps {DRAFT}", []),
    "a draft that the prompt's thought holds": Row(f"Perhaps {DRAFT}? No.\n</think>\nI cannot.", []),
    "only a thought": Row(f"<think>{GOOD}</think>", []),
    "only a draft": Row(json.dumps({"draft": EDIT}), []),
    "only the question": Row(json.dumps({"caption": "a barn", "count": 1}), []),
    "a refusal": Row('{"error": "I cannot help with that."}', []),
    "a text in two pieces": Row('{"instruction": "make it night", "edited_caption": "a barn at" + " night"}', []),
    "marks that are no quotation": Row('{"instruction": "add a pipe", "edited_caption": "a 5" pipe"}', []),
    "never-ending brackets": Row('{"edits": ' + "[" * 100_000, []),
    "brackets of another kind": Row('{"edited caption": ' + "[" * 50_000 + "}" * 50_000, []),
    "very deep brackets with names": Row('{"caption"' * 3000 + "}" * 3000 + "x{", []),
    "very deep wrappers": Row('{"a": ' * 480 + GOOD + "}" * 480, []),
    "very deep brackets": Row("[" * 50_000 + GOOD + "]" * 50_000, []),
    "a very long text": Row("never " * 100_000 + '"{' * 10_000, []),
}


@pytest.mark.parametrize("name", CORPUS)
def test_replies_are_read(name: str) -> None:
    text, edits, count = CORPUS[name]
    assert read_reply(text, count) == (edits or [Proposal(reason=Reason.BAD_REPLY)])


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 60


@pytest.mark.parametrize("text", [GOOD, ONE, DRAFT, str({"edits": [EDIT]}), GOOD.replace("}]}", ",},],}")])
def test_no_beginning_of_a_reply_becomes_another_edit(text: str) -> None:
    """Whatever is cut off: the edit as it was meant, or none."""
    whole = find_edits(text).edits
    assert len(whole) == 1
    for end in range(len(text)):
        assert find_edits(text[:end]).edits in ([], whole), text[:end]


@pytest.mark.parametrize("end", range(0, len(DRAFT) + 30, 3))
def test_no_beginning_of_a_thought_is_an_answer(end: int) -> None:
    assert not find_edits(f"<think>Perhaps {DRAFT}? No: {DRAFT}"[:end]).edits


@pytest.mark.parametrize(
    ("text", "count", "whole"),
    [
        (GOOD, 1, True), (GOOD, 2, True), (ONE, 1, True), (ONE, 2, False), (f"{ONE}\n{TWO}", 2, True),
        (GOOD[:-1], 1, False), (f"<think>{GOOD}", 1, False), (f"<think>{DRAFT}</think>{GOOD}", 1, True),
        ('{"edits": []}', 1, False), ("none", 1, False),
        (GOOD.replace("edits", "Edits"), 2, True), (GOOD.replace("edits", "Edits")[:-1], 1, False),
        (f"Draft: {GOOD}", 1, False), (f"Draft: {ONE}", 1, False), (f"Draft: {GOOD}\nFinal answer: {GOOD}", 1, True),
    ],
)  # fmt: skip
def test_a_reply_is_whole_when_its_list_is_closed(text: str, count: int, whole: bool) -> None:
    assert is_whole(text, count) is whole


def test_no_deep_brackets_are_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repairing 33 kB of them took six seconds."""
    repaired, loads = list[str](), json_repair.loads

    def load(source: str, **options: Any) -> Any:
        repaired.append(source)
        return loads(source, **options)

    monkeypatch.setattr(json_repair, "loads", load)
    assert not find_edits('{"caption"' * 3000 + "}" * 3000 + "x{").edits and not repaired
    wrapped = "{a: " * (MAX_NESTING - 2) + GOOD.replace("}]", ",}]") + "}" * (MAX_NESTING - 2)
    assert find_edits(f"[{wrapped}]x").edits == [A]  # within the outer ones
    assert max(source.count("{") for source in repaired) <= MAX_NESTING
    names = '{"caption"' * MAX_NESTING + "}" * MAX_NESTING
    repaired.clear()
    find_edits(names * 100 + "x{")
    assert 0 < sum(map(len, repaired)) <= MAX_DEPTH * 100 * len(names)
