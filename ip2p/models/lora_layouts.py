"""Layouts of LoRA files: the names that trainers give to the modules of a model, and to what they learned of one.

Every trainer writes a module's own name in its way: with dots or with underscores, with a prefix for the network, in
the names of diffusers or of the original checkpoints. So all these names are made from the model itself and looked up,
and no name is guessed from a key.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ip2p.errors import ModelError, reason
from ip2p.models.backbone import Backbone
from ip2p.models.key_names import unet_names
from ip2p.models.weight_files import read_header

ROLES = {
    "down": r"\.lora_down\.weight|\.lora_A(?:\.[\w-]+)?\.weight|(?:\.lora|_lora|\.lora_linear_layer)\.down\.weight",
    "up": r"\.lora_up\.weight|\.lora_B(?:\.[\w-]+)?\.weight|(?:\.lora|_lora|\.lora_linear_layer)\.up\.weight",
    "bias": r"\.lora_B(?:\.[\w-]+)?\.bias",
    "mid": r"\.lora_mid\.weight",
    "alpha": r"(?:\.lora|_lora)?\.alpha",
    "dora_scale": r"\.dora_scale",
    "magnitude": r"\.lora_magnitude_vector(?:\.[\w-]+?)?(?:\.weight)?",
}
"""Roles of weights in their modules, by the ends of their keys: kohya's, LyCORIS', peft's and diffusers' names."""
OTHER_ROLES = (
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "diff", "diff_b",
)  # fmt: skip
KEY = re.compile(
    "(?P<module>.+?)(?:"
    + "|".join([*(f"(?P<{role}>{end})" for role, end in ROLES.items()), rf"\.(?P<other>{'|'.join(OTHER_ROLES)})"])
    + ")"
)
DIFFUSERS_HEADER, PEFT_FILE = "lora_adapter_metadata", "adapter_config.json"
PEFT_PREFIX = "base_model.model."
"""Places of the alphas of files in peft's layout: a text in the header, or a file beside it."""
NETWORKS = ("unet", "text_encoder", "text_encoder_2")
OLD_ATTENTION = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


class Place(NamedTuple):
    """A module that a LoRA may change.

    Args:
        network: name of its network, such as unet.
        name: name of the module there.
        module: the module, with a weight.
    """

    network: str
    name: str
    module: nn.Linear | nn.Conv2d


def split_key(key: str) -> tuple[str, str] | None:
    """Split a key into the name of a module and the role of the weight there; None if no trainer writes such a key."""
    found = KEY.fullmatch(key)
    if found is None:
        return None
    role = found["other"] or next(role for role in ROLES if found[role] is not None)
    return found["module"], role


def name_modules(backbone: Backbone) -> dict[str, Place]:
    """All modules of the UNet and the text encoders that a LoRA may change, by each of the names that trainers use."""
    found: dict[str, Place] = {}
    for network in NETWORKS:
        for name, module in getattr(getattr(backbone, network), "named_modules", dict)():
            if isinstance(module, nn.Linear | nn.Conv2d):
                place = Place(network, name, module)
                aliases = _unet_module(name) if network == "unet" else _text_module(network, name, xl=backbone.is_xl)
                found |= dict.fromkeys(aliases, place)
    for name, original in unet_names(backbone.unet).items():
        module_name = original.removesuffix(".weight")
        if name.endswith(".weight") and name.removesuffix(".weight") in found:
            names = (f"diffusion_model.{module_name}", f"lora_unet_{module_name.replace('.', '_')}")
            found |= dict.fromkeys((*names, f"model.{names[0]}"), found[name.removesuffix(".weight")])
    return found


def _unet_module(name: str) -> Iterator[str]:
    """Names of a module of the UNet, besides those of the original checkpoints."""
    yield from (f"{prefix}{name.replace('.', '_')}" for prefix in ("lora_unet_", "lycoris_"))
    processor = re.sub(r"\.(to_[qkv]|to_out)(\.0)?$", r".processor.\1", name)
    for each in (name, name.removesuffix(".0"), processor):
        yield from (f"{prefix}{each}" for prefix in ("unet.", "", "base_model.model.unet.", "base_model.model."))


def _text_module(network: str, name: str, *, xl: bool) -> Iterator[str]:
    """Names of a module of a text encoder."""
    second = network == "text_encoder_2"
    before = [
        f"{network}.",
        f"base_model.model.{network}.",
        f"text_encoders.clip_{'g' if second else 'l'}.transformer.",
    ]
    before += [] if xl else ["", "base_model.model."]
    short = name.removeprefix("text_model.")
    start, _, last = short.rpartition(".")
    for each in (short, f"{start}.{OLD_ATTENTION.get(last, last)}"):
        for full in (each, f"text_model.{each}"):
            yield from (prefix + full for prefix in before)
            kohya = ["lora_te2_"] if second else ["lora_te1_", "lora_te_"]
            yield from (prefix + full.replace(".", "_") for prefix in kohya)


