"""Articles by sound, and sentences that are cut off or cannot be."""

from pathlib import Path

import pytest

from ip2p.data_gen.triples.grammar import article, find_breaks
from ip2p.data_gen.writers.seeds import load_seeds


@pytest.mark.parametrize(
    "text",
    [
        "an umbrella", "a unicorn", "an unlit candle", "a university", "an uninvited guest", "a uniform",
        "a used car",
        "an hour", "an honest man", "a house", "a one-eyed cat", "an onion", "a European bison", "an eagle", "a ewe",
        "an MRI scanner", "an SUV", "a UFO", "an 80s diner", "an 18th-century ship", "a 1960s car", "a T-shirt",
        "an X-ray", "an L-shaped sofa", "a historic town", "an historic town", "a yacht", "an éclair", "a utopia",
    ],
)  # fmt: skip
def test_right_articles_pass(text: str) -> None:
    assert not find_breaks(f"{text} on a table")


@pytest.mark.parametrize(
    "text",
    [
        "a umbrella", "an unicorn", "a apple", "an cherry tree", "a orange car", "an uniform", "a hour", "an house",
        "an yacht", "a 8-bit castle", "an 1960s car", "a X-ray", "A owl", "an European street",
    ],
)  # fmt: skip
def test_wrong_articles_are_found(text: str) -> None:
    assert find_breaks(f"{text} on a table")


@pytest.mark.parametrize(
    ("word", "right"), [("owl", "an"), ("barn", "a"), ("unicorn", "a"), ("hour", "an"), ("UFO", "a")]
)
def test_an_article_follows_the_sound(word: str, right: str) -> None:
    assert article(word) == right


@pytest.mark.parametrize(
    "text",
    [
        "a man wearing a", "a dog next to a bowl of", "a street at", "a man with a ball in his",
        "a girl with a doll in her",
        "a girl holding", "a barn with",
        "a fox and",
        "a hill surrounded by snow-covered", "a lake, ", "a a dog", "a dog leaning leaning on a wall",
        "a man with with a hat", "a bowl of soup with and bread", "a puppy with a red on a lawn",
        "a three horse grazing",
        "a many boats", "a two cats", "two horse grazing in a field", "several boat in a harbor", "the a castle",
        "a group of in front of a temple", "a woman in on a scooter", "a dog beside a small with a ball",
    ],
)  # fmt: skip
def test_breaks_are_found(text: str) -> None:
    assert find_breaks(text)


@pytest.mark.parametrize(
    "text",
    [
        "a house with the lights on", "a woman looking up", "an orange on a table", "a path that leads out",
        "a boat with its sails down",
        "two sheep on a hill", "two samurai at a bar", "a girl and a dog beside her",
        "three women and five men", "a two-story house", "a red and white awning",
        "a man in black", "a boat painted red", "both of them smiling", "a boy, his dog beside him",
        "one of the two",  "a choo choo train", "four running horses", "a dinner for two", "those seen from behind",
        "a cat on top of an old red-brick wall, in the sun", "a door in the wall of a yellow house",
        "the many-colored coat",
    ],
)  # fmt: skip
def test_whole_sentences_pass(text: str) -> None:
    assert not find_breaks(text)


def test_captions_and_seeds_are_whole() -> None:
    """Ordinary captions have hardly a break, and seeds have none."""
    captions = (Path(__file__).parents[3] / "examples" / "captions.txt").read_text(encoding="utf-8").splitlines()
    assert sum(bool(find_breaks(text)) for text in captions) <= 0.005 * len(captions)
    assert not [seed for seed in load_seeds() if find_breaks(seed.caption) or find_breaks(seed.edited_caption)]


def test_each_break_counts() -> None:
    assert find_breaks("a apple and a apple")["a apple"] == 2
