"""Convert the state dicts of a diffusers model to the key names of a checkpoint in the original (LDM) layout.

diffusers converts from the original layout; this is the inverse. The original numbers the blocks of a UNet in the order
in which they run, diffusers by level. Names of single layers come from diffusers' own tables. Every result is converted
back with diffusers' converters and compared.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    DIFFUSERS_TO_LDM_MAPPING,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor

from ip2p.errors import ModelError

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CONV_IN = f"{UNET}input_blocks.0.0.weight"
FIRST_XL, SECOND_XL = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.text_model.", "cond_stage_model.model."
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
OPEN_CLIP_REST = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}

LDM_TABLES: Any = DIFFUSERS_TO_LDM_MAPPING
"""Tables from diffusers' names of single layers to the original ones, by component."""


def to_original(components: Mapping[str, Any]) -> dict[str, Tensor]:
    """Convert all weights of a model to their original key names.

    Args:
        components: components vae, text_encoder and unet, and for SDXL text_encoder_2.

    Raises:
        ModelError: the original layout has no place for a weight.
    """
    vae = type(components["vae"]).__name__
    if vae != "AutoencoderKL":
        raise ModelError(
            f"the model's autoencoder is an {vae}, and the original layout has a place for AutoencoderKL only",
            "Keep this model as a folder",
        )
    found = original_unet(components["unet"]) | original_vae(components["vae"])
    first, second = components["text_encoder"], components.get("text_encoder_2")
    if second is not None:
        return found | _add_prefix(_clip_weights(first), FIRST_XL) | original_open_clip(second, SECOND_XL)
    if first.config.hidden_act == "gelu":  # OpenCLIP's activation; OpenAI's CLIP has quick_gelu
        return found | original_open_clip(first, OPEN_CLIP)
    return found | _add_prefix(_clip_weights(first), CLIP)


def unet_names(unet: Any) -> dict[str, str]:
    """Original names of the weights of a UNet2DConditionModel, by diffusers' names."""
    places, tables = dict(_unet_places(unet)), LDM_TABLES["unet"]
    single = dict(tables["layers"])
    if unet.config.addition_embed_type == "text_time":
        single |= tables["addition_embed_type"]
    found = {}
    for name in unet.state_dict():
        module, inner = _split(name, places)
        if module and ".resnets." in f".{module}.":
            inner = _replace_start(inner, RESNET)
        found[name] = f"{places[module]}.{inner}" if module else single.get(name, name)
    return found


def original_unet(unet: Any) -> dict[str, Tensor]:
    """Convert the weights of a UNet2DConditionModel to their original key names.

    Raises:
        ModelError: it has blocks that the original layout does not know.
    """
    weights = unet.state_dict()
    found = {UNET + original: weights[name] for name, original in unet_names(unet).items()}
    return _check_round_trip(found, weights, convert_ldm_unet_checkpoint(dict(found), unet.config), "UNet")


def original_vae(vae: Any) -> dict[str, Tensor]:
    """Convert the weights of an AutoencoderKL; projections of its attention become 1 x 1 convolutions.

    Raises:
        ModelError: it has blocks that the original layout does not know.
    """
    places, weights, single = dict(_vae_places(vae)), vae.state_dict(), LDM_TABLES["vae"]
    found = {}
    for name, value in weights.items():
        module, inner = _split(name, places)
        if ".attentions." in f".{module}.":
            inner = _replace_start(inner, VAE_ATTENTION)
            value = value[:, :, None, None] if value.ndim == 2 else value
        inner = inner.replace("conv_shortcut", "nin_shortcut")
        found[VAE + (f"{places[module]}.{inner}" if module else single.get(name, name))] = value
    return _check_round_trip(found, weights, convert_ldm_vae_checkpoint(dict(found), vae.config), "autoencoder")


