"""Tokens are counted by the base model's tokenizer where it is here, and estimated elsewhere."""

import json
import shutil
from pathlib import Path

import pytest

from ip2p.data_gen.config import ChecksConfig, TriplesConfig
from ip2p.data_gen.triples.proposals import Proposal
from ip2p.data_gen.triples.tokens import estimate_tokens, find_tokenizer, token_counter
from ip2p.data_gen.triples.write import EarlierShards, write_triples
from ip2p.errors import ModelError
from ip2p.models.bundled import bundled_path
from ip2p.records import Caption, Reason, content_id


class Night:
    """Writes one edit."""

    name = "night"

    def prepare(self, captions: object, count: int) -> None:
        """Do nothing."""

    def conversation(self, caption: Caption, count: int) -> tuple[list[dict[str, str]], str]:
        """Return nothing."""
        return [], ""

    def close(self) -> None:
        """Do nothing."""

    def write(self, captions: list[Caption], count: int) -> list[list[Proposal]]:
        """Let night fall."""
        return [[Proposal("make it night", f"{caption.text} at night", "time")] for caption in captions]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a real CLIP tokenizer of 77 positions, which knows the words of storybook."""
    return make_model(tmp_path_factory.mktemp("model"))


def make_model(folder: Path) -> Path:
    """Copy storybook's tokenizer, for an encoder of 77 positions."""
    shutil.copytree(bundled_path("storybook-base") / "tokenizer", folder / "tokenizer")
    file = folder / "tokenizer" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 77}))
    return folder


def test_a_tokenizer_counts_exactly(model: Path) -> None:
    count = token_counter(str(model), 77)
    assert find_tokenizer(str(model), 77) == model / "tokenizer"
    assert count("a red barn by a lake") == 8
    assert count("zyzzyva") == 9  # piece by piece, as this encoder would read it
    assert count("barn " * 100) == 102


@pytest.mark.parametrize("name", ["storybook-base", "owner/name", "no/such/folder", "x" * 5000, ""])
def test_without_a_tokenizer_for_the_limit_tokens_are_estimated(name: str) -> None:
    """Storybook's encoder reads 48 tokens of its own words: a limit of 77 is not about it."""
    assert token_counter(name, 77) is estimate_tokens


def test_a_lower_limit_may_be_counted_by_storybooks_tokenizer() -> None:
    assert token_counter("storybook-base", 48)("a red barn by a lake in winter") == 10


def test_a_damaged_tokenizer_is_an_error(tmp_path: Path) -> None:
    for path in (make_model(tmp_path) / "tokenizer").iterdir():
        if path.name != "tokenizer_config.json":
            path.write_text("{")
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        token_counter(str(tmp_path), 77)


def test_the_count_decides_which_triples_are_too_long(model: Path) -> None:
    text = "a red zyzzyva by a lake"
    caption, settings = (
        Caption(id=content_id(text), text=text, source=""),
        TriplesConfig(checks=ChecksConfig(max_tokens=14)),
    )
    for count, reason in ((token_counter(str(model), 14), Reason.TOO_LONG), (estimate_tokens, Reason.OK)):
        (row,) = write_triples([caption], Night(), settings, seen=EarlierShards(settings.checks), count_tokens=count)
        assert row.reason is reason
