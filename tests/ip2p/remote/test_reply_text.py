"""Thoughts and brackets in what models reply."""

from ip2p.remote.reply_text import closed_brackets, opens_thought, strip_thoughts

EDIT = '{"edits": [{"instruction": "make it night", "edited_caption": "a barn at night", "kind": "time"}]}'


def test_outermost_closed_brackets_are_found_whatever_is_in_quotation_marks() -> None:
    text = 'Here: {"a": "}"} and [1, {"b": 2}], not {"c": 3'
    assert [text[start:end] for start, end in closed_brackets(text)] == ['{"a": "}"}', '[1, {"b": 2}]']


def test_a_mark_in_a_text_opens_no_thought() -> None:
    assert not opens_thought(EDIT.replace("a barn", "a <think> sign")) and opens_thought(f"{EDIT}<THINK>")


def test_thoughts_are_removed_from_plain_texts() -> None:
    assert strip_thoughts("a <think>b</think> c <think>d") == "a  c "
    assert strip_thoughts("a </think> b") == " b" and strip_thoughts("none") == "none"
    assert (
        opens_thought("assistant\n<think>\n")
        and not opens_thought("<think>\n\n</think>\n\n")
        and not opens_thought("a")
    )
