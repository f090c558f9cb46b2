"""The rule-based writer: its English, the balance of kinds, and the storybook language."""

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ip2p.data_gen.captions.read import read_captions
from ip2p.data_gen.config import CaptionsConfig, ChecksConfig
from ip2p.data_gen.kinds import KINDS
from ip2p.data_gen.triples.checks import find_fault
from ip2p.data_gen.writers.rules.english import english_edits
from ip2p.data_gen.writers.rules.writer import RuleWriter, storybook_edits
from ip2p.records import Caption, Reason, content_id
from ip2p.storybook.language import parse
from ip2p.storybook.scene import RESERVED


def edits(caption: str, kind: str) -> set[str]:
    """Return the edited captions of a kind."""
    return {proposal.edited_caption for proposal in english_edits(caption, random.Random(0)) if proposal.kind == kind}


@pytest.mark.parametrize(
    ("caption", "kind", "edited"),
    [
        ("A house on a hill.", "season", "A house on a hill in winter."),
        ("A house in summer", "season", "A house in winter"),
        ("An autumn forest", "season", "A winter forest"),
        ("a street at night", "time", "a street at sunset"),
        ("An evening in the village", "time", "A night in the village"),
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
        ("a cup of coffee", "swap", "a cup of milk"),
        ("SURFBOARD LEANING AGAINST A RED CAR", "color", "SURFBOARD LEANING AGAINST A BLUE CAR"),
        ("An old bench", "color", "An old red bench"),
        ("a wooden house", "color", "a red wooden house"),
        ("a lake", "add", "a lake with a small boat on the water"),
        ("a lake with an island", "add", "a lake with an island, and a small boat on the water"),
        ("an old oak in a field", "add", "an old oak in a field with a treehouse in the oak"),
        ("a bowl on a table", "add", "a bowl on a table with a burning candle on it"),
        ("Portrait of a girl.", "add", "Portrait of a girl, wearing a straw hat."),
        ("a sleepy goat", "add", "a sleepy goat, wearing a party hat"),
        ("a dog with a red collar", "remove", "a dog"),
        ("a puppy with a red collar chewing on a shoe", "remove", "a puppy chewing on a shoe"),
        ("A pirate with a parrot on his shoulder", "remove", "A pirate"),
        ("a room with a mirror and a clock", "remove", "a room with a mirror"),
        ("a room with a mirror and a clock", "remove", "a room with a clock"),
        ("a table with bread, cheese and wine", "remove", "a table with bread and cheese"),
        ("a table with bread, cheese and wine", "remove", "a table with cheese and wine"),
        ("a cabin by a lake and two canoes", "remove", "a cabin by a lake"),
        ("A woman wearing a hat in a field", "remove", "A woman in a field"),
        ("A man holding an umbrella.", "remove", "A man."),
        ("a laptop on a desk beside a potted plant", "remove", "a laptop on a desk"),
        ("two dogs on a beach", "place", "two dogs in the desert"),
        ("two dogs on a beach at night", "place", "two dogs in a forest at night"),
        ("two old men in a pub", "place", "two old men in a library"),
        ("a white wolf", "place", "a white wolf on a beach"),
        ("a wooden table", "material", "a glass table"),
        ("An iron bridge over a gorge", "material", "A wooden bridge over a gorge"),
        ("Bowl of rice", "material", "Copper bowl of rice"),
        ("a red sofa", "material", "a red velvet sofa"),
        ("a smiling woman", "expression", "a frowning woman"),
        ("An angry man", "expression", "A sad man"),
        ("A nurse smiling at the camera", "expression", "A nurse laughing at the camera"),
        ("Old man with a dog", "expression", "Smiling old man with a dog"),
        ("portrait of an old sailor", "expression", "portrait of a proud old sailor"),
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
        ("a bedroom with two lamps", "season", "winter|summer"),
        ("autumn leaves on a pond", "season", "winter leaves|spring leaves"),
        ("a stag in the morning mist", "time", "."),
        ("an ice cream truck", "swap|color", "."),
        ("swirls of orange and violet", "swap", "."),
        ("prickly pears", "swap", "."),
        ("a black and white cat", "color", "."),
        ("a marble bust of a man in a red coat", "color", "."),
        ("a lake with a boat", "add", "boat on the water"),
        ("a street at night", "add", "rainbow"),
        ("a bathroom with a view of a lake", "add", "boat"),
        ("a man in a hat", "add", "wearing"),
        ("a man and his dog", "add", "wearing"),
        ("a man with a dog on a leash", "remove", "."),
        ("a boy playing with a ball", "remove", "."),
        ("a bench covered with a blanket", "remove", "."),
        ("a cat and a dog sharing a sofa", "remove", "."),
        ("a boat between a bridge and a tower", "remove", "."),
        ("a woman with her dog", "remove", "."),
        ("a woman and a horse, both looking at the sea", "remove", "."),
        ("a meadow with cows wearing bells", "remove", "."),
        ("a lynx in winter fur", "season", "."),
        ("waves on a beach", "place", "."),
        ("a barista in a cafe", "place", "."),
        ("a dog on a beach in Oregon", "place", "."),
        ("a house made of gingerbread", "material", "."),
        ("a wall of post-it notes", "material", "."),
        ("a tennis table", "material", "."),
        ("a rusty anchor", "material", "."),
        ("a man seen from behind", "expression", "."),
        ("a sleeping child", "expression", "."),
        ("two women laughing and crying", "expression", "."),
    ],
)
def test_nonsense_is_not_written(caption: str, kind: str, pattern: str) -> None:
    assert not [edited for each in kind.split("|") for edited in edits(caption, each) if re.search(pattern, edited)]


