"""Configs are read from YAML and key=value, and a mistake is told with its remedy."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ip2p.config import Config, bundled_configs, load_config
from ip2p.data_gen.config import DatasetConfig
from ip2p.errors import ConfigError
from ip2p.train.config import FinetuneConfig

CONFIGS: list[type[Config]] = [DatasetConfig, FinetuneConfig]


@pytest.mark.parametrize("name", bundled_configs())
def test_every_bundled_config_is_valid(name: str) -> None:
    model = DatasetConfig if name.endswith("dataset.yaml") else FinetuneConfig
    assert load_config(model, name) == load_config(model, name.removesuffix(".yaml"))


def test_overrides_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("seed: 5\npairs:\n  steps: 7\n  candidates: 3\n")
    config = load_config(DatasetConfig, file, ["pairs.steps=9", "filter.per_kind.season.direction=0.1"])
    assert (config.seed, config.pairs.steps, config.pairs.candidates) == (5, 9, 3)
    assert config.filter.per_kind["season"].direction == 0.1
    assert config.scores == DatasetConfig().scores


@given(st.integers(0, 2**31), st.floats(0.001, 1))
def test_values_survive_the_command_line(seed: int, rate: float) -> None:
    config = load_config(FinetuneConfig, None, [f"seed={seed}", f"learning_rate={rate!r}"])
    assert (config.seed, config.learning_rate) == (seed, rate)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("runs/my run #2", "runs/my run #2"),
        ("#2", "#2"),
        ("runs/a#2", "runs/a#2"),
        ("'runs/my run #2'", "runs/my run #2"),
        ('"runs/a" #2', '"runs/a" #2'),
        ("runs/it's #2", "runs/it's #2"),
        ("2024-13-45", "2024-13-45"),
    ],
)
def test_a_value_has_no_comment(text: str, value: str) -> None:
    assert load_config(FinetuneConfig, None, [f"out={text}"]).out == value


def test_structured_values_may_have_a_hash_in_quotes() -> None:
    assert load_config(FinetuneConfig, None, ["dataset=['runs/a #2', b]"]).dataset == ("runs/a #2", "b")
    assert load_config(FinetuneConfig, None, ['columns={original: "the #1"}']).columns.original == "the #1"


@pytest.mark.parametrize(
    ("model", "override", "nearest"),
    [
        (FinetuneConfig, "learning_rat=1", "learning_rate"),
        (FinetuneConfig, "baze=x", "base"),
        (DatasetConfig, "pairs.step=1", "pairs.steps"),
        (DatasetConfig, "filter.per_kind.season.dirction=1", "filter.per_kind.season.direction"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(model: type[Config], override: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown key .*Did you mean {nearest}\?"):
        load_config(model, None, [override])


def test_a_key_like_no_other_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="Known are: .*seed"):
        load_config(FinetuneConfig, None, ["qqq=1"])


WRONG = ["steps=0", "drop=0.5", "schedule=wavy", "learning_rate=fast", "learning_rate=.inf", "steps", "steps.x=1"]


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_value_is_named(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0].partition(".")[0]):
        load_config(FinetuneConfig, None, [override])


def test_a_setting_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="key=value"):
        load_config(FinetuneConfig, None, ["=3"])


def test_settings_inside_a_value_are_refused() -> None:
    with pytest.raises(ConfigError, match="seed in 'seed.x=1' has no settings"):
        load_config(DatasetConfig, None, ["seed=1", "seed.x=1"])


def test_bounds_must_be_in_order() -> None:
    with pytest.raises(ConfigError, match="p_min"):
        load_config(DatasetConfig, None, ["pairs.p_min=0.8", "pairs.p_max=0.2"])


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "seed: [1", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="YAML"):
        load_config(FinetuneConfig, file)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.touch()
    assert load_config(FinetuneConfig, file) == FinetuneConfig()


def test_a_missing_file_lists_the_bundled_ones() -> None:
    with pytest.raises(ConfigError, match="storybook_finetune.yaml"):
        load_config(FinetuneConfig, "nowhere.yaml")


@pytest.mark.parametrize("model", CONFIGS)
def test_configs_do_not_change(model: type[Config]) -> None:
    with pytest.raises(ValidationError):
        model().seed = 1  # type: ignore[attr-defined]


def undescribed(model: type[Config]) -> list[str]:
    """Fields, of a config or of one inside it, that do not say what they are for."""
    missing = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Config):
            missing += [f"{name}.{deeper}" for deeper in undescribed(inner)]
        elif not field.description:
            missing.append(name)
    return missing


@pytest.mark.parametrize("model", CONFIGS)
def test_every_field_says_what_it_is_for(model: type[Config]) -> None:
    assert not undescribed(model)


def test_an_error_is_blamed_on_what_it_is_in(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("pairs: {steps: 5, p_max: 0.4}\n")
    for overrides, place in (
        (["pairs.steps=0"], "pairs.steps=0 in the given settings is wrong"),
        (["seed=3", "pairs.stpes=4"], "unknown key pairs.stpes in the given settings"),
        (["pairs={steps: 0}"], "pairs.steps=0 in the given settings is wrong"),
        (["pairs.p_min=0.5"], f"pairs in the config {file} with pairs.p_min=0.5 is wrong"),
        ([], ""),
    ):
        if not place:
            file.write_text("pairs: {steps: 0}\n")
            place, overrides = f"pairs.steps=0 in the config {file} is wrong", ["seed=3", "pairs.size=64"]
        with pytest.raises(ConfigError) as caught:
            load_config(DatasetConfig, file, overrides)
        assert str(caught.value).startswith(place)
    with pytest.raises(ConfigError, match="pairs.steps=0 in the settings of the folder is wrong"):
        load_config(DatasetConfig, None, ["seed=3"], sections={"pairs": {"steps": 0}})
