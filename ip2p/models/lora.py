"""LoRA files, merged into the weights of a model: all of a file, exactly as it says, or none.

With W a weight, s the scale that the user gives, and a module's own factor of alpha / rank, W becomes

    W + s (W' - W),   W' = W + alpha / rank * up @ down,

which is a product of Kronecker's or Hadamard's in LyCORIS' variants (arXiv 2309.14859); with DoRA (arXiv 2402.09353),
W' has the lengths of its rows, or columns, replaced.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ip2p.errors import ConfigError, ModelError
from ip2p.models.backbone import Backbone
from ip2p.models.lora_layouts import Place, name_modules, peft_option, peft_scale, read_peft_config, split_key
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
    """Weights of one module in a file.

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
        ModelError: a file is missing, damaged, has a weight that does not fit the model, or makes one of the model's
            weights infinite; nothing of it is merged.
        ConfigError: a scale is not finite.
    """
    for path, scale in loras:
        require_readable(path, allow_pickle=allow_pickle)
        if not math.isfinite(scale):
            raise ConfigError(f"the scale {scale} of the LoRA {path} is not a number", "Give one, such as 0.8")
        changes = _read_changes(backbone, path, read_weights(path, allow_pickle=allow_pickle))
        merged = [_merge(change, scale) for change in changes]
        broken = [
            change.place
            for change, new in zip(changes, merged, strict=True)
            if not _is_finite(new) and _is_finite((change.place.module.weight, change.place.module.bias))
        ]
        if broken:
            raise ModelError(
                f"the LoRA {path} at scale {scale:g} makes the weights of {len(broken)} of {len(changes)} modules of "
                f"{backbone.name} infinite, such as {broken[0].network}.{broken[0].name}",
                "Give a scale nearer to 0, or another file",
            )
        for change, new in zip(changes, merged, strict=True):
            _replace(change.place.module, *new)


def _read_changes(backbone: Backbone, path: Path, found: Mapping[str, Any]) -> list[Change]:
    """Find the module of every weight of a file, and check that each fits.

    Raises:
        ModelError: some do not.
    """
    names, config = name_modules(backbone), read_peft_config(path, map(str, found))
    misfits: dict[str, str] = {}
    weights: dict[int, dict[str, Tensor]] = defaultdict(dict)
    keys: dict[int, list[str]] = defaultdict(list)
    places: dict[int, Place] = {}
    for key, value in found.items():
        split = split_key(str(key))
        place = names.get(split[0]) if split else None
        if split is None or place is None:
            misfits[str(key)] = "no module of the model has this name" if split else "its kind is not known"
            continue
        where, role = id(place.module), split[1]
        fault = "the file has it twice" if role in weights[where] else _find_fault(role, value)
        if fault:
            misfits[str(key)] = fault
        places[where], weights[where][role] = place, value
        keys[where].append(str(key))
    changes = []
    for where, place in places.items():
        if not misfits.keys().isdisjoint(keys[where]):
            continue
        try:
            change = Change(place, weights[where], _factor(place, weights[where], config))
            _require_fit(change)
            if peft_option(config, place, "use_dora") and not weights[where].keys() & {"magnitude", "dora_scale"}:
                raise KeyError("magnitude, though its config says use_dora")
            changes.append(change)
        except KeyError as error:
            misfits |= dict.fromkeys(keys[where], f"the file lacks its {error.args[0]}")
        except (ValueError, RuntimeError, IndexError):
            misfits |= dict.fromkeys(keys[where], f"the module is {tuple(place.module.weight.shape)}")
    if misfits or not changes:
        example, reason = min(misfits.items(), default=("none", "the file is empty"))
        raise ModelError(
            f"{len(misfits)} of {len(found)} weights of the LoRA {path} do not fit {backbone.name}, such as "
            f"{example}: {reason}",
            "Give an undamaged file that was made for a model of this family",
        )
    return changes


def _find_fault(role: str, value: Any) -> str | None:
    """Describe the fault of a weight of a file, whatever its module is; None if it has none."""
    if not isinstance(value, Tensor):
        return f"it is a {type(value).__name__}, not a tensor"
    whole = role == "alpha" and value.dtype in (torch.int16, torch.int32, torch.int64, torch.uint8, torch.int8)
    if not (value.is_floating_point() or whole):
        return f"it has numbers of {value.dtype}, not of floating point"
    if not value.numel():
        return f"it is empty, of shape {tuple(value.shape)}"
    if role == "alpha" and value.numel() > 1:
        return f"it is not one number, but of shape {tuple(value.shape)}"
    try:  # in fp32, in which it is merged: float8 has no test, and numbers of fp64 may be too large
        return None if value.to(torch.float32).isfinite().all() else "it is not finite"
    except RuntimeError:
        return f"its numbers, {value.layout} of {value.dtype}, are not readable"


def _factor(place: Place, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> float:
    """The factor alpha / rank of a module; 1 if the file says nothing of alpha, or nothing of a rank."""
    ranks = ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b")
    rank = next((weights[role].shape[0] for role in ranks if role in weights), None)
    if "alpha" in weights:
        return 1.0 if rank is None else float(weights["alpha"].item()) / rank
    if "diff" in weights or "diff_b" in weights:
        return 1.0
    return peft_scale(config, place, rank)


def _require_fit(change: Change) -> None:
    """Check the roles and shapes of a module's weights, by computing without numbers.

    Raises:
        KeyError, ValueError, RuntimeError: a weight is missing, or does not fit the module or another one.
    """
    roles = change.weights.keys() - {"alpha", "dora_scale", "magnitude"}
    if not any(roles <= kind for kind in KINDS):
        raise ValueError("weights of several kinds")
    weights = {
        role: torch.empty_like(weight, dtype=torch.float32, device="meta") for role, weight in change.weights.items()
    }
    _decompose(weights, _add(change.place.module.weight.to("meta"), weights, 1.0))
    bias, own = weights.get("bias", weights.get("diff_b")), change.place.module.bias
    if bias is not None and (own is None or bias.shape != own.shape):
        raise ValueError("a bias that the module does not have")


@torch.no_grad()
def _merge(change: Change, scale: float) -> tuple[Tensor, Tensor | None]:
    """Compute the new weight and bias of a module, in fp32 for every precision of the model."""
    own, bias = change.place.module.weight, change.place.module.bias
    weights = {role: weight.to(own.device, torch.float32) for role, weight in change.weights.items()}
    before = own.float()
    after = _decompose(weights, _add(before, weights, change.factor))
    added = weights.get("diff_b", change.factor * weights["bias"] if "bias" in weights else None)
    if bias is not None and added is not None:
        bias = (bias.float() + scale * added).to(bias.dtype)
    return (before + scale * (after - before)).to(own.dtype), bias


def _is_finite(tensors: Iterable[Tensor | None]) -> bool:
    """Whether all numbers of all tensors are finite."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors if tensor is not None)


def _replace(module: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
    """Give a module other numbers."""
    module.weight = nn.Parameter(weight, module.weight.requires_grad)
    if bias is not None and module.bias is not None:
        module.bias = nn.Parameter(bias, module.bias.requires_grad)


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