@pytest.mark.parametrize(
    ("caption", "kind", "pattern"),
    [
        ("a street", "weather", "sunny|sunshine"),
        ("a street", "time", "day"),
        ("a street", "season", "spring|summer|autumn"),
        ("a meadow", "season", "spring|summer"),
        ("a dog on a chair", "style", "photograph"),
        ("Sunset over a lake", "time", "Sunrise"),
        ("a street in summer", "season", "spring"),
        ("a white cup on a table", "color", "(white|black|brown|gray) table"),
        ("a cup on a table", "color", "(white|black|brown|gray) cup"),
        ("a table", "material", "wooden|steel|plastic"),
        ("a metal tray", "material", "tin|silver"),
        ("a house", "material", "stone|brick|wooden"),
        ("mountains behind a lake", "swap", "hills"),
        ("a frog on a leaf", "swap", "toad"),
        ("a boat at sea", "swap", "ship"),
        ("a glass of red wine", "swap", "."),
        ("a foal next to its mother", "swap", "."),
        ("penguins on an ice shelf", "material", "."),
        ("a factory with windows", "style", "stained glass"),
    ],
)
def test_what_nobody_would_see_is_not_written(caption: str, kind: str, pattern: str) -> None:
    assert not [edited for edited in edits(caption, kind) if re.search(pattern, edited)]


@pytest.mark.parametrize(
    "caption",
    [
        "Kids' wooden train on a rug", "earrings for women", "a wooden king on a chessboard", "a plastic soldier",
        "a stone angel in a cemetery", "a seagull stealing a fry from a tourist", "a surgeon in an operating theatre",
        "women picnicking by a river", "a miniature knight on a shelf", "a statue of a queen",
    ],
)  # fmt: skip
def test_what_shows_no_face_gets_none(caption: str) -> None:
    assert not edits(caption, "expression")


ORDINARY = (Path(__file__).parent / "ordinary.txt").read_text(encoding="utf-8").splitlines()
"""Ordinary captions, written before the rules that keep to what can be seen; the last nine are listings of shops."""


def test_ordinary_captions_are_edited_and_listings_are_not() -> None:
    """Of the 91 captions all but one have an edit; what these are worth was read: docs/decisions.md."""
    for seed in range(3):
        proposals = [each[0] for each in write(ORDINARY, seed=seed)]
        assert [each[3] for each in proposals[91:]] == [Reason.NO_RULE] * 9
        assert sum(each[3] is Reason.OK for each in proposals[:91]) >= 90


@pytest.mark.parametrize(
    "caption",
    ["a red barn in a snowy field", "a white house by a lake", "a red barn in winter", "a green castle at night"],
)
def test_ordinary_captions_are_not_read_as_storybook(caption: str) -> None:
    assert not storybook_edits(caption, random.Random(0)) and english_edits(caption, random.Random(0))


@pytest.mark.parametrize(
    ("caption", "edited"),
    [
        ("A heron standing in the reeds", "A heron in a party hat standing in the reeds"),
        ("Portrait of a girl.", "Portrait of a girl, wearing a straw hat."),
    ],
)
def test_clothes_are_named_beside_their_wearer(caption: str, edited: str) -> None:
    assert edited in edits(caption, "add")


