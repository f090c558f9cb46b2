"""The flags of diffusers' train_instruct_pix2pix.py, for the config of a run.

    accelerate launch --mixed_precision=fp16 train/finetune.py --pretrained_model_name_or_path=... --dataset_name=...

A command that was written for that script keeps its words and its defaults (256 px, batch 16, no average without
--use_ema). Where ours differs, a line says so; a flag that cannot be honoured is refused, and never passed over.
"""

import argparse
import difflib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ip2p.errors import ConfigError
from ip2p.train.config import FinetuneConfig

Say = Callable[[str], None]

SETTINGS: Mapping[str, str] = {
    "pretrained_model_name_or_path": "base", "dataset_name": "dataset", "train_data_dir": "dataset",
    "output_dir": "out", "seed": "seed", "resolution": "size", "train_batch_size": "batch",
    "gradient_accumulation_steps": "accumulation", "max_train_steps": "steps", "num_train_epochs": "epochs",
    "learning_rate": "learning_rate", "lr_warmup_steps": "warmup", "adam_weight_decay": "weight_decay",
    "max_grad_norm": "max_grad_norm", "conditioning_dropout_prob": "drop", "snr_gamma": "min_snr_gamma",
    "noise_offset": "noise_offset", "prediction_type": "prediction_type", "checkpointing_steps": "checkpoint_every",
    "checkpoints_total_limit": "keep_checkpoints", "dataloader_num_workers": "workers",
    "validation_steps": "validate_every", "report_to": "report_to",
    "validation_prompt": "validation_prompt", "val_image_url_or_path": "validation_image",
    "hub_model_id": "push_to_hub", "original_image_column": "columns.original",
    "edit_prompt_column": "columns.instruction", "edited_image_column": "columns.edited",
}  # fmt: skip
"""Flags with a value, and the settings that they are."""
SWITCHES: Mapping[str, tuple[str, Any]] = {
    "random_flip": ("flip", True),
    "gradient_checkpointing": ("gradient_checkpointing", True),
    "use_8bit_adam": ("optimizer", "adamw8bit"),
    "enable_xformers_memory_efficient_attention": ("attention", "xformers"),
}
"""Flags without a value, and the settings that they are."""
NO_EFFECT: Mapping[str, str] = {
    "variant": "weights are found by themselves",
    "non_ema_revision": "averages start as the weights that are trained",
    "center_crop": "crops are random where a picture is not square, as is fair to its borders",
    "allow_tf32": "precision=auto takes bf16 where a GPU has it",
    "logging_dir": "trackers write to out",
    "num_validation_images": "sheets show held-out pairs",
    "validation_epochs": "validate_every counts steps",
    "local_rank": "the launcher says it by its environment",
    "cache_dir": "HF_HOME says where the hub's files are kept",
}
"""Flags that change nothing, with the reason that is told."""
REFUSED: Mapping[str, str] = {
    "hub_token": "Log in by `hf auth login`, or set HF_TOKEN: a token on the command line can be read by others",
    "val_image_url": "Give validation_image=FILE: a run downloads no pictures by URL",
    "max_train_samples": "Give a smaller data set",
    "dataset_config_name": "Download the data set, and give the folder of that configuration",
    "revision": "Download that revision by `hf download`, and give its folder as --pretrained_model_name_or_path",
}
"""Flags that cannot be honoured, with what to do."""
FIXED: Mapping[str, float] = {"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8}
"""Numbers that are what ours are, and are refused otherwise."""
SCHEDULES: Mapping[str, str] = {
    "constant": "constant", "constant_with_warmup": "constant", "linear": "linear", "cosine": "cosine"
}  # fmt: skip
OTHERS = ("mixed_precision", "lr_scheduler", "resume_from_checkpoint")
OTHER_SWITCHES = ("use_ema", "scale_lr", "push_to_hub", "center_crop", "allow_tf32")
IN_A_STEP: Mapping[str, str] = {"batch": "train_batch_size", "accumulation": "gradient_accumulation_steps"}
"""Settings that multiply to the samples in a step of one process, and their flags."""
DEFAULTS: Mapping[str, Any] = {
    "size": 256, "batch": 16, "flip": False, "epochs": 100, "ema_decay": 0.0, "out": "instruct-pix2pix-model"
}  # fmt: skip
"""Settings of that script where ours differ; without --use_ema the average is the weights themselves."""


class Translated(NamedTuple):
    """A command of diffusers' script as a config.

    Attributes:
        settings: settings by name, in place of the defaults of FinetuneConfig.
        said: what a person should know about it, a line each.
    """

    settings: dict[str, Any]
    said: list[str]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Let a parser know the flags; those that are not given are None."""
    group = parser.add_argument_group("flags of diffusers' train_instruct_pix2pix.py, in place of key=value")
    valued = {*SETTINGS, *NO_EFFECT, *REFUSED, *FIXED, *OTHERS} - set(OTHER_SWITCHES)
    for name in sorted(valued | set(SWITCHES) | set(OTHER_SWITCHES)):
        meaning = _meaning(name)
        if name in valued:
            group.add_argument(f"--{name}", metavar="VALUE", help=meaning)
        else:
            group.add_argument(f"--{name}", action="store_const", const=True, help=meaning)


def refuse_unknown(arguments: list[str], parser: argparse.ArgumentParser) -> None:
    """Check that no argument is left over.

    Raises:
        ConfigError: there is one; the nearest known flag is named.
    """
    if not arguments:
        return
    name = arguments[0].partition("=")[0]
    known = sorted(option for action in parser._actions for option in action.option_strings)
    nearest = difflib.get_close_matches(name.replace("-", "_").replace("__", "--", 1), known, n=1, cutoff=0.6)
    remedy = f"Did you mean {nearest[0]}?" if nearest else "Give settings as key=value, see --help"
    raise ConfigError(f"there is no flag {name}", remedy)


def translate(
    given: Mapping[str, Any],
    *,
    with_defaults: bool = True,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> Translated | None:
    """Turn the flags of a command into settings; None if no flag is given.

    Args:
        given: values of flags by name; None for a flag that is not given.
        with_defaults: whether what no flag says is as in that script, and not as in a config file.
        overrides: settings as key=value, which stand above the flags.
        environment: environment variables, which say the number of processes.

    Raises:
        ConfigError: a flag, or its value, cannot be honoured.
    """
    flags = {name: value for name, value in given.items() if value is not None and _meaning(name)}
    if not flags:
        return None
    for name, remedy in REFUSED.items():
        if name in flags and not (name == "revision" and flags[name] == "main"):
            raise ConfigError(f"--{name} cannot be honoured", remedy)
    for name, value in FIXED.items():
        if name in flags and _number(name, flags[name]) != value:
            raise ConfigError(f"--{name}={flags[name]} cannot be honoured: AdamW has {value:g} here", "Leave it out")
    said = [f"--{name} changes nothing: {reason}" for name, reason in NO_EFFECT.items() if name in flags]
    settings: dict[str, Any] = dict(DEFAULTS) if with_defaults else {}
    for name, key in SETTINGS.items():
        section, _, last = key.rpartition(".")
        if name in flags:
            (settings.setdefault(section, {}) if section else settings)[last] = flags[name]
    settings |= {key: value for name, (key, value) in SWITCHES.items() if name in flags}
    if with_defaults and "conditioning_dropout_prob" not in flags:
        said.append(
            f"--conditioning_dropout_prob is not given: {FinetuneConfig().drop:g}, as in the paper, for without it "
            "neither guidance scale would work"
        )
    if "max_train_steps" in flags:
        settings["epochs"] = None
    if with_defaults or flags.keys() & {"lr_scheduler", "lr_warmup_steps"}:
        settings |= _schedule(flags)
    settings |= _averages(flags) | _precision(flags, said) | _push(flags, settings)
    settings |= _attention(settings, said)
    if "scale_lr" in flags:
        others = {each.partition("=")[0] for each in overrides} & {"learning_rate", *IN_A_STEP}
        if others or not with_defaults:
            raise ConfigError(
                f"--scale_lr cannot be honoured beside {', '.join(sorted(others)) or '--config'}",
                "Give the learning rate itself, as learning_rate=",
            )
        factors = [_number(flag, flags.get(flag, _default(key))) for key, flag in IN_A_STEP.items()]
        scaled = math.prod(factors) * int(environment.get("WORLD_SIZE", "1"))
        settings["learning_rate"] = _number("learning_rate", flags.get("learning_rate", 1e-4)) * scaled
        said.append(f"--scale_lr: the learning rate is {settings['learning_rate']:g}")
    _resume(flags.get("resume_from_checkpoint"), Path(settings.get("out", FinetuneConfig().out)), said)
    return Translated(settings, said)


def _meaning(name: str) -> str:
    """Return what a flag is here, for --help; an empty string for what is no flag of that script."""
    if name in SETTINGS:
        return f"{SETTINGS[name]}=VALUE"
    if name in SWITCHES:
        key, value = SWITCHES[name]
        return f"{key}={str(value).lower()}"
    if name in NO_EFFECT:
        return f"changes nothing: {NO_EFFECT[name]}"
    if name in REFUSED:
        return "refused, with what to do instead"
    if name in FIXED:
        return f"{FIXED[name]:g} only"
    return {
        "mixed_precision": "precision=VALUE; no is fp32", "lr_scheduler": f"schedule: {', '.join(SCHEDULES)}",
        "resume_from_checkpoint": "latest: a run in out always goes on from its newest whole checkpoint",
        "use_ema": "ema_decay=0.9999", "scale_lr": "learning rate times the samples in a step",
        "push_to_hub": "push_to_hub=NAME of --hub_model_id, or else of out",
    }.get(name, "")  # fmt: skip


def _schedule(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the learning rate schedule; that script's "constant" does not warm up."""
    name = flags.get("lr_scheduler", "constant")
    if name not in SCHEDULES:
        raise ConfigError(f"--lr_scheduler={name} cannot be honoured", f"Give one of {', '.join(SCHEDULES)}")
    warmup = 0 if name == "constant" else flags.get("lr_warmup_steps", 500)
    return {"schedule": SCHEDULES[name], "warmup": warmup}


def _averages(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {"ema_decay": 0.9999} if "use_ema" in flags else {}


def _precision(flags: Mapping[str, Any], said: list[str]) -> dict[str, Any]:
    """Return the precision of --mixed_precision; fp16 needs a GPU, and a CPU measures what is fast there."""
    name = flags.get("mixed_precision")
    if name is None:
        return {}
    known = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}
    if name not in known:
        raise ConfigError(f"--mixed_precision={name} cannot be honoured", f"Give one of {', '.join(known)}")
    if name == "fp16" and not _has_gpu():
        said.append("--mixed_precision=fp16 needs a GPU, and there is none: precision=auto, measured on this CPU")
        return {"precision": "auto"}
    return {"precision": known[name]}


def _attention(settings: Mapping[str, Any], said: list[str]) -> dict[str, Any]:
    """Return the attention: xformers where it can work, and else what is chosen without it."""
    if settings.get("attention") != "xformers":
        return {}
    import importlib.util

    if _has_gpu() and importlib.util.find_spec("xformers"):
        return {}
    lacks = "is not installed" if _has_gpu() else "needs a GPU"
    said.append(f"--enable_xformers_memory_efficient_attention: xformers {lacks}, so attention=auto")
    return {"attention": "auto"}


def _push(flags: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the name of the model on the hub, by default that of the folder, as in that script."""
    if "push_to_hub" not in flags:
        return {"push_to_hub": None} if "hub_model_id" in flags else {}
    if "out" not in settings and "hub_model_id" not in flags:
        raise ConfigError("--push_to_hub beside --config names no model", "Give --hub_model_id")
    return {"push_to_hub": flags.get("hub_model_id") or Path(settings["out"]).name}


def _resume(name: str | None, out: Path, said: list[str]) -> None:
    """Say how a run resumes; that script resumes on request only, and ours always does.

    Raises:
        ConfigError: a checkpoint is named that is not the newest of the run.
    """
    checkpoints = sorted((out / "checkpoints").glob("step-????????"))
    if name is None or name == "latest":
        if name and not checkpoints:
            said.append(f"--resume_from_checkpoint=latest: there is no checkpoint in {out}, so the run begins")
        return
    if not checkpoints or Path(name).name != checkpoints[-1].name:
        raise ConfigError(
            f"--resume_from_checkpoint={name} is not the newest checkpoint in {out / 'checkpoints'}",
            "Leave it out: a run goes on from its newest whole checkpoint; remove newer ones to go back",
        )


def _number(flag: str, value: Any) -> float:
    """Return the value of a flag as a number.

    Raises:
        ConfigError: it is none.
    """
    try:
        return float(value)
    except ValueError as error:
        raise ConfigError(f"--{flag}={value} is no number", "Give one") from error


def _default(key: str) -> Any:
    return DEFAULTS.get(key, FinetuneConfig.model_fields[key].default)


def _has_gpu() -> bool:
    import torch  # takes seconds, and is needed by few commands

    return torch.accelerator.is_available()
