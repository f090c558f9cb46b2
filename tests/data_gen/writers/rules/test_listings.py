"""Listings of shops are told from captions."""

from pathlib import Path

import pytest

from ip2p.data_gen.writers.rules.listings import is_listing
from ip2p.data_gen.writers.seeds import load_seeds


@pytest.mark.parametrize(
    "text",
    [
        "Men's slim fit cotton shirt, light blue, button-down collar, size M",
        "Women's Leather Ankle Boots with Side Zipper",
        "Kids' backpack with dinosaurs",
        "Set of 4 dining chairs, solid oak",
        "Stainless steel water bottle, vacuum insulated, matte black",
        "Table lamp with orange glass shade, $45",
        "Round rug 160 cm beige",
        "Wireless headphones, bluetooth, black",
        "Wall mirror 60 x 90 cm with a golden frame",
        "Puzzle, 500 pieces",
    ],
)
def test_listings_are_found(text: str) -> None:
    assert is_listing(text)


@pytest.mark.parametrize(
    "text",
    [
        "a man wearing a waterproof jacket in the rain",
        "yellow tram no. 28 in Lisbon",
        "Women in red dresses dancing in a square",
        "a set of old keys on a table",
        "a boy of 5 with his 2 dogs",
        "children's drawing of a house",
        "Men's hands are mending a net",
        "a 1960s car in front of a diner",
    ],
)
def test_captions_are_none(text: str) -> None:
    assert not is_listing(text)


def test_hardly_an_ordinary_caption_is_a_listing() -> None:
    path = Path(__file__).parents[4] / "examples" / "captions.txt"
    assert not [text for text in path.read_text(encoding="utf-8").splitlines() if is_listing(text)]
    assert not [seed for seed in load_seeds() if is_listing(seed.caption)]
