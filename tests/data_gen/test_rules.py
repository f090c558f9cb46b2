"""The rule-based writer: its English, its evenness, and the storybook language."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ip2p.config import Captions
from ip2p.data_gen.captions import read_captions
from ip2p.data_gen.english import english_edits
from ip2p.data_gen.rules import RuleWriter, storybook_edits
from ip2p.records import Caption, Reason, content_id
from ip2p.storybook.language import parse
from ip2p.storybook.scene import RESERVED


def edits(caption: str, kind: str) -> set[str]:
    """Edited captions of a kind."""
    return {draft.edited_caption for draft in english_edits(caption, random.Random(0)) if draft.kind == kind}


@pytest.mark.parametrize(
    ("caption", "kind", "edited"),
    [
        ("A house on a hill.", "season", "A house on a hill in winter."),
        ("A house in summer", "season", "A house in winter"),
        ("An autumn forest", "season", "A winter forest"),
        ("a street at night", "time", "a street at sunset"),
        ("Sunset over a lake", "time", "Sunrise over a lake"),
        ("a rainy street", "weather", "a foggy street"),
        ("two ducks in the rain", "weather", "two ducks in the sunshine"),
        ("A photo of a bridge", "style", "An oil painting of a bridge"),
        ("a bridge", "style", "a bridge, as a mosaic"),
        ("an orange car", "color", "a blue car"),
        ("a blue car", "color", "an orange car"),
        ("a dog and an owl", "swap", "a dog and a parrot"),
        ("A wolf howls", "swap", "An elephant howls"),
        ("three foxes in a field", "swap", "three sheep in a field"),
        ("two churches", "swap", "two houses"),
    ],
)
def test_one_thing_changes_and_the_sentence_stays(caption: str, kind: str, edited: str) -> None:
    assert edited in edits(caption, kind)


@pytest.mark.parametrize(
    ("caption", "kind", "pattern"),
    [
        ("a snowy mountain", "season", "summer|spring|autumn"),
        ("snow-covered roofs at Christmas", "season", "summer"),
        ("a starry sky", "time", "during the day"),
        ("a street at night", "weather", "sunny|sunshine"),
        ("a black and white photo", "color", "white|red|blue"),
        ("the White House", "color", "Red|red"),
        ("a hot dog with mustard", "swap", "hot cat"),
        ("people at the Red Lion", "color", "Blue|blue"),
        ("a photo of a photo of a boat", "style", "mosaic"),
    ],
)
def test_nonsense_is_not_written(caption: str, kind: str, pattern: str) -> None:
    assert not [edited for edited in edits(caption, kind) if re.search(pattern, edited)]


@given(st.text(max_size=80))
def test_any_text_is_survived(text: str) -> None:
    for draft in english_edits(text, random.Random(0)):
        assert draft.instruction and draft.edited_caption != text


def write(texts: list[str], count: int = 1, seed: int = 0) -> list[list[tuple[str, str, str, Reason]]]:
    """Drafts of texts."""
    captions = [Caption(id=content_id(text), text=text, source="test") for text in texts]
    return [[tuple(draft) for draft in drafts] for drafts in RuleWriter(seed).write(captions, count)]  # type: ignore[misc]


def test_what_is_no_english_has_no_rule() -> None:
    assert [drafts[0][3] for drafts in write(["日本の写真", "12 34", "?!", "a barn"])] == [Reason.NO_RULE] * 3 + [
        Reason.OK
    ]


def test_several_edits_of_a_caption_differ_in_kind() -> None:
    (drafts,) = write(["a red car in the rain"], count=5)
    assert len({kind for _, _, kind, _ in drafts}) == 5
    (many,) = write(["a red car in the rain"], count=1000)
    assert len(set(many)) == len(many) < 100


def test_the_seed_decides() -> None:
    texts = [f"a dog on hill number {number}" for number in range(20)]
    assert write(texts) == write(texts) != write(texts, seed=1)


def test_storybook_captions_are_edited_in_their_own_language() -> None:
    captions = read_captions(Captions(count=100), seed=3)
    for caption in captions:
        before = parse(caption.text)
        drafts = storybook_edits(caption.text, random.Random(0))
        assert drafts
        for draft in drafts:
            after = parse(draft.edited_caption)
            changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
            assert len(changed) == 1, (caption.text, draft)
            assert draft.kind != RESERVED.no_triple
            assert (after["building"], after["color"]) not in RESERVED.pairs


def test_kinds_come_evenly() -> None:
    captions = read_captions(Captions(count=240), seed=3)
    counted = Counter(drafts[0].kind for drafts in RuleWriter(0).write(captions, 1))
    assert len(counted) >= 6
    assert max(counted.values()) <= 3 * min(counted.values())
