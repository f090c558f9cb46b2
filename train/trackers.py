"""Trackers of accelerate, such as tensorboard and wandb: whether one can log is checked before a run begins."""

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType

from ip2p.errors import ConfigError, one_line
from ip2p.train.config import FinetuneConfig

PROJECT = "ip2p-finetune"
OFFLINE = ("offline", "dryrun", "disabled")


def require_tracker(name: str, environment: Mapping[str, str] = os.environ) -> None:
    """Check that a tracker can log: it is installed, and logged in where it sends figures elsewhere.

    Args:
        name: name of the tracker, or none.
        environment: environment variables.

    Raises:
        ConfigError: it is unknown, not installed, or not logged in.
    """
    installed = sorted(
        {str(getattr(each, "value", each)) for each in get_available_trackers()}
        | (LOGGER_TYPE_TO_CLASS.keys() - set(LoggerType.list()))
    )
    if name != "none" and name not in installed:
        instead = f"Give report_to={' or '.join([*installed, 'none'])}"
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(f"report_to={name} is no tracker that accelerate knows", instead)
        raise ConfigError(
            f"report_to={name} is not installed", f"Run `pip install {name}`, or {instead[0].lower()}{instead[1:]}"
        )
    if name == "wandb" and not _is_logged_in(environment):
        raise ConfigError(
            "report_to=wandb is not logged in, or its key is refused",
            "Run `wandb login`, or set WANDB_MODE=offline to upload later",
        )
    if name == "comet_ml" and not environment.get("COMET_API_KEY"):
        raise ConfigError("report_to=comet_ml has no key", "Set COMET_API_KEY, or give report_to=none")


def start_tracker(accelerator: Accelerator, config: FinetuneConfig) -> None:
    """Start the tracker of a run, with its settings.

    Raises:
        ConfigError: it cannot start.
    """
    own = {"wandb": {"dir": config.out}}
    kwargs = {name: value for name, value in own.items() if name == config.report_to}
    try:
        accelerator.init_trackers(PROJECT, flat_settings(config), init_kwargs=kwargs)
    except Exception as error:  # each tracker has errors of its own
        raise ConfigError(
            f"report_to={config.report_to} cannot start ({one_line(error, 160)})", "Mend that, or give report_to=none"
        ) from error


def tracker_log(accelerator: Accelerator, say: Callable[[str], None]) -> Callable[[dict[str, Any], int], None]:
    """Return a function that gives figures of a step to the tracker; one that fails costs no run, and is told once."""
    failed: list[str] = []

    def log(figures: dict[str, Any], step: int) -> None:
        if failed:
            return
        try:
            accelerator.log(figures, step=step)
        except Exception as error:
            failed.append(one_line(error, 160))
            say(f"the tracker failed at step {step} and gets no more figures ({failed[0]}); metrics.jsonl has them all")

    return log


def flat_settings(config: FinetuneConfig) -> dict[str, str | int | float | bool]:
    """Return the settings of a run as trackers take them: numbers and texts only."""
    return {
        name: value if isinstance(value, str | int | float | bool) else str(value)
        for name, value in config.model_dump(mode="json").items()
    }


def _is_logged_in(environment: Mapping[str, str]) -> bool:
    """Return whether wandb has a key, or needs none."""
    if environment.get("WANDB_API_KEY") or environment.get("WANDB_MODE", "").lower() in OFFLINE:
        return True
    wandb: Any = importlib.import_module("wandb")
    try:
        if "prompt" in inspect.signature(wandb.login).parameters:
            return bool(wandb.login(prompt=False))
        return bool(wandb.api.api_key)  # in older versions
    except Exception:  # a key that is refused
        return False
