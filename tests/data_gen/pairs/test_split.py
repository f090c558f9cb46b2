"""Near duplicates of a caption are in one split."""

import random

from ip2p.data_gen.pairs.split import group_captions, near_pairs, split_of
from ip2p.records import Caption, content_id


def captions(*texts: str) -> list[Caption]:
    """Make captions."""
    return [Caption(id=content_id(text), text=text, source="test") for text in texts]


def test_near_duplicates_are_grouped_whatever_their_order() -> None:
    rows = captions(
        "a red barn beside a quiet lake in the early morning",
        "A red barn beside a quiet lake, in the early morning!",
        "a red barn beside the quiet lake in the early morning",
        "the red barn beside the quiet lake in the early morning",
        "two dogs that play with a ball",
    )
    groups = group_captions(rows)
    assert len({groups[each.id] for each in rows[:4]}) == 1, "the first and the last are related by those between"
    assert groups[rows[4].id] == rows[4].id
    random.Random(3).shuffle(rows)
    assert group_captions(rows) == groups
    assert group_captions(rows + rows) == groups


def test_all_pairs_are_found_that_a_comparison_of_each_with_each_finds() -> None:
    drawn = random.Random(4)
    sets = list({frozenset(drawn.choices("abcdefghijklmnop", k=drawn.randint(1, 9))) for _ in range(400)})
    for threshold in (0.3, 0.6, 0.75, 1.0):
        pairs = [(a, b) for number, a in enumerate(sets) for b in sets[number + 1 :]]
        wanted = {frozenset(pair) for pair in pairs if len(pair[0] & pair[1]) >= threshold * len(pair[0] | pair[1])}
        found = [frozenset(pair) for pair in near_pairs(sets, threshold)]
        assert set(found) == wanted
        assert len(found) == len(wanted)


def test_a_split_has_its_share() -> None:
    names = [split_of(f"caption {number}", 0.2) for number in range(2000)]
    assert 300 < names.count("test") < 500
    assert names == [split_of(f"caption {number}", 0.2) for number in range(2000)]
    assert {split_of(f"{number}", 0.0) for number in range(50)} == {"train"}