def original_open_clip(text_encoder: Any, prefix: str) -> dict[str, Tensor]:
    """Convert the weights of a CLIP text encoder to OpenCLIP's key names, with q, k and v in one matrix.

    Raises:
        ModelError: OpenCLIP has no place for a weight.
    """
    weights = _clip_weights(text_encoder)
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name)
        if not layer:
            projection = name == "text_projection.weight"
            found[prefix + ("text_projection" if projection else OPEN_CLIP_REST[name])] = (
                value.T if projection else value
            )
        elif re.search(r"self_attn\.q_proj\.", name):
            three = [weights[name.replace("q_proj", f"{each}_proj")] for each in "qkv"]
            kind = name.rpartition(".")[2]
            found[f"{prefix}transformer.resblocks.{layer[1]}.attn.in_proj_{kind}"] = torch.cat(three)
        elif not re.search(r"self_attn\.[kv]_proj\.", name):
            found[f"{prefix}transformer.resblocks.{layer[1]}.{_replace_start(layer[2], OPEN_CLIP_LAYER)}"] = value
    back = convert_open_clip_checkpoint(text_encoder, dict(found), prefix)
    return _check_round_trip(
        found, weights, {name.removeprefix("text_model."): back[name] for name in back}, "text encoder"
    )


def _unet_places(unet: Any) -> Iterator[tuple[str, str]]:
    """Pairs of diffusers' and original module names of a UNet; each level ends with a down- or upsampling block."""
    row = unet.config.layers_per_block + 1
    for level, block in enumerate(unet.down_blocks):
        for layer in range(len(block.resnets)):
            at = 1 + level * row + layer
            yield f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{at}.0"
            yield f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{at}.1"
        yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{(level + 1) * row}.0.op"
    for name, at in (("resnets.0", 0), ("attentions.0", 1), ("resnets.1", 2)):
        yield f"mid_block.{name}", f"middle_block.{at}"
    for level, block in enumerate(unet.up_blocks):
        for layer in range(len(block.resnets)):
            at = level * row + layer
            yield f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{at}.0"
            yield f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{at}.1"
        behind = 2 if getattr(block, "attentions", None) else 1
        yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{level * row + row - 1}.{behind}.conv"


def _vae_places(vae: Any) -> Iterator[tuple[str, str]]:
    """Pairs of module names of an autoencoder; the original numbers decoder levels from the highest resolution down."""
    for half in ("encoder", "decoder"):
        for name, at in (("resnets.0", "block_1"), ("attentions.0", "attn_1"), ("resnets.1", "block_2")):
            yield f"{half}.mid_block.{name}", f"{half}.mid.{at}"
    levels = len(vae.config.block_out_channels)
    for level in range(levels):
        for layer in range(vae.config.layers_per_block + 1):
            yield f"encoder.down_blocks.{level}.resnets.{layer}", f"encoder.down.{level}.block.{layer}"
            yield f"decoder.up_blocks.{level}.resnets.{layer}", f"decoder.up.{levels - 1 - level}.block.{layer}"
        yield f"encoder.down_blocks.{level}.downsamplers.0.conv", f"encoder.down.{level}.downsample.conv"
        yield f"decoder.up_blocks.{level}.upsamplers.0.conv", f"decoder.up.{levels - 1 - level}.upsample.conv"


def _split(name: str, places: Mapping[str, str]) -> tuple[str, str]:
    """Split a key into the name of a module in `places` and the rest; the module is empty if there is none."""
    words = name.split(".")
    for count in range(len(words) - 1, 0, -1):
        if ".".join(words[:count]) in places:
            return ".".join(words[:count]), ".".join(words[count:])
    return "", name


def _replace_start(name: str, table: Mapping[str, str]) -> str:
    """Replace the beginning of a name by the table, if it is there."""
    for ours, original in table.items():
        if name.startswith(f"{ours}."):
            return original + name.removeprefix(ours)
    return name


def _clip_weights(text_encoder: Any) -> dict[str, Tensor]:
    """Weights of a CLIP text encoder without the prefix text_model, which only some versions have."""
    return {name.removeprefix("text_model."): value for name, value in text_encoder.state_dict().items()}


def _add_prefix(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def _check_round_trip(
    found: dict[str, Tensor], weights: Mapping[str, Tensor], back: Mapping[str, Tensor], what: str
) -> dict[str, Tensor]:
    """Return converted weights if diffusers converts them back to the same ones.

    Raises:
        ModelError: a weight is lost or differs.
    """
    lost = sorted(name for name, value in weights.items() if name not in back or not _is_same(back[name], value))
    if lost:
        raise ModelError(
            f"the original layout has no place for {len(lost)} weights of the model's {what}, such as {lost[0]}",
            "Keep this model as a folder",
        )
    return found


def _is_same(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors are equal; a shared memory address is checked first."""
    return one.shape == two.shape and (one.data_ptr() == two.data_ptr() or torch.equal(one, two))
