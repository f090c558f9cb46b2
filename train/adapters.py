"""Trained weights: all weights of the UNet, those of named blocks, or LoRA matrices (Hu et al., arXiv 2106.09685).

With LoRA of rank r, a frozen weight W is used as W + alpha / r * up @ down, where up starts as zero. A UNet that was
widened for this run learns its first convolution besides, in full, for its new channels begin at zero.
"""

import copy
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from ip2p.errors import ConfigError
from ip2p.models.backbone import Backbone
from ip2p.seeding import derive_seed
from ip2p.shards import atomic_dir

ADAPTER = "default"
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
KOHYA_NAMES = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}
DIFFUSERS_FILE, KOHYA_FILE = "pytorch_lora_weights.safetensors", "kohya.safetensors"


class Lora(NamedTuple):
    """Settings of LoRA.

    Attributes:
        rank: rank r of the matrices.
        alpha: alpha; their product is scaled by alpha / r.
        modules: ends of the names of the linear layers and convolutions that get some, such as to_q.
    """

    rank: int
    alpha: float
    modules: Sequence[str]


def choose_trained(
    backbone: Backbone,
    *,
    train_text_encoder: bool,
    blocks: Sequence[str] = (),
    lora: Lora | None = None,
    widened: bool = False,
    seed: int = 0,
) -> dict[str, nn.Module]:
    """Let gradients reach what is trained and nothing else; returns the networks that have some of it, by name.

    Args:
        backbone: model; its networks get LoRA layers if asked.
        train_text_encoder: whether the text encoders are trained besides the UNet.
        blocks: parts of the names of the UNet's modules that are trained, such as up_blocks.1 or attn2; all if empty.
        lora: settings of LoRA; None trains the weights themselves.
        widened: whether the first convolution of the UNet is new, and is trained whatever is named.
        seed: seed of the run, from which LoRA's matrices are drawn.

    Raises:
        ConfigError: a name fits no module.
    """
    names = ["unet", *(each for each in TEXT_ENCODERS if train_text_encoder and getattr(backbone, each) is not None)]
    for part in (backbone.vae, *(getattr(backbone, each) for each in ("unet", *TEXT_ENCODERS))):
        if part is not None:
            part.requires_grad_(False)
    for block in blocks:
        if not any(block in name for name, _ in backbone.unet.named_parameters()):
            children = ", ".join(name for name, _ in backbone.unet.named_children())
            raise ConfigError(
                f"no module of the UNet has {block!r} in its name", f"Give others as blocks; it has {children}"
            )
    networks: dict[str, nn.Module] = {name: getattr(backbone, name) for name in names}
    for name, network in networks.items():
        within = tuple(blocks) if name == "unet" else ()
        if lora is not None:
            _add_lora(network, name, lora, within, seed)
            continue
        for path, parameter in network.named_parameters():
            parameter.requires_grad_(not within or any(block in path for block in within))
    if widened:
        backbone.unet.conv_in.requires_grad_(True)
    if backbone.is_xl:  # which reads the hidden states before these, so that no gradient would reach them
        text = getattr(backbone.text_encoder, "text_model", backbone.text_encoder)
        text.encoder.layers[-1].requires_grad_(False)
        text.final_layer_norm.requires_grad_(False)
    return networks


def _add_lora(network: nn.Module, name: str, lora: Lora, within: Sequence[str], seed: int) -> None:
    """Put LoRA layers around modules of a network, the same on all ranks."""
    found = [
        path
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and any(path == end or path.endswith(f".{end}") for end in lora.modules)
        and (not within or any(block in path for block in within))
    ]
    if not found:
        raise ConfigError(
            f"no layer of the {name} ends with {', '.join(lora.modules)}" + (f" in {', '.join(within)}" * bool(within)),
            "Give others as lora_modules or blocks",
        )
    alpha: Any = lora.alpha  # peft's type says int, and its code divides by the rank
    settings = LoraConfig(r=lora.rank, lora_alpha=alpha, target_modules=found, init_lora_weights=True, lora_dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "lora", name))
        inject_adapter_in_model(settings, network, adapter_name=ADAPTER)


def has_lora(backbone: Backbone) -> bool:
    """Return whether some network has LoRA layers."""
    return any(True for _ in _lora_layers(backbone))


def without_lora(backbone: Backbone) -> Backbone:
    """Return a model with the products of its LoRA matrices added to its weights, and the model itself without LoRA."""
    if not has_lora(backbone):
        return backbone
    changed = {}
    for name in ("unet", *TEXT_ENCODERS):
        network = getattr(backbone, name)
        if network is None or not any(isinstance(module, LoraLayer) for module in network.modules()):
            continue
        network = copy.deepcopy(network)
        for path, layer in [each for each in network.named_modules() if isinstance(each[1], LoraLayer)]:
            layer.merge()
            parent, _, last = path.rpartition(".")
            setattr(network.get_submodule(parent), last, layer.get_base_layer())
        del network.peft_config
        changed[name] = network
    return dataclasses.replace(backbone, **changed)


def save_lora(backbone: Backbone, folder: Path) -> None:
    """Write the LoRA matrices of a model in two layouts, atomically.

    `pytorch_lora_weights.safetensors` has diffusers' names, with alphas in its header; `kohya.safetensors` has those of
    kohya's sd-scripts, with an alpha beside every pair of matrices, which ComfyUI and the web UIs read, too.

    Args:
        backbone: model with LoRA layers.
        folder: folder to write; replaced if it exists.
    """
    diffusers: dict[str, Tensor] = {}
    kohya: dict[str, Tensor] = {}
    header: dict[str, float | int | list[str]] = {}
    layer: Any
    for network, path, layer in _lora_layers(backbone):
        down, up = (
            matrices[ADAPTER].weight.detach().float().cpu().contiguous() for matrices in (layer.lora_A, layer.lora_B)
        )
        alpha, rank = float(layer.lora_alpha[ADAPTER]), int(layer.r[ADAPTER])
        diffusers |= {f"{network}.{path}.lora_A.weight": down, f"{network}.{path}.lora_B.weight": up}
        header |= {f"{network}.lora_alpha": alpha, f"{network}.r": rank}
        targets = header.setdefault(f"{network}.target_modules", [])
        assert isinstance(targets, list)
        targets.append(path)
        own = path if network == "unet" or path.startswith("text_model.") else f"text_model.{path}"
        prefix = "lora_te1" if backbone.is_xl and network == "text_encoder" else KOHYA_NAMES[network]
        key = f"{prefix}_{own.replace('.', '_')}"
        kohya |= {f"{key}.lora_down.weight": down.clone(), f"{key}.lora_up.weight": up.clone()}
        kohya[f"{key}.alpha"] = torch.tensor(alpha)
        rank_text, alpha_text = str(rank), f"{alpha:g}"
    with atomic_dir(folder) as work:
        said = {"format": "pt", "lora_adapter_metadata": json.dumps(header, sort_keys=True)}
        save_file(diffusers, work / DIFFUSERS_FILE, metadata=said)
        notes = {"ss_network_module": "networks.lora", "ss_network_dim": rank_text, "ss_network_alpha": alpha_text}
        save_file(kohya, work / KOHYA_FILE, metadata=notes)


def _lora_layers(backbone: Backbone) -> Iterator[tuple[str, str, LoraLayer]]:
    """Yield all LoRA layers, with the names of their networks and modules."""
    for name in ("unet", *TEXT_ENCODERS):
        network = getattr(backbone, name)
        for path, module in network.named_modules() if isinstance(network, nn.Module) else ():
            if isinstance(module, LoraLayer):
                yield name, path, module