@pytest.mark.parametrize(
    ("caption", "edited", "back"),
    [
        ("a red car", "a blue car", r"car.* red$|car were red\?$"),
        ("a dog in a field", "a fox in a field", r"fox .*\ba dog$"),
        ("two dogs in a field", "two foxes in a field", r"foxes .*\bdogs$"),
        ("a street in summer", "a street in winter", "summer"),
        ("a street", "a street in winter", "^$"),
        ("a photo of a lake", "a mosaic of a lake", "^make it a photo$"),
        ("a lake", "a lake with a small boat on the water", "^remove the small boat$"),
        ("a dog with a red collar", "a dog", "^add a red collar$"),
        ("two dogs on a beach", "two dogs in the desert", r"\ba beach\b"),
        ("a wooden table", "a glass table", r"\bwood\b"),
        ("a table", "a glass table", "^$"),
        ("a smiling woman", "a frowning woman", r"woman .*\bsmile$"),
    ],
)
def test_the_way_back_is_told_where_there_is_one(caption: str, edited: str, back: str) -> None:
    found = [proposal for proposal in english_edits(caption, random.Random(0)) if proposal.edited_caption == edited]
    assert found and all(re.search(back, proposal.inverse) for proposal in found)


WORDS = st.sampled_from(
    "a an A the two red wooden smiling old dog woman table lake house hat with and in on of wearing, winter night rain "
    "beach Kitchen photo . painting at sheep 'é 𝐀 -".split()
)


@given(st.text(max_size=80) | st.lists(WORDS, max_size=12).map(" ".join))
def test_any_text_is_survived(text: str) -> None:
    for proposal in english_edits(text, random.Random(0)):
        assert proposal.instruction and proposal.edited_caption != text
        assert proposal.kind in KINDS and proposal.instruction != proposal.inverse


def write(texts: list[str], count: int = 1, seed: int = 0) -> list[list[tuple[str, str, str, Reason]]]:
    """Write proposals for texts."""
    captions = [Caption(id=content_id(text), text=text, source="test") for text in texts]
    return [[proposal[:4] for proposal in proposals] for proposals in RuleWriter(seed).write(captions, count)]


def test_what_is_no_english_has_no_rule() -> None:
    assert [proposals[0][3] for proposals in write(["日本の写真", "12 34", "?!", "a barn"])] == [Reason.NO_RULE] * 3 + [
        Reason.OK
    ]


def test_several_edits_of_a_caption_differ_in_kind() -> None:
    (proposals,) = write(["a red car in the rain"], count=5)
    assert len({kind for _, _, kind, _ in proposals}) == 5
    (many,) = write(["a red car in the rain"], count=1000)
    assert len(set(many)) == len(many) < 100


def test_the_seed_decides() -> None:
    texts = [f"a dog on hill number {number}" for number in range(20)]
    assert write(texts) == write(texts) != write(texts, seed=1)


def test_storybook_captions_are_edited_in_their_own_language() -> None:
    captions = read_captions(CaptionsConfig(count=50), seed=3)
    for caption in captions:
        before = parse(caption.text)
        proposals = storybook_edits(caption.text, random.Random(0))
        assert proposals
        for proposal in proposals:
            after = parse(proposal.edited_caption)
            changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
            assert len(changed) == 1, (caption.text, proposal)
            assert proposal.kind != RESERVED.no_triple
            assert (after["building"], after["color"]) not in RESERVED.pairs


def test_kinds_come_evenly() -> None:
    captions = read_captions(CaptionsConfig(count=160), seed=3)
    counted = Counter(proposals[0].kind for proposals in RuleWriter(0).write(captions, 1))
    assert len(counted) >= 6
    assert max(counted.values()) <= 3 * min(counted.values())


def test_ordinary_captions_get_edits_of_many_kinds() -> None:
    path = Path(__file__).parents[4] / "examples" / "captions.txt"
    captions = read_captions(CaptionsConfig(source=str(path), count=1000), seed=0)
    assert len({caption.text for caption in captions}) == 1000
    proposals = [proposals[0] for proposals in RuleWriter(0).write(captions, 1)]
    faults = Counter(
        find_fault(caption.text, proposal, ChecksConfig())
        for caption, proposal in zip(captions, proposals, strict=True)
    )
    counted = Counter(proposal.kind for proposal in proposals if proposal.reason is Reason.OK)
    assert faults[Reason.OK] >= 800
    assert len(counted) >= 8
    assert max(counted.values()) <= 0.35 * counted.total()
    assert faults.total() - faults[Reason.OK] - faults[Reason.NO_RULE] < 10  # the checks rarely disagree with the rules
