"""The storybook language: captions are read back as they were meant, and an edit changes what it should alone."""

import random
import re
from collections.abc import Iterator

import pytest

from ip2p.storybook.edits import possible_edits
from ip2p.storybook.free import FREE, free_cases
from ip2p.storybook.language import (
    MAX_CAPTION_TOKENS,
    caption,
    edited_caption,
    instruction,
    instruction_for_both,
    parse,
    unknown_words,
    vocabulary,
    with_typo,
)
from ip2p.storybook.phrases import ROWS, UNSAID, WORDS
from ip2p.storybook.scene import ATTRIBUTES, EDIT_KINDS, Edit, Layout, Scene, sample_scene

LAYOUT = Layout(0.5, 0.4, 0.3, False, 0.6, 0.6, 0.2, 0)


def tokens(text: str) -> list[str]:
    """Words and punctuation marks."""
    return re.findall(r"[a-z]+|[^a-z\s]", text)


def captions(count: int, seed: int, held_out: bool | None = None) -> Iterator[tuple[Scene, str]]:
    """Scenes of all vocabularies with captions, by turns held out or not."""
    for number in range(count):
        rng = random.Random(seed * 100_003 + number)
        scene = sample_scene(rng, "all", held_out=True)
        yield scene, caption(scene, rng, held_out=bool(number % 2) if held_out is None else held_out)


def scene_of(text: str) -> Scene:
    """The scene that a text names, with the first value where it names none."""
    return Scene(**{name: values[0] for name, values in ATTRIBUTES.items()} | parse(text), layout=LAYOUT)


def edited(text: str, attribute: str, value: str) -> str:
    scene = scene_of(text)
    edits = {(edit.attribute, edit.value): edit for edit in possible_edits(scene.attributes, "all", True)}
    return edited_caption(text, scene, edits[attribute, value])


def well_formed(text: str) -> bool:
    """No space or mark too many, no wrong article."""
    article = re.search(r"\ba [aeiou]|\ban [^aeiou]|\b(a|an|the)([,:]| (a|an|the)\b|$)", text)
    return not article and not re.search(r"  | [,:]|[,:] ?[,:]|^[\s,:]|[\s,:]$|,(?! )", text) and "{" not in text


def test_what_a_caption_says_is_what_the_scene_has() -> None:
    for scene, text in captions(600, 0):
        named = parse(text)
        assert UNSAID | named == scene.attributes, text
        assert named.keys() >= ATTRIBUTES.keys() - UNSAID.keys()
        assert "none" not in {value for name, value in named.items() if name != "clouds"}


def test_what_need_not_be_said_is_said_at_times() -> None:
    named = [parse(text) for _, text in captions(300, 1)]
    for name, value in (("weather", "clear"), ("style", "illustration"), ("clouds", "one"), ("door", "brown")):
        assert 0 < sum(each.get(name) == value for each in named) < sum(name not in each for each in named)


def test_captions_are_short_varied_and_well_formed() -> None:
    texts = [text for _, text in captions(600, 2)]
    assert max(len(tokens(text)) for text in texts) <= MAX_CAPTION_TOKENS
    assert all(text == text.lower() and well_formed(text) for text in texts)
    rng = random.Random(0)
    scene = sample_scene(rng)
    assert len({caption(scene, rng) for _ in range(200)}) > 150


def test_the_seed_decides_and_the_layout_does_not() -> None:
    scene = sample_scene(random.Random(3))
    same = Scene(**scene.attributes, layout=LAYOUT)
    assert caption(scene, random.Random(1)) == caption(same, random.Random(1))
    assert len({caption(scene, random.Random(seed)) for seed in range(20)}) > 10


