"""Layouts of LoRA files: the names that trainers give to the modules of a model, and to what they learned of one.

Every trainer writes a module's own name in its way: with dots or with underscores, with a prefix for the network, in
the names of diffusers or of the original checkpoints. So all these names are made from the model itself and looked up,
and no name is guessed from a key.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ip2p.errors import ModelError, one_line
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
"""What a weight is to its module, by the end of its key: kohya's, LyCORIS', peft's and diffusers' names."""
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
"""Where the alphas of files in peft's layout are: a text in the header, or a file beside it."""
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
    for network in ("unet", "text_encoder", "text_encoder_2"):
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


def read_peft_config(path: Path) -> dict[str, Any]:
    """Read what a file in peft's layout says of its alphas, by option, or by network and option as in unet.lora_alpha.

    Raises:
        ModelError: it is not readable.
    """
    text = read_header(path).get(DIFFUSERS_HEADER)
    beside = path.with_name(PEFT_FILE)
    try:
        found = json.loads(text if text is not None else beside.read_text() if beside.is_file() else "{}")
        return dict(found)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"the config of the LoRA {path} is not readable ({one_line(error)})", "Download it again"
        ) from error


def peft_scale(config: Mapping[str, Any], place: Place, rank: int) -> float:
    """The factor of a module in peft's layout: alpha / rank, or alpha / sqrt(rank); 1 if nothing is said of alpha.

    Args:
        config: config by `read_peft_config`.
        place: the module.
        rank: rank of its matrices.

    Raises:
        TypeError, ValueError, ArithmeticError, re.error: what is said is not usable.
    """
    alpha = _option(config, place, "lora_alpha", rank)
    for pattern, value in dict(_option(config, place, "alpha_pattern", None) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", place.name):  # as peft reads it
            alpha = value
            break
    return float(alpha) / (rank**0.5 if _option(config, place, "use_rslora", False) else rank)


def says_dora(config: Mapping[str, Any], place: Place) -> bool:
    """Whether a config by `read_peft_config` says that a module has DoRA's magnitude vector."""
    return bool(_option(config, place, "use_dora", False))


def _option(config: Mapping[str, Any], place: Place, option: str, default: Any) -> Any:
    return config.get(f"{place.network}.{option}", config.get(option, default))
