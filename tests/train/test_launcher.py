"""The environment of a launcher never wins over the configuration without a word."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import get_available_trackers

from ip2p.errors import ConfigError
from ip2p.train.config import FinetuneConfig
from ip2p.train.launcher import is_launched, settle


def config(**settings: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate({"base": "storybook-base", "dataset": "data", **settings})


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        (
            {"accumulation": 2}, {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
            r"asks for 4 micro-batches .*and accumulation=2\. Give accumulation=4",
        ),
        (
            {"precision": "fp32"}, {"ACCELERATE_MIXED_PRECISION": "bf16"},
            r"--mixed_precision bf16, and precision=fp32\. Give precision=bf16, or leave it out",
        ),
        ({}, {"ACCELERATE_MIXED_PRECISION": "fp8"}, r"--mixed_precision fp8, and precision=auto"),
        ({}, {"ACCELERATE_USE_FSDP": "true"}, r"asks for FSDP"),
        ({}, {"ACCELERATE_USE_DEEPSPEED": "true"}, r"asks for DeepSpeed"),
        ({}, {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, r"the compiler backend inductor"),
        ({"report_to": "tensorbord"}, {}, r"report_to=tensorbord is no tracker"),
    ],
)  # fmt: skip
def test_what_contradicts_the_config_is_refused(
    settings: dict[str, Any], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        settle(config(**settings), lambda _: None, environment)


@pytest.mark.parametrize(
    "environment",
    [
        {}, {"ACCELERATE_MIXED_PRECISION": "", "ACCELERATE_DYNAMO_BACKEND": "NO"},
        {"ACCELERATE_MIXED_PRECISION": "no"}, {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"},
        {"ACCELERATE_USE_FSDP": "false", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "auto"},
    ],
)  # fmt: skip
def test_what_agrees_with_the_config_is_let_through(environment: dict[str, str]) -> None:
    given = config(accumulation=2)
    assert settle(given, pytest.fail, environment) is given


def test_an_open_precision_is_the_launchers_and_is_told() -> None:
    said: list[str] = []
    assert settle(config(), said.append, {"ACCELERATE_MIXED_PRECISION": "BF16"}).precision == "bf16"
    assert said == ["precision bf16, as --mixed_precision of accelerate launch says"]


@pytest.mark.parametrize("name", ["wandb", "comet_ml"])
def test_a_tracker_that_is_not_installed_is_refused_at_the_start(name: str) -> None:
    if name in map(str, get_available_trackers()):
        pytest.skip(f"{name} is installed")
    with pytest.raises(
        ConfigError, match=rf"report_to={name} is not installed\. Run `pip install {name}`, or give report_to="
    ):
        settle(config(report_to=name), lambda _: None, {})


def test_a_run_asks_before_it_loads_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    from ip2p.train.fit import fit

    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    with pytest.raises(ConfigError, match="asks for 8 micro-batches"):
        fit(config(base="nowhere", dataset="nowhere"), say=lambda _: None)


@pytest.mark.slow
def test_a_process_knows_that_accelerate_has_launched_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from ip2p.train.launcher import is_launched\nprint('launched', is_launched())\n")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", str(script)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "launched True" in said
    assert not is_launched({"PATH": "/bin"})
