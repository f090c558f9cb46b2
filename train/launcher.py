"""Requests of `accelerate launch` and its environment, held against the config, which alone decides."""

import os
from collections.abc import Callable, Mapping

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from ip2p.errors import ConfigError
from ip2p.train.config import FinetuneConfig
from ip2p.train.trackers import require_tracker

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
            model; or the tracker cannot log.
    """
    require_tracker(config.report_to, environment)
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


def process_state(threads: int = 0) -> PartialState:
    """Set up rank, device and threads as `accelerate launch` or torchrun ask, with several ranks on CPUs too.

    Args:
        threads: CPU threads of each process; 0 shares all cores among the processes.
    """
    asked = parse_flag_from_env("ACCELERATE_USE_CPU")
    place = PartialState(cpu=asked or not torch.accelerator.is_available())
    if place.device.type == "cpu":
        # `accelerate launch` gives a process one thread, which would leave the other cores idle.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(threads or max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return place
