"""LoRA files, merged into the weights of a model: all of a file, exactly as it says, or none.

With W a weight, s the scale that the user gives, and a module's own factor of alpha / rank, W becomes

    W + s (W' - W),   W' = W + alpha / rank * up @ down,

which is a product of Kronecker's or Hadamard's in LyCORIS' variants (arXiv 2309.14859); with DoRA (arXiv 2402.09353),
W' has the lengths of its rows, or columns, replaced.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ip2p.errors import ConfigError, ModelError, one_line
from ip2p.models.backbone import Backbone
from ip2p.models.lora_layouts import Place, name_modules, peft_scale, read_peft_config, says_dora, split_key
from ip2p.models.weight_files import read_weights, require_readable

KINDS = (
    {"down", "up", "mid", "bias"},
    {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},
    {"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"},
    {"diff", "diff_b"},
)
"""Roles that go together: LoRA, LoHa, LoKr, and plain differences."""


class Lora(NamedTuple):
    """A LoRA file and its scale, any finite number."""

    path: Path
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Lora":
        """Parse FILE or FILE:SCALE.

        Raises:
            ConfigError: the scale of a file is not a number.
        """
        path, colon, scale = text.rpartition(":")
        if not path or Path(text).exists():
            return cls(Path(text))
        try:
            number = float(scale)
        except ValueError:
            if not Path(path).is_file():
                return cls(Path(text))
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"the scale {scale!r} of the LoRA {path} is not a number", "Give one, such as 0.8")
        return cls(Path(path), number)


class Change(NamedTuple):
    """What a file says of one module.

    Args:
        place: the module.
        weights: weights by role.
        factor: alpha / rank.
    """

    place: Place
    weights: Mapping[str, Tensor]
    factor: float


def merge_loras(backbone: Backbone, loras: Sequence[Lora], *, allow_pickle: bool = False) -> None:
    """Merge LoRA weights into the UNet and the text encoders, so that inference is as fast as without.

    Args:
        backbone: model to change in place.
        loras: LoRA files with their scales, merged in order.
        allow_pickle: whether to read pickled files too, weights only.

    Raises:
        ModelError: a file is missing, damaged, or has a weight that does not fit the model; nothing of it is merged.
        ConfigError: a scale is not finite.
    """
    for path, scale in loras:
        require_readable(path, allow_pickle=allow_pickle)
        if not math.isfinite(scale):
            raise ConfigError(f"the scale {scale} of the LoRA {path} is not a number", "Give one, such as 0.8")
        changes = _read_changes(backbone, path, read_weights(path, allow_pickle=allow_pickle))
        before = [(change.place.module, change.place.module.weight, change.place.module.bias) for change in changes]
        for change in changes:
            if not _apply(change, scale):
                for module, weight, bias in before:
                    module.weight, module.bias = weight, bias
                raise ModelError(
                    f"the LoRA {path} at scale {scale:g} makes weights that are not finite, such as those of "
                    f"{change.place.name}",
                    "Give a smaller scale, or download the file again",
                )


def _read_changes(backbone: Backbone, path: Path, found: Mapping[str, Any]) -> list[Change]:
    """Find the module of every weight of a file, and check that each fits.

    Raises:
        ModelError: some do not.
    """
    names, config = name_modules(backbone), read_peft_config(path)
    misfits: dict[str, str] = {}
    weights: dict[int, dict[str, Tensor]] = defaultdict(dict)
    keys: dict[int, list[str]] = defaultdict(list)
    places: dict[int, Place] = {}
    for key, value in found.items():
        split = split_key(str(key))
        place = names.get(split[0]) if split else None
        if split is None or place is None or not isinstance(value, Tensor):
            misfits[str(key)] = "no module of the model has this name" if split else "its kind is not known"
            continue
        where = id(place.module)
        if split[1] in weights[where]:
            misfits[str(key)] = "the file has it twice"
        if not value.is_floating_point() and split[1] != "alpha":
            misfits[str(key)] = "it has whole numbers, as quantized files do"
        value = value.float()  # also of 8 bits, which nothing can be computed with
        if not value.isfinite().all():
            misfits[str(key)] = "it is not finite"
        places[where], weights[where][split[1]] = place, value
        keys[where].append(str(key))
    changes = []
    for where, place in places.items():
        try:
            if says_dora(config, place) and not {"magnitude", "dora_scale"} & weights[where].keys():
                raise KeyError("magnitude vector")
            change = Change(place, weights[where], _factor(place, weights[where], config))
            _require_fit(change)
            changes.append(change)
        except KeyError as error:
            misfits |= dict.fromkeys(keys[where], f"the file lacks its {error.args[0]}")
        except (TypeError, ArithmeticError, re.error) as error:
            misfits |= dict.fromkeys(keys[where], f"its factor of alpha / rank is none ({one_line(error, 80)})")
        except (ValueError, RuntimeError, IndexError):
            misfits |= dict.fromkeys(keys[where], f"the module is {tuple(place.module.weight.shape)}")
    if misfits or not changes:
        example, reason = next(iter(misfits.items()), ("none", "the file is empty"))
        raise ModelError(
            f"{len(misfits)} of {len(found)} weights of the LoRA {path} do not fit {backbone.name}, such as {example}: "
            f"{reason}",
            "Give a file that was made for a model of this family",
        )
    return changes


def _factor(place: Place, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> float:
    """The factor alpha / rank of a module; 1 if the file says nothing of alpha, or has matrices without a rank.

    Raises:
        TypeError, ArithmeticError, re.error: alpha or the rank is no usable number.
    """
    ranks = ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b")
    rank = next((weights[role].shape[0] for role in ranks if role in weights), None)
    if rank is None:
        return 1.0
    factor = float(weights["alpha"].item()) / rank if "alpha" in weights else peft_scale(config, place, rank)
    if not math.isfinite(factor):
        raise ArithmeticError(f"it is {factor}")
    return factor


def _require_fit(change: Change) -> None:
    """Check the roles and shapes of a module's weights, by computing without numbers.

    Raises:
        KeyError, ValueError, RuntimeError: a weight is missing, or does not fit the module or another one.
    """
    roles = change.weights.keys() - {"alpha", "dora_scale", "magnitude"}
    if not any(roles <= kind for kind in KINDS):
        raise ValueError("weights of several kinds")
    weights = {role: weight.to("meta") for role, weight in change.weights.items()}
    _decompose(weights, _add(change.place.module.weight.to("meta"), weights, 1.0))
    bias, own = weights.get("bias", weights.get("diff_b")), change.place.module.bias
    if bias is not None and (own is None or bias.shape != own.shape):
        raise ValueError("a bias that the module does not have")


@torch.no_grad()
def _apply(change: Change, scale: float) -> bool:
    """Change the weights of a module, in fp32 for every precision of the model; returns whether they are finite."""
    module, own = change.place.module, change.place.module.weight
    weights = {role: weight.to(own.device, torch.float32) for role, weight in change.weights.items()}
    before = own.float()
    after = _decompose(weights, _add(before, weights, change.factor))
    module.weight = nn.Parameter((before + scale * (after - before)).to(own.dtype), own.requires_grad)
    bias = weights.get("diff_b", change.factor * weights["bias"] if "bias" in weights else None)
    if bias is not None and module.bias is not None:
        module.bias = nn.Parameter((module.bias.float() + scale * bias).to(own.dtype), own.requires_grad)
    return all(bool(each.isfinite().all()) for each in (module.weight, module.bias) if each is not None)


def _add(weight: Tensor, weights: Mapping[str, Tensor], factor: float) -> Tensor:
    """Add what was learned to a weight (out, in) or (out, in, h, w)."""
    if "diff" in weights or "diff_b" in weights:
        change = weights.get("diff", torch.zeros_like(weight))
    elif "hada_w1_a" in weights:
        one, two = (weights[f"hada_w{each}_a"] @ weights[f"hada_w{each}_b"] for each in (1, 2))
        change = one * two
    elif any(role.startswith("lokr") for role in weights):
        change = torch.kron(_kronecker_factor(weights, "lokr_w1"), _kronecker_factor(weights, "lokr_w2"))
    else:
        down, up = weights["down"].flatten(1), weights["up"].flatten(1)
        if "mid" in weights:  # (r, r, h, w) between 1 x 1 convolutions
            change = torch.einsum("oa,abhw,bi->oihw", up, weights["mid"], down)
        else:
            change = up @ down
    if change.shape[0] != weight.shape[0]:
        raise ValueError("other outputs")
    return weight + factor * change.reshape(weight.shape)


def _kronecker_factor(weights: Mapping[str, Tensor], name: str) -> Tensor:
    """A factor of LoKr as a matrix, from its own two factors if it has some."""
    whole = weights.get(name)
    return whole.flatten(1) if whole is not None else weights[f"{name}_a"] @ weights[f"{name}_b"].flatten(1)


def _decompose(weights: Mapping[str, Tensor], changed: Tensor) -> Tensor:
    """Give the rows of a weight the lengths that DoRA learned; where it learned those of columns, the columns.

    peft has one number for each output, in any shape; in other trainers' files the shape of dora_scale, (out, 1) or
    (1, in), says what is measured.
    """
    lengths = weights.get("dora_scale")
    if "magnitude" in weights:
        lengths = weights["magnitude"].reshape(len(changed), *[1] * (changed.ndim - 1))
    if lengths is None:
        return changed
    if lengths.ndim == 1:
        lengths = lengths.reshape(len(changed), *[1] * (changed.ndim - 1))
    measured = [axis for axis, size in enumerate(lengths.shape) if size == 1]
    norm: Tensor = torch.linalg.vector_norm(changed, dim=measured, keepdim=True)
    norm = norm.clamp_min(torch.finfo(torch.float32).tiny)
    if norm.shape != lengths.shape:
        raise ValueError("other lengths")
    return lengths * changed / norm
