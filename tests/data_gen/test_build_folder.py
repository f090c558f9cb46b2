"""Settings of a build: builds of earlier versions go on, and their finished shards are not made again."""

import json
from pathlib import Path

import pytest

from ip2p.config import load_config
from ip2p.data_gen.build_folder import BuildFolder
from ip2p.data_gen.config import DatasetConfig
from ip2p.errors import ConfigError

ADDED = (
    *("triples.reply_tokens", "triples.max_reasoning_tokens", "triples.reasoning_effort", "triples.extra_body"),
    *("triples.turns", "triples.long_form", "triples.file", "triples.seeds", "triples.system"),
    *("triples.skip_unanswered", "pairs.text_every", "pairs.guidance_start", "pairs.guidance_stop", "pairs.threads"),
)
"""Settings that earlier versions did not have."""


def test_settings_that_are_not_given_leave_the_fingerprint_of_earlier_versions() -> None:
    asks = DatasetConfig.model_validate({"triples": {"writer": "openai", "model": "gpt-5-mini"}})
    found = [BuildFolder(config, {}).fingerprint("packed") for config in (DatasetConfig(), asks)]
    assert found == ["9c3b62b903ecfa41", "f562fe10517398de"]


def test_settings_that_change_answers_change_the_fingerprint_and_limits_do_not() -> None:
    def made_with(**settings: object) -> str:
        return BuildFolder(DatasetConfig.model_validate({"triples": settings}), {}).fingerprint("triples")

    assert made_with() == made_with(reply_tokens=400, max_reasoning_tokens=0, skip_unanswered=True)
    assert len({made_with(), made_with(reasoning_effort="low"), made_with(extra_body={"top_k": 3})}) == 3


def test_a_build_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    config = DatasetConfig(out=str(tmp_path))
    with BuildFolder(config, {}).claim():
        pass
    stored = json.loads((tmp_path / "build.json").read_text())
    earlier = {key: value for key, value in stored.items() if key not in ADDED}
    (tmp_path / "build.json").write_text(json.dumps(earlier))
    for stage in ("captions", "triples", "candidates"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "shard-00000.json").touch()
    with BuildFolder(config, {}).claim():
        pass
    other = DatasetConfig.model_validate({"out": str(tmp_path), "triples": {"reasoning_effort": "low"}})
    with pytest.raises(ConfigError, match="reasoning_effort was None"), BuildFolder(other, {}).claim():
        pass


@pytest.mark.parametrize(
    ("value", "message"),
    [("{model: other}", "model is ip2p's own"), ("{day: 2026-01-01}", "cannot be sent as JSON"), ("[1]", "dictionary")],
)
def test_arguments_that_cannot_be_sent_are_told(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(DatasetConfig, None, [f"triples.extra_body={value}"])


def test_arguments_may_be_given_one_by_one() -> None:
    config = load_config(DatasetConfig, None, ["triples.extra_body.chat_template_kwargs.enable_thinking=false"])
    assert config.triples.extra_body == {"chat_template_kwargs": {"enable_thinking": False}}


def test_advice_on_changed_settings_keeps_paid_answers(tmp_path: Path) -> None:
    config = DatasetConfig(out=str(tmp_path / "out"))
    with BuildFolder(config, {}).claim():
        pass
    (tmp_path / "out" / "captions").mkdir()
    (tmp_path / "out" / "captions" / "shard-00000.json").touch()
    other = config.model_copy(update={"seed": 3})
    with pytest.raises(ConfigError, match=r"Give another folder by out=\.\.\., or"), BuildFolder(other, {}).claim():
        pass
    (tmp_path / "out" / "asked.jsonl").touch()
    with (
        pytest.raises(ConfigError, match=r"out=\.\.\. with triples\.cache=\S+, so that"),
        BuildFolder(other, {}).claim(),
    ):
        pass
