"""What was to go has gone, and what was to come stands where it belongs."""

import json
import random
from pathlib import Path

import pytest

from ip2p.data_gen.captions.read import read_captions
from ip2p.data_gen.config import CaptionsConfig, ChecksConfig
from ip2p.data_gen.triples.checks import find_fault
from ip2p.data_gen.triples.placement import misplaces
from ip2p.data_gen.triples.proposals import Proposal
from ip2p.data_gen.writers.rules.english import english_edits
from ip2p.data_gen.writers.rules.writer import storybook_edits
from ip2p.records import Reason

SUBTLE = [json.loads(line) for line in (Path(__file__).parent / "subtle.jsonl").read_text("utf-8").splitlines()]
"""100 good triples and 100 subtly bad ones, written before the checks that they measure; half of them to tune on."""

BIKE = "a woman in a red hat riding a green bicycle"

WRONG = [
    (BIKE, "make the hat blue", "a woman in a red hat riding a blue bicycle"),
    (BIKE, "make the hat blue", "a woman in a blue hat riding a blue bicycle"),
    (BIKE, "the hat should be blue", "a blue woman in a red hat riding a green bicycle"),
    (BIKE, "make the hat blue", "a woman in a blue hat riding a yellow bicycle"),
    (BIKE, "replace the bicycle with a scooter", "a woman in a red hat riding a bicycle scooter"),
    (BIKE, "replace the bicycle with a scooter", "a woman in a red hat riding a scooter bicycle"),
    (BIKE, "add a rainbow", "a woman in a rainbow hat riding a green bicycle"),
    (BIKE, "turn the woman into a robot", "a woman robot in a red hat riding a green bicycle"),
    ("a cottage by a lake", "turn the cottage into a castle", "a castle cottage by a lake"),
    ("an oil painting of a harbor", "make it a photograph", "an oil painting photograph of a harbor"),
    ("a field in spring", "make it winter", "a field in spring winter"),
    ("a snowy street", "make it summer", "a snowy summer street"),
    ("a street in fog", "clear the fog", "a clear fog street"),
    ("a dog beside a boy", "put sunglasses on the dog", "a dog beside a boy in sunglasses"),
    ("a skater in front of a wall", "give him a red helmet", "a skater in front of a red wall"),
    ("toast with jam, an egg and a glass of juice", "replace the toast with pancakes", "pancakes"),
    ("a bowl of soup on a table", "make the bowl ceramic", "a bowl of ceramic soup on a table"),
    ("a photo of a fox", "make it a watercolor", "a photo of a watercolor fox"),
    ("a white horse on a beach", "make the horse a zebra", "a zebra in a zoo"),
]  # fmt: skip

RIGHT = [
    (BIKE, "make the hat blue", "a woman in a blue hat riding a green bicycle"),
    (BIKE, "replace the bicycle with a scooter", "a woman in a red hat riding a scooter"),
    (BIKE, "turn the woman into a robot", "a robot in a red hat riding a green bicycle"),
    (BIKE, "make her a robot", "a robot woman in a red hat riding a green bicycle"),
    (BIKE, "change the hat's color to blue", "a woman in a blue hat riding a green bicycle"),
    ("a bench by a pond", "make the bench out of stone", "a bench of grey stone by a pond"),
    ("a mountain path", "turn the mountain into a forest", "a forest path"),
    ("a dog beside a boy", "put sunglasses on the dog", "a dog in sunglasses beside a boy"),
    ("a desk in an office", "place a cup of tea on the desk", "a desk in an office with a cup of tea on the desk"),
    ("a bear in a river", "let the bear hold a salmon", "a bear in a river holding a salmon"),
    ("a clown with a sad face", "make the clown happy", "a clown with a happy face"),
    ("a shop window full of clocks", "make it a mosaic", "a shop window full of clocks, as a mosaic"),
    ("a barn by a lake", "roof of the barn should be blue", "a barn with a blue roof by a lake"),
    ("a barn with a gray roof under clouds", "clear away the clouds", "a barn with a gray roof under a cloudless sky"),
    ("a wooden box on a shelf", "turn the box into wicker", "a wicker box on a shelf"),
    ("a black sheep among white sheep", "make it an ink drawing", "an ink drawing of a black sheep among white sheep"),
    ("a church in the mountains", "place the church by the lake", "a church at the lakeside"),
]  # fmt: skip


@pytest.mark.parametrize(("caption", "instruction", "edited"), WRONG)
def test_a_change_at_the_wrong_place_is_found(caption: str, instruction: str, edited: str) -> None:
    assert misplaces(instruction, caption, edited, "swap")
    assert find_fault(caption, Proposal(instruction, edited, "swap"), ChecksConfig(kept=0)) is not Reason.OK


@pytest.mark.parametrize(("caption", "instruction", "edited"), RIGHT)
def test_a_change_at_its_place_passes(caption: str, instruction: str, edited: str) -> None:
    assert not misplaces(instruction, caption, edited, "swap")


def test_nothing_is_left_of_what_was_removed() -> None:
    caption = "a waiter with a silver tray and a sleeping dog"
    for edited in ("a waiter with a silver and a sleeping dog", "a waiter with a silver tray and a sleeping"):
        asked = "remove the dog" if "tray" in edited else "remove the tray"
        assert misplaces(asked, caption, edited, "remove")
    assert not misplaces("remove the dog", caption, "a waiter with a silver tray", "remove")


@pytest.mark.parametrize("half", ["tune", "report"])
def test_subtly_bad_triples_are_refused_and_good_ones_kept(half: str) -> None:
    rows = [row for row in SUBTLE if row["half"] == half]
    refused = {"good": 0, "bad": 0}
    for row in rows:
        proposal = Proposal(row["instruction"], row["edited_caption"], row["kind"])
        refused[row["label"]] += find_fault(row["caption"], proposal, ChecksConfig()) is not Reason.OK
    assert [sum(row["label"] == label for row in rows) for label in refused] == [50, 50]
    assert refused["bad"] >= 40 and refused["good"] <= 5, refused  # measured: 48 and 3 to tune on, 46 and 4 to report


@pytest.mark.slow
def test_edits_by_rule_are_in_their_place() -> None:
    path = Path(__file__).parents[3] / "examples" / "captions.txt"
    texts = path.read_text(encoding="utf-8").splitlines()[:150]
    edits = [(text, each) for text in texts for each in english_edits(text, random.Random(7))]
    texts = [each.text for each in read_captions(CaptionsConfig(count=20), seed=5)]
    edits += [(text, each) for text in texts for each in storybook_edits(text, random.Random(7))]
    wrong = [
        (text, each)
        for text, each in edits
        if misplaces(each.instruction.lower(), text, each.edited_caption, each.kind)
    ]
    assert len(edits) > 2500 and len(wrong) <= 0.001 * len(edits), wrong[:9]