def test_an_edit_changes_one_attribute_of_the_caption() -> None:
    for scene, text in captions(80, 4):
        before = parse(text)
        for edit in possible_edits(scene.attributes, "all", reserved=True):
            changed = edited_caption(text, scene, edit)
            after = parse(changed)
            differ = {name for name in ATTRIBUTES if before.get(name) != after.get(name)}
            assert differ == {edit.attribute}, (text, changed)
            assert after.get(edit.attribute, UNSAID.get(edit.attribute)) == edit.value
            assert well_formed(changed), (text, changed)
            assert len(tokens(changed)) <= MAX_CAPTION_TOKENS, changed


def test_an_edit_and_its_reverse_leave_the_other_words() -> None:
    """Where a value gives way to another one, the words before and after it stay."""
    for scene, text in captions(50, 5):
        for edit in possible_edits(scene.attributes, reserved=True):
            if edit.attribute in parse(text) and edit.value != UNSAID.get(edit.attribute):
                old, new = tokens(text), tokens(edited_caption(text, scene, edit))
                start = next(index for index, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
                end = next(index for index, (a, b) in enumerate(zip(old[::-1], new[::-1], strict=False)) if a != b)
                assert len(old) - start - end <= 6, (text, edit)  # a phrase at most


@pytest.mark.parametrize(
    ("text", "attribute", "value", "expected"),
    [
        ("a red barn by a lake in winter", "place", "beach", "a red barn on a beach in winter"),
        ("a red barn on a rainy autumn day", "weather", "clear", "a red barn on an autumn day"),
        ("a red barn on a winter night", "season", "autumn", "a red barn on an autumn night"),
        ("a watercolor of a red barn", "style", "illustration", "a red barn"),
        ("a red barn, with a fox, under a rainbow", "animal", "none", "a red barn, under a rainbow"),
        ("under a rainbow, a red barn", "sky", "none", "a red barn"),
        ("a fox beside a red barn", "animal", "none", "a red barn"),
        ("a red barn, in the rain, as a poster", "weather", "clear", "a red barn, as a poster"),
        ("a red barn in spring", "style", "watercolor", "a watercolor of a red barn in spring"),
        ("winter by a lake: a red barn", "style", "sketch", "winter by a lake: a red barn, as a sketch"),
        ("a red barn", "animal", "cow", "a red barn with a cow"),
        ("A red barn in Winter.", "season", "spring", "A red barn in spring."),
        ("A red barn, with foxes.", "animal", "none", "A red barn."),
        ("Red barns with foxes", "animal", "sheep", "Red barns with sheep"),
        ("Red barns", "building", "castle", "Red castles"),
        ("a red barn.", "sky", "bird", "a red barn under a flying bird."),
        ("a red barn by a lake", "roof", "blue", "a red barn with a blue roof by a lake"),
        (
            "a red barn with a blue door in spring",
            "roof",
            "gray",
            "a red barn with a gray roof and a blue door in spring",
        ),
        ("a red barn with a gray roof", "door", "red", "a red barn with a gray roof and a red door"),
        ("a red barn with a gray roof", "roof", "brown", "a red barn with a brown roof"),
        ("a red barn under a cloudless sky", "clouds", "three", "a red barn under three clouds"),
        ("a red barn under three clouds", "clouds", "one", "a red barn"),
        ("a red barn on a cloudy day", "clouds", "none", "a red barn on a cloudless day"),
        ("a red house and a kitty nearby", "animal", "none", "a red house"),
        ("a red house next to a puppy", "animal", "cow", "a red house next to a cow"),
        ("a red barn on a snowy winter day", "season", "spring", "a red barn on a spring day"),
    ],
)
def test_edited_captions_read_well(text: str, attribute: str, value: str, expected: str) -> None:
    assert edited(text, attribute, value) == expected


@pytest.mark.parametrize("attribute", ["building", "color"])
def test_a_building_that_is_not_named_cannot_change(attribute: str) -> None:
    scene = scene_of("a red barn")
    with pytest.raises(ValueError, match=f"'a lake' names no {attribute}"):
        edited_caption("a lake", scene, Edit("recolor", attribute, "blue"))


@pytest.mark.parametrize(
    "text",
    [
        "a red car by a barn", "a red barn with two doors", "a photo of a dog", "", "?!", "日本の写真", "a barn, red",
        "a red fox and a barn", "a red barn near a blue castle", "a barn under a red rainbow", "red", "no red barn",
    ],
)  # fmt: skip
def test_other_english_is_not_storybook(text: str) -> None:
    assert not parse(text).keys() >= {"building", "color"}


def test_what_is_named_twice_is_unclear() -> None:
    assert parse("a red barn by a lake on a beach") == {"building": "barn", "color": "red"}


def phrasings(edit: Edit, scene: Scene, held_out: bool) -> set[str]:
    """Instructions for an edit; 300 draws give nearly all."""
    rng = random.Random(0)
    return {instruction(edit, scene, rng, held_out, plain=True) for _ in range(300)}


@pytest.mark.slow
def test_every_kind_has_many_phrasings_and_some_are_held_out() -> None:
    seen: dict[str, set[str]] = {}
    common: set[str] = set()
    held_out: set[str] = set()
    for scene, _ in captions(3, 6):
        for edit in possible_edits(scene.attributes, "all", reserved=True):
            if edit.kind not in seen or edit.attribute in ("season", "time", "weather", "style"):
                usual, held = phrasings(edit, scene, False), phrasings(edit, scene, True)
                assert len(usual) >= 30 and len(held) >= 6 and not usual & held
                assert all(well_formed(text.rstrip("?")) and text == text.lower() for text in usual | held)
                assert max(len(tokens(text)) for text in usual | held) <= 20
                seen[edit.kind] = usual
                common |= usual
                held_out |= held
    assert seen.keys() == set(EDIT_KINDS)
    assert not common & held_out


def test_an_instruction_says_what_is_asked() -> None:
    scene = scene_of("a red barn with a blue door by a lake in winter at night in the rain, with a sheep, as a poster")
    for edit, words in {
        Edit("swap_building", "building", "castle"): set(WORDS["building"]["castle"]),
        Edit("recolor", "color", "blue"): {"blue"},
        Edit("swap_animal", "animal", "cow"): {"cow"},
        Edit("remove_animal", "animal", "none"): set(WORDS["animal"]["sheep"]),
        Edit("door", "door", "red"): {"red"},
        Edit("roof", "roof", "gray"): {"gray"},
        Edit("clouds", "clouds", "three"): {"clouds", "cloudy"},
        Edit("add_sky", "sky", "rainbow"): {"rainbow"},
        Edit("season", "season", "summer"): {"summer", "summertime", "green"},
        Edit("place", "place", "beach"): set(WORDS["place"]["beach"]),
        Edit("style", "style", "watercolor"): {"watercolor", "watercolors"},
        Edit("weather", "weather", "clear"): {"clear", "rain"},
    }.items():
        for held_out in (False, True):
            assert all(words & set(tokens(text)) for text in phrasings(edit, scene, held_out))


@pytest.mark.slow
def test_held_out_sentences_have_no_words_of_their_own() -> None:
    usual = {word for _, text in captions(1000, 7, held_out=False) for word in tokens(text)}
    for _, text in captions(300, 8, held_out=True):
        assert set(tokens(text)) <= usual, text
    scenes = [scene for scene, _ in captions(40, 9)]
    edits = [(edit, scene) for scene in scenes for edit in possible_edits(scene.attributes, "all", True)]
    rng = random.Random(0)
    asked = [instruction(edit, scene, rng, plain=True) for edit, scene in edits for _ in range(10)]
    usual |= {word for text in asked for word in tokens(text)}
    for edit, scene in edits:
        for _ in range(3):
            assert set(tokens(instruction(edit, scene, rng, held_out=True).lower())) <= usual | {"."}
    joined = {"then", "also", "grey", "."}  # between two edits, and another spelling
    assert usual <= set(vocabulary()) <= usual | joined  # no word too many either


def test_held_out_captions_are_never_seen_in_training() -> None:
    usual = {shape(text) for _, text in captions(1500, 10, held_out=False)}
    assert not usual & {shape(text) for _, text in captions(300, 11, held_out=True)}


def shape(text: str) -> tuple[str, ...]:
    """The order in which a caption names attributes, with its marks and the words around the building."""
    words = {word: name for name, values in WORDS.items() for synonyms in values.values() for word in synonyms}
    return tuple(words.get(word, word) for word in tokens(text))


def test_the_vocabulary_is_sorted_and_small() -> None:
    words = vocabulary()
    assert words == sorted(set(words)) and len(words) < 300
    assert {"a", "an", ",", ":", "?", "turn", "pagoda", "neon", "stained"} <= set(words)


def test_rows_have_a_phrase_for_every_value() -> None:
    for slot, (common, held_out) in ROWS.items():
        values = ATTRIBUTES[slot.partition("_")[0]]
        for row in (*common, *held_out):
            phrases = [phrase.strip() for phrase in row.split("|")]
            assert len(phrases) == len(values)
            assert all(phrase or value == "none" for value, phrase in zip(values, phrases, strict=True)), row


def test_two_edits_in_one_sentence_name_both() -> None:
    scene = scene_of("a red barn by a lake in winter")
    edits = Edit("roof", "roof", "blue"), Edit("time", "time", "night")
    for seed in range(60):
        text = instruction_for_both(*edits, scene, random.Random(seed), held_out=bool(seed % 2)).lower()
        assert "and" in tokens(text) and "roof" in text
        assert {"night", "dark", "stars", "nighttime", "lights", "midnight"} & set(tokens(text)) or seed % 2 == 0, text


def test_a_typo_is_one_letter_of_a_longer_word() -> None:
    text = "turn the cottage into a lighthouse"
    for seed in range(100):
        wrong = with_typo(text, random.Random(seed))
        pairs = [(a, b) for a, b in zip(text.split(), wrong.split(), strict=True) if a != b]
        assert len(pairs) <= 1 and all(len(a) >= 5 and abs(len(a) - len(b)) <= 1 and a[0] == b[0] for a, b in pairs)
        assert unknown_words(wrong) == []
    assert with_typo("add a fox", random.Random(0)) == "add a fox"


def test_some_training_instructions_are_careless_and_held_out_ones_never() -> None:
    scene, edit = scene_of("a red cottage in winter"), Edit("swap_building", "building", "lighthouse")
    rng = random.Random(0)
    common = [instruction(edit, scene, rng) for _ in range(600)]
    assert any(text[0].isupper() and text[-1] in ".?" for text in common)
    assert any(set(tokens(text.lower())) - set(vocabulary()) for text in common), "no typo"
    held_out = [instruction(edit, scene, rng, held_out=True) for _ in range(300)]
    assert not any(unknown_words(text) or set(tokens(text.lower())) - set(vocabulary()) - {"."} for text in held_out)


def test_unknown_words_are_known_to_be_unknown() -> None:
    assert unknown_words("Turn it into Van Gogh, with a rabit!") == ["van", "gogh"]
    assert unknown_words("make it winter") == []
    assert unknown_words("add a hippopotamus and 3 fish") == ["hippopotamus", "fish"]


@pytest.mark.slow
def test_free_instructions_are_in_no_template() -> None:
    assert len({wish.text for wish in FREE}) == len(FREE) == 60
    cases = free_cases()
    assert [case.instruction for case in cases] == [wish.text for wish in FREE]
    assert cases == free_cases()
    rng = random.Random(1)
    for case, wish in zip(cases, FREE, strict=True):
        assert case.target.attributes[wish.attribute] == wish.value != case.scene.attributes[wish.attribute]
        drawn = {
            instruction(case.edit, case.scene, rng, held, plain=True) for held in (False, True) for _ in range(200)
        }
        assert wish.text.lower().strip("!?. ") not in {text.strip("?. ") for text in drawn}
    assert {case.edit.attribute for case in cases} == set(ATTRIBUTES)
