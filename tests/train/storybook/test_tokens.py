"""The storybook tokenizer: one token for every storybook word, and several for other text."""

import random
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from ip2p.errors import DataError
from ip2p.storybook.language import caption, vocabulary
from ip2p.storybook.scene import sample_scene
from ip2p.storybook.words import COMMON
from ip2p.train.storybook import tokens
from ip2p.train.storybook.tokens import learn_merges, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_every_word_is_one_token_of_its_own(tokenizer: CLIPTokenizer) -> None:
    ids = [tokenizer(word).input_ids for word in vocabulary()]
    assert all(row[0] == tokenizer.bos_token_id and row[-1] == tokenizer.eos_token_id and len(row) == 3 for row in ids)
    assert len({row[1] for row in ids}) == len(vocabulary())
    assert all(len(tokenizer(word).input_ids) == 3 for word in COMMON) and len(COMMON - set(vocabulary())) >= 900


def test_captions_fit_the_positions(tokenizer: CLIPTokenizer) -> None:
    rng = random.Random(0)
    texts = [caption(sample_scene(rng, "all"), rng, held_out=bool(number % 2)) for number in range(200)]
    assert max(len(tokenizer(text).input_ids) for text in texts) <= tokenizer.model_max_length == 48


@pytest.mark.parametrize("text", ["Quixotic zebras, 42 of them, don't care!", "über-naïve 東京 🙂", "$#@~`"])
def test_other_texts_have_tokens(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids and tokenizer.unk_token_id not in ids
    letters = tokenizer.decode(ids).replace(" ", "")
    assert letters == text.lower().replace(" ", "")


def test_capitals_are_the_same_word(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer("A Red Barn").input_ids == tokenizer("a red barn").input_ids


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_tokenizer(tmp_path / name)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]
    assert sorted(files[0]) == ["merges.txt", "tokenizer_config.json", "vocab.json"]


def test_padding_is_the_end_token(tokenizer: CLIPTokenizer) -> None:
    row = tokenizer("winter", padding="max_length").input_ids
    assert row[2:] == [tokenizer.eos_token_id] * 46


def test_merges_apply_in_their_order() -> None:
    assert learn_merges(["ab", "abc"]) == [("a", "b"), ("a", "b</w>"), ("ab", "c</w>")]
    assert learn_merges(["aaaa"])[0] == ("a", "a")


def test_a_word_that_is_no_token_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "vocabulary", lambda: ["barn", "half-timbered"])
    monkeypatch.setattr(tokens, "COMMON", frozenset())
    with pytest.raises(DataError, match="'half-timbered' has 12 tokens"):
        make_tokenizer(tmp_path)
