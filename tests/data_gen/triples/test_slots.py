"""Noun phrases of captions and instructions, and what belongs to what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ip2p.data_gen.triples.slots import noun_phrases, stands_at


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("a man in a red hat riding a blue bicycle", ["man", "red hat", "blu bicycl"]),
        ("two laughing toddlers on a rug", ["laugh toddler", "rug"]),
        ("A castle surrounded by tall trees", ["castl", "tall tre"]),
        ("a small fishing boat, sails down", ["small fish boat", "sail"]),
        ("sailors painting the hull of a ship", ["sailor", "hull", "ship"]),
        ("a man's hat", ["man", "hat"]),
        ("a shelf full of books under a full moon", ["shelf", "book", "full moon"]),
        ("", []),
    ],
)
def test_phrases_end_before_little_words_and_verbs(text: str, phrases: list[str]) -> None:
    assert [" ".join(phrase.words) for phrase in noun_phrases(text)] == phrases


def test_a_phrase_knows_its_determiner_and_its_link() -> None:
    man, hat, bicycle = noun_phrases("the man, in a red hat riding bicycles")
    assert [each.determiner for each in (man, hat, bicycle)] == ["the", "a", ""]
    assert [each.link for each in (man, hat, bicycle)] == ["", ", in", "riding"]


def test_verbs_of_an_instruction_are_in_no_phrase() -> None:
    found = noun_phrases("paint the barn and turn the door blue", asked=True)
    assert [each.words for each in found] == [("barn",), ("door", "blu")]


@pytest.mark.parametrize(
    ("value", "thing", "text", "belongs"),
    [
        ("blu", "hat", "a man in a blue hat", True),
        ("blu", "hat", "a man in a red hat on a blue bicycle", False),
        ("ston", "bench", "a bench of stone under a willow", True),
        ("ston", "bench", "a bench by a stone pond", False),
        ("smil", "woman", "a woman next to a dog, smiling", True),
        ("smil", "man", "a smiling woman and a man", False),
        ("red", "boat", "a boat painted red on a lake", True),
        ("wood", "hous", "the wooden door of a house", False),
    ],
)
def test_a_value_belongs_to_the_thing_that_it_describes(value: str, thing: str, text: str, belongs: bool) -> None:
    assert stands_at(value, thing, noun_phrases(text)) is belongs


@given(st.text())
def test_any_text_has_phrases(text: str) -> None:
    assert all(phrase.words for phrase in noun_phrases(text))
