"""The checks of triples: accepted and refused examples for every reason, and labeled output of a real model."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ip2p.data_gen.captions.read import read_captions
from ip2p.data_gen.config import CaptionsConfig, ChecksConfig
from ip2p.data_gen.triples.checks import TripleSet, find_fault, is_english
from ip2p.data_gen.triples.proposals import Proposal
from ip2p.data_gen.triples.tokens import estimate_tokens
from ip2p.data_gen.writers.rules.english import english_edits
from ip2p.data_gen.writers.rules.writer import storybook_edits
from ip2p.data_gen.writers.seeds import load_seeds
from ip2p.records import Reason

LABELLED = [json.loads(line) for line in (Path(__file__).parent / "labelled.jsonl").read_text().splitlines()]
"""Output of SmolLM2-135M-Instruct, and what a reader thought of it before any check saw it."""

BARN = "a red barn by a lake in summer"
LONG = "a very long walk " * 20

GOOD = [
    ("red barn, winter", "make it summer", "red barn, summer"),
    (BARN, "make it winter", "a red barn by a snowy lake"),
    (BARN, "make it winter", "a red barn by a frozen lake in winter"),
    (BARN, "paint the barn blue", "a blue barn by a lake in summer"),
    (BARN, "replace the barn with a castle", "a castle by a lake in summer"),
    (BARN, "what would it look like at night?", "a red barn by a lake on a summer night"),
    (BARN, "add a dragon", "a red barn by a lake in summer with a green dragon breathing fire"),
    (BARN, "can you move it to the beach?", "a red barn on a beach in summer"),
    ("a cat", "turn the cat into a dog", "a dog"),
    ("sunset", "make it sunrise", "sunrise"),
    ("a man with a hat on a horse", "take off his hat", "a man on a horse"),
    ("a man with a hat on a horse", "take the hat away", "a man on a horse"),
    ("a man with a hat on a horse", "no hat, please", "a man on a horse"),
    ("a man with a hat", "show him without the hat", "a man"),
    ("a lake in thick fog", "clear the sky", "a lake"),
    ("a lake under dark clouds", "make the weather sunny", "a lake in bright sunshine"),
    ("a photograph of a tower", "draw it in pencil", "a pencil drawing of a tower"),
    ("a paper elephant in the grass", "make it a real elephant", "an elephant in the grass"),
    ("a dragon over a blue sky", "replace the sky with a starry sky", "a dragon over a starry sky"),
    ("a serious girl", "make her smile", "a smiling girl"),
    ("an oak in a park", "replace the tree with a palm", "a palm in a park"),
    ("chicken breast with a blood orange", "add parsley", "chicken breast with a blood orange and parsley"),
    ("a field of rapeseed", "add a cow", "a field of rapeseed with a cow"),
    ("a view of Los Angeles", "make it night", "a view of Los Angeles at night"),
    ("El Greco, La Mancha", "make it night", "El Greco, La Mancha, night"),
    ("Costa del Sol", "make it rainy", "Costa del Sol in the rain"),
    ("a café in Malmö", "make it rainy", "a café in Malmö in the rain"),
]  # fmt: skip

BAD = [
    (Reason.EMPTY, BARN, "", "a blue barn"),
    (Reason.EMPTY, BARN, "make it blue", " \n"),
    (Reason.EMPTY, BARN, "...", "a blue barn"),
    (Reason.UNCHANGED, BARN, "make it blue", "  A red barn by a lake in  summer. "),
    (Reason.NEAR_UNCHANGED, BARN, "make it blue", "the red barn at the lake, in the summer"),
    (Reason.NEAR_UNCHANGED, BARN, "make it blue", "in summer, red barns by lakes"),
    (Reason.NEAR_UNCHANGED, "a dog chases a cat", "make it blue", "a cat chasing a dog"),
    (Reason.IS_CAPTION, BARN, BARN, "a blue barn by a lake in summer"),
    (Reason.IS_CAPTION, BARN, "A blue barn by a lake in summer!", "a blue barn by a lake in summer"),
    (Reason.IS_CAPTION, BARN, "the blue barn by the lake, summer", "a blue barn by a lake in summer"),
    (Reason.IS_CAPTION, BARN, "make it a red barn by a lake in summer", "a blue barn by a lake in summer"),
    (Reason.DRIFT, BARN, "make it winter", "two men playing chess in winter"),
    (Reason.DRIFT, "a photo of a fox sleeping near an old mill", "as a mosaic", "a mosaic of a queen"),
    (Reason.TOO_LONG, BARN, "make it winter", "a red barn by a lake in winter and " + LONG),
    (Reason.TOO_LONG, BARN, "make it winter" + " please" * 70, "a red barn by a lake in winter"),
    (Reason.WRONG_LANGUAGE, "ein rotes Haus am See", "mach es blau", "ein blaues Haus am See"),
    (Reason.WRONG_LANGUAGE, BARN, "haz que sea de noche con una luna en la playa", "a red barn by a lake at night"),
    (Reason.WRONG_LANGUAGE, "une grange rouge dans la neige", "make it blue", "une grange bleue dans la neige"),
    (Reason.WRONG_LANGUAGE, "красный амбар у озера", "сделай синим", "синий амбар у озера"),
    (Reason.WRONG_LANGUAGE, "湖边 红色 谷仓", "变成 蓝色", "湖边 蓝色 谷仓"),
    (Reason.DISAGREES, BARN, "make it winter", "a red barn by a lake in spring"),
    (Reason.DISAGREES, BARN, "paint the barn blue", "a green barn by a lake in summer"),
    (Reason.DISAGREES, BARN, "paint the barn red", "a red barn by a lake at night in summer"),
    (Reason.DISAGREES, BARN, "add a dragon", "a red barn by a lake in summer with a sheep"),
    (Reason.DISAGREES, BARN, "remove the barn", "a red barn by a lake"),
    (Reason.DISAGREES, BARN, "remove the window", "a red barn in summer"),
    (Reason.DISAGREES, BARN, "get rid of the lake", "a red barn by a lake in winter"),
    (Reason.DISAGREES, BARN, "replace the barn with a castle", "a red barn by a lake with a castle in summer"),
    (Reason.DISAGREES, BARN, "replace the barn with a castle", "a cottage by a lake in summer"),
    (Reason.DISAGREES, BARN, "turn the barn into a castle", "a red tower by a lake in summer"),
    (Reason.DISAGREES, BARN, "make it a castle", "a red barn by a lake in summer with a castellan"),
    (Reason.DISAGREES, BARN, "who owns the barn?", "a red barn by a lake in summer with its owner"),
    (Reason.DISAGREES, BARN, "is the barn blue?", "a blue barn by a lake in summer"),
    (Reason.DISAGREES, BARN, "make it winter", "make a red barn by a lake in winter"),
    (Reason.DISAGREES, BARN, "make it winter", "the red barn that you saw by a lake in winter"),
    (Reason.DISAGREES, BARN, "make it winter", "a red barn by a lake turned into winter"),
    (Reason.DISAGREES, BARN, "make it winter", "a red barn by a lake in winter, a barn by a lake"),
    (Reason.DISAGREES, BARN, "make it winter",
        "a red barn by a lake in winter, with a knight, a pizza, a robot and a violin"),
    (Reason.DISAGREES, "a swan on a lake", "replace the zebra with a deer", "a deer"),
    (Reason.MODERATED, "a man on a beach", "make him naked", "a naked man on a beach"),
    (Reason.MODERATED, "a knight in a field", "make it gory", "a gory knight in a field"),
]  # fmt: skip


@pytest.mark.parametrize(("caption", "instruction", "edited"), GOOD)
def test_good_triples_pass(caption: str, instruction: str, edited: str) -> None:
    assert find_fault(caption, Proposal(instruction, edited), ChecksConfig()) is Reason.OK


@pytest.mark.parametrize(("reason", "caption", "instruction", "edited"), BAD)
def test_bad_triples_are_refused_for_what_is_wrong(reason: Reason, caption: str, instruction: str, edited: str) -> None:
    assert find_fault(caption, Proposal(instruction, edited), ChecksConfig()) is reason


def test_a_drafts_own_reason_comes_first() -> None:
    assert find_fault(BARN, Proposal(reason=Reason.BAD_REPLY), ChecksConfig()) is Reason.BAD_REPLY


def test_limits_come_from_the_settings() -> None:
    winter = Proposal("make it winter", "a red barn by a lake in winter")
    castle = Proposal("make it a castle in a desert", "a castle in a desert in summer")
    assert find_fault(BARN, winter, ChecksConfig(max_words=7)) is Reason.TOO_LONG
    assert find_fault(BARN, winter, ChecksConfig(max_tokens=9)) is Reason.TOO_LONG
    assert find_fault(BARN, winter, ChecksConfig(), count_tokens=lambda text: 78) is Reason.TOO_LONG
    assert find_fault(BARN, winter, ChecksConfig(), count_tokens=lambda text: 77) is Reason.OK
    assert find_fault(BARN, castle, ChecksConfig(kept=0.2)) is Reason.OK
    assert find_fault(BARN, castle, ChecksConfig(kept=0.6)) is Reason.DRIFT
    naked = Proposal("make him naked", "a naked man on a beach")
    assert find_fault("a man on a beach", naked, ChecksConfig(moderation="none")) is Reason.OK
    assert find_fault("a man on a beach", naked, ChecksConfig(moderation="server")) is Reason.MODERATED


def test_abstract_edits_may_be_shown_by_other_words() -> None:
    text, lonely = "a train platform with a suitcase", "a deserted train platform with a forgotten suitcase"
    assert find_fault(text, Proposal("make it melancholic", lonely, "abstract"), ChecksConfig()) is Reason.OK
    assert find_fault(text, Proposal("make it melancholic", lonely, "swap"), ChecksConfig()) is Reason.DISAGREES
    assert find_fault(text, Proposal("remove the suitcase", lonely, "abstract"), ChecksConfig()) is Reason.DISAGREES
    assert (
        find_fault(text, Proposal("make it melancholic", "a platform by a sea", "abstract"), ChecksConfig())
        is Reason.DISAGREES
    )


@pytest.mark.parametrize(
    ("text", "tokens"),  # counted with the vocabulary of CLIP ViT-L/14, with the tokens of start and end
    [
        ("a red barn by a lake in winter", 10),
        ("an impressionist painting of a mountain village at the foot of a glacier", 15),
        ("a teapot with two cups on a tray", 11),
        ("Rothenburg ob der Tauber, Deutschland", 11),
        ("8k, hyperdetailed!!", 8),
        ("an owl perched on a mossy branch", 10),
        ("", 2),
    ],
)
def test_tokens_are_estimated_closely(text: str, tokens: int) -> None:
    assert tokens - 1 <= estimate_tokens(text) <= tokens + 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "texts", "lost"),
    [
        # Storybook's instructions have typos on purpose, and count clouds, which the checks do not.
        (storybook_edits, [each.text for each in read_captions(CaptionsConfig(count=30), seed=5)], 0.06),
        (english_edits, [seed.caption for seed in load_seeds()[::3]], 0.001),
    ],
)
def test_edits_by_rule_pass(
    make: Callable[[str, random.Random], list[Proposal]], texts: list[str], lost: float
) -> None:
    edits = [(text, proposal) for text in texts for proposal in make(text, random.Random(7))]
    refused = [(text, proposal) for text, proposal in edits if find_fault(text, proposal, ChecksConfig())]
    assert len(edits) > 1000 and len(refused) <= lost * len(edits), refused[:9]


@pytest.mark.parametrize("half", [LABELLED[:50], LABELLED[50:], LABELLED], ids=["one half", "the other", "all"])
def test_the_checks_tell_good_from_bad_as_a_reader_does(half: list[dict[str, str]]) -> None:
    refused = {"good": 0, "bad": 0}
    count = dict(refused)
    for row in half:
        proposal = Proposal(row["instruction"], row["edited_caption"], row["kind"])
        count[row["label"]] += 1
        refused[row["label"]] += find_fault(row["caption"], proposal, ChecksConfig()) is not Reason.OK
    assert refused["good"] <= 0.1 * count["good"], f"{refused} of {count}"
    assert refused["bad"] >= (0.8 if half is LABELLED else 0.7) * count["bad"], f"{refused} of {count}"


@given(st.text(), st.text(), st.text(), st.sampled_from(["abstract", "other"]))
@settings(deadline=None)
def test_no_text_raises(caption: str, instruction: str, edited: str, kind: str) -> None:
    proposal, kept = Proposal(instruction, edited, kind), TripleSet(ChecksConfig())
    assert find_fault(caption, proposal, ChecksConfig()) is find_fault(caption, proposal, ChecksConfig())
    assert kept.fault(caption, proposal) is Reason.OK
    kept.add(caption, proposal)
    assert kept.fault(caption, proposal) is Reason.DUPLICATE


@given(st.lists(st.sampled_from("remove the a cat with no into replace turn make it to away off by of red ,".split())))
@settings(deadline=None)
def test_no_instruction_raises(instruction: list[str]) -> None:
    find_fault("a red cat", Proposal(" ".join(instruction), "a blue dog"), ChecksConfig())


@pytest.mark.parametrize("part", ["take ", "make ", "no ", "replace a ", "x", "a", "is ", " ", "'", "1"])
def test_long_texts_cost_no_time(part: str) -> None:
    text, start = part * 50_000, time.process_time()
    find_fault(BARN, Proposal(text, f"a blue barn {text}"), ChecksConfig())
    find_fault(text, Proposal("make it blue", f"a blue barn {text}"), ChecksConfig())
    is_english(text)
    assert time.process_time() - start < 5


def test_the_whole_set_refuses_repetitions() -> None:
    kept = TripleSet(ChecksConfig())
    kept.add(BARN, Proposal("make it winter", "a red barn by a lake in winter"))
    assert kept.fault(BARN, Proposal("Make it  winter.", "A red barn by a lake in winter")) is Reason.DUPLICATE
    same = Proposal("make it winter!", "the red barn at the lake, in winter")
    assert kept.fault("the red barn at the lake, in summer", same) is Reason.NEAR_DUPLICATE
    assert TripleSet(ChecksConfig()).fault(BARN, same) is Reason.OK


OTHERS = [
    ("a blue barn by a lake in summer", "make it winter", "a blue barn by a lake in winter"),
    ("a red castle by a lake in summer", "make it winter", "a red castle by a lake in winter"),
    (BARN, "make it autumn", "a red barn by a lake in autumn"),
    (BARN, "make it night", "a red barn by a lake on a summer night"),
    ("a red barn by a lake in winter", "make it summer", "a red barn by a lake in summer"),
    ("a red barn by a lake in spring", "make it winter", "a red barn by a lake in winter"),
]


@pytest.mark.parametrize(("caption", "instruction", "edited"), OTHERS)
@pytest.mark.parametrize("tail", ["", ", with a cow beside it, under a rainbow, in thick fog at dusk, as a mosaic"])
def test_triples_that_differ_in_one_attribute_are_two(caption: str, instruction: str, edited: str, tail: str) -> None:
    kept = TripleSet(ChecksConfig())
    kept.add(BARN + tail, Proposal("make it winter", "a red barn by a lake in winter" + tail))
    assert kept.fault(caption + tail, Proposal(instruction, edited + tail)) is Reason.OK


def test_storybook_triples_are_all_kept() -> None:
    kept, rng = TripleSet(ChecksConfig()), random.Random(1)
    texts = {caption.text for caption in read_captions(CaptionsConfig(count=120), seed=6)}
    triples = [(text, proposal) for text in sorted(texts) for proposal in rng.sample(storybook_edits(text, rng), 4)]
    for text, proposal in triples:
        assert kept.fault(text, proposal) is Reason.OK, proposal
        kept.add(text, proposal)


def test_no_kind_gets_more_than_its_share() -> None:
    kept = TripleSet(ChecksConfig(kind_share=0.5))
    reasons = []
    for number in range(120):
        kind = "color" if number % 3 else "add"
        proposal = Proposal(f"add thing{number}", f"place{number} with thing{number}", kind)
        reasons.append(kept.fault(f"place{number}", proposal))
        if not reasons[-1]:
            kept.add(f"place{number}", proposal)
    assert set(reasons[:50]) == {Reason.OK}
    assert Reason.KIND_FULL in reasons[50:] and not any(reasons[number] for number in range(0, 120, 3))


def test_all_processes_agree() -> None:
    code = """
import json, sys
from ip2p.data_gen.config import ChecksConfig
from ip2p.data_gen.triples.checks import Proposal, TripleSet, features, find_fault
kept, found = TripleSet(ChecksConfig()), []
for line in open(sys.argv[1]):
    row = json.loads(line)
    proposal = Proposal(row["instruction"], row["edited_caption"], row["kind"])
    found += [find_fault(row["caption"], proposal, ChecksConfig()), kept.fault(row["caption"], proposal)]
    found += [sum(features(row["caption"], proposal))]
    kept.add(row["caption"], proposal)
print(found)
"""
    path = str(Path(__file__).parent / "labelled.jsonl")
    output = {
        subprocess.run(
            [sys.executable, "-c", code, path],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "42")
    }
    assert len(output) == 1
