"""One taxonomy of kinds for both writers, and thresholds of kinds."""

import random

import pytest

from ip2p.config import load_config
from ip2p.data_gen.captions.read import read_captions
from ip2p.data_gen.config import CaptionsConfig, DatasetConfig
from ip2p.data_gen.kinds import ALL_KINDS, KINDS, STORYBOOK_KINDS, general_kind, inverse_kind, known_kind
from ip2p.data_gen.writers.rules.writer import storybook_edits
from ip2p.data_gen.writers.seeds import load_seeds
from ip2p.errors import ConfigError
from ip2p.storybook.scene import EDIT_KINDS


def test_all_kinds_of_all_writers_are_in_the_taxonomy() -> None:
    assert set(EDIT_KINDS) <= set(ALL_KINDS)
    assert set(STORYBOOK_KINDS) == set(EDIT_KINDS) - set(KINDS)
    assert {seed.kind for seed in load_seeds()} == set(KINDS)
    texts = [each.text for each in read_captions(CaptionsConfig(count=20), seed=1)]
    edits = [each for text in texts for each in storybook_edits(text, random.Random(0))]
    assert {general_kind(each.kind) for each in edits} <= set(KINDS)


def test_a_kind_of_storybook_belongs_to_a_general_one() -> None:
    assert general_kind("swap_building") == general_kind("swap") == "swap"
    assert general_kind("roof") == "color" and general_kind("other") == "other"
    assert set(STORYBOOK_KINDS.values()) <= set(KINDS)


def test_kinds_have_inverses_and_unknown_ones_are_other() -> None:
    assert inverse_kind("add_sky") == "remove_sky" and inverse_kind("season") == "season"
    assert all(inverse_kind(inverse_kind(kind)) == kind for kind in ALL_KINDS)
    assert known_kind("swap") == "swap" and known_kind("mood") == "other"


def test_thresholds_of_a_general_kind_hold_for_its_kinds_unless_they_have_their_own() -> None:
    settings = ["filter.direction=0.1", "filter.per_kind={swap: {direction: 0.3}, swap_animal: {image: 0.9}}"]
    bounds = load_config(DatasetConfig, None, settings).filter
    assert bounds.thresholds("season").direction == 0.1
    assert bounds.thresholds("swap").direction == bounds.thresholds("swap_building").direction == 0.3
    assert (bounds.thresholds("swap_animal").direction, bounds.thresholds("swap_animal").image) == (0.3, 0.9)


@pytest.mark.parametrize(("kind", "said"), [("sesaon", "did you mean 'season'"), ("xyz", "swap_building")])
def test_thresholds_of_an_unknown_kind_are_an_error(kind: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"filter\.per_kind.*there is no kind '{kind}'.*{said}") as error:
        load_config(DatasetConfig, None, [f"filter.per_kind={{{kind}: {{direction: 0.3}}}}"])
    with pytest.raises(ConfigError, match=rf"pairs\.per_kind.*there is no kind '{kind}'"):
        load_config(DatasetConfig, None, [f"pairs.per_kind={{{kind}: {{p_min: 0.3}}}}"])
    assert "\n" not in str(error.value)
