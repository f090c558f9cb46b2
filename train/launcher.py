"""What `accelerate launch` and its environment ask of a run, held against the config, which alone decides."""

import os
from collections.abc import Callable, Mapping

import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from ip2p.errors import ConfigError
from ip2p.train.config import FinetuneConfig

SHARDING = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_FSDP": "FSDP",
            "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}  # fmt: skip
TRUE = ("1", "true", "yes", "on")


def is_launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether `accelerate launch` has started this process: it always names a precision."""
    return "ACCELERATE_MIXED_PRECISION" in environment


def settle(
    config: FinetuneConfig, say: Callable[[str], None], environment: Mapping[str, str] = os.environ
) -> FinetuneConfig:
    """Return the config with the launcher's precision where it leaves this open.

    Args:
        config: settings of the run.
        say: function that prints a line.
        environment: environment variables.

    Raises:
        ConfigError: the environment asks for another accumulation or precision than the config, or for a sharded
            model; or the tracker is unknown or not installed.
    """
    _require_tracker(config.report_to)
    for name, library in SHARDING.items():
        if environment.get(name, "").lower() in TRUE:
            raise ConfigError(
                f"accelerate's configuration asks for {library}, and every process here holds the whole model",
                "Run `accelerate launch --multi_gpu`, or `accelerate config` without it",
            )
    steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "")
    if steps.isdecimal() and int(steps) != config.accumulation:
        raise ConfigError(
            f"accelerate's environment asks for {steps} micro-batches in a step "
            f"(ACCELERATE_GRADIENT_ACCUMULATION_STEPS), and accumulation={config.accumulation}",
            f"Give accumulation={steps}, or unset the variable",
        )
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if backend not in ("", "no"):
        raise ConfigError(
            f"accelerate's configuration asks for the compiler backend {backend}, and training does not compile",
            "Leave out --dynamo_backend",
        )
    precision = environment.get("ACCELERATE_MIXED_PRECISION", "").lower() or "no"
    if precision == "fp16" and config.precision == "auto" and not torch.accelerator.is_available():
        say("--mixed_precision fp16 of accelerate launch needs a GPU, and there is none: precision=auto")
        return config
    if precision in ("no", config.precision):  # the launcher says "no" if it was not asked
        return config
    if config.precision != "auto" or precision not in ("bf16", "fp16"):
        known = precision in ("bf16", "fp16")
        raise ConfigError(
            f"accelerate launch asks for --mixed_precision {precision}, and precision={config.precision}",
            f"Give precision={precision}, or leave it out"
            if known
            else "Leave it out: precision is bf16, fp16 or fp32",
        )
    say(f"precision {precision}, as --mixed_precision of accelerate launch says")
    return config.model_copy(update={"precision": precision})


def _require_tracker(name: str) -> None:
    """Check that a tracker is installed.

    Raises:
        ConfigError: it is unknown, or not installed.
    """
    installed = sorted(str(getattr(each, "value", each)) for each in get_available_trackers())
    if name == "none" or name in installed:
        return
    instead = f"Give report_to={', '.join([*installed, 'none'])}"
    if name in LOGGER_TYPE_TO_CLASS:
        raise ConfigError(f"report_to={name} is not installed", f"Install it, or {instead[0].lower()}{instead[1:]}")
    raise ConfigError(f"report_to={name} is no tracker that accelerate knows", instead)