def read_peft_config(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Read what a file in peft's layout says of its alphas, by option, or by network and option as in unet.lora_alpha.

    The config beside a file counts only if the names of its weights are those that peft saves: other files may have
    been put into the same folder.

    Args:
        path: LoRA file.
        keys: names of its weights.

    Raises:
        ModelError: it is not readable, or an option has a value that peft does not know.
    """
    text = read_header(path).get(DIFFUSERS_HEADER)
    beside = path.with_name(PEFT_FILE)
    is_pefts = beside.is_file() and any(key.startswith(PEFT_PREFIX) for key in keys)
    try:
        found = json.loads(text if text is not None else beside.read_text("utf-8") if is_pefts else "{}")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"the config of the LoRA {path} is not readable ({reason(error)})", "Download it again"
        ) from error
    if not isinstance(found, dict):
        raise ModelError(f"the config of the LoRA {path} has no options by name", "Download it again")
    for option, (is_valid, expected) in OPTIONS.items():
        for name in (option, *(f"{network}.{option}" for network in NETWORKS)):
            if name in found and not is_valid(found[name]):
                value = json.dumps(found[name])[:100]
                raise ModelError(
                    f"the config of the LoRA {path} has {name} = {value}, not {expected}",
                    "Correct it, or download it again",
                )
    return found


def _is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that fp32 can hold; NaN and infinity, which Python reads too, are none."""
    return type(value) in (int, float) and abs(value) <= torch.finfo(torch.float32).max


def _is_switch(value: Any) -> bool:
    """Whether a value of JSON is true, false, or null for the default."""
    return value is None or isinstance(value, bool)


def _is_rank(value: Any) -> bool:
    """Whether a value of JSON is a whole number from 1."""
    return type(value) is int and _is_number(value) and value > 0


def _is_pattern(value: Any, is_valid: Callable[[Any], bool]) -> bool:
    """Whether a value of JSON has valid numbers by regular expressions, or is null for the default."""
    try:
        return value is None or all(is_valid(number) and _compile(pattern) for pattern, number in value.items())
    except (AttributeError, re.error, RecursionError, OverflowError):
        return False


OPTIONS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "lora_alpha": (_is_number, "a finite number"),
    "alpha": (_is_number, "a finite number"),
    "alpha_pattern": (partial(_is_pattern, is_valid=_is_number), "finite numbers by regular expressions"),
    "r": (_is_rank, "a whole number from 1"),
    "rank_pattern": (partial(_is_pattern, is_valid=_is_rank), "whole numbers from 1 by regular expressions"),
    "use_rslora": (_is_switch, "true or false"),
    "use_dora": (_is_switch, "true or false"),
}
"""The options that decide what is merged: whether a value is valid, and what it has to be."""


def _compile(pattern: str) -> re.Pattern[str]:
    """An expression for the names of modules, as peft reads it."""
    return re.compile(rf"(.*\.)?({pattern})$")


def peft_option(config: Mapping[str, Any], place: Place, option: str) -> Any:
    """Look up a module in a config by `read_peft_config`: the network's own value before the general one, or None."""
    return config.get(f"{place.network}.{option}", config.get(option))


def _pattern_option(config: Mapping[str, Any], place: Place, option: str) -> Any:
    """Return the value of the first pattern of an option that fits a module's name, or None."""
    patterns = (peft_option(config, place, option) or {}).items()
    return next((value for pattern, value in patterns if _compile(pattern).match(place.name)), None)


def peft_scale(config: Mapping[str, Any], place: Place, rank: int | None) -> float:
    """The factor of a module in peft's layout: alpha / rank, or alpha / sqrt(rank); 1 if nothing is said of alpha.

    Args:
        config: config by `read_peft_config`.
        place: the module.
        rank: rank of its matrices; None if they have none, so that only the config says it.
    """
    rank = rank or _pattern_option(config, place, "rank_pattern") or peft_option(config, place, "r")
    if rank is None:
        return 1.0
    said = (
        _pattern_option(config, place, "alpha_pattern"),
        peft_option(config, place, "lora_alpha"),
        peft_option(config, place, "alpha"),  # of LoHa and LoKr
    )
    alpha = next((value for value in said if value is not None), rank)
    return float(alpha) / (rank**0.5 if peft_option(config, place, "use_rslora") else rank)
