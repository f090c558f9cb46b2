"""Load a model for inference: precision, adapters, memory and speed."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import torch

from ip2p.device import choose_precision, compile_unet, parse_device, parse_precision, precision_name
from ip2p.errors import ModelError
from ip2p.models.backbone import Backbone, LoadingOptions, load_backbone
from ip2p.models.decoder import replace_autoencoder, replace_decoder
from ip2p.models.embeddings import add_embeddings
from ip2p.models.lora import Lora, merge_loras
from ip2p.models.offload import offload, require_gpu, tile
from ip2p.models.packed_conv import pack_convolutions
from ip2p.models.weight_files import require_readable
from ip2p.settings import SamplingSettings


class InferenceOptions(LoadingOptions, total=False):
    """Options of `load_for_inference`, besides those of `load_backbone`.

    Args:
        loras: LoRA files with their scales, merged into the weights.
        embeddings: files of textual inversion, whose words are added to the tokenizers.
        vae: folder or hub id of an autoencoder in place of the model's own, such as stabilityai/sd-vae-ft-mse.
        decoder: folder or hub id of a small decoder in place of the model's own, such as madebyollin/taesd.
        cpu_offload: whether to keep the networks in main memory and move them to the GPU one by one.
        vae_tiling: whether to decode large pictures in tiles.
        compiled: whether to compile the UNet, which takes a minute or more and makes every run faster.
    """

    loras: Sequence[Lora]
    embeddings: Sequence[Path]
    vae: str | None
    decoder: str | None
    cpu_offload: bool
    vae_tiling: bool
    compiled: bool


def load_for_inference(
    name: str | Path,
    *,
    want: Literal["base", "editor"],
    device: torch.device | str | None = None,
    precision: str | None = None,
    loras: Sequence[Lora] = (),
    embeddings: Sequence[Path] = (),
    vae: str | None = None,
    decoder: str | None = None,
    cpu_offload: bool = False,
    vae_tiling: bool = False,
    compiled: bool = False,
    **loading: Unpack[LoadingOptions],
) -> Backbone:
    """Load a text-to-image model or an editor for inference; its weights must not change afterwards.

    Args:
        name: bundled name, folder, .safetensors file in the original layout, or hub id.
        want: "base" for a text-to-image model, "editor" for an editor.
        device: device to compute on; the best one if None: cuda, then mps, then cpu.
        precision: fp32, bf16, fp16, or auto, which measures; None is fp16 on an NVIDIA GPU and fp32 elsewhere, so that
            a seed always draws the same picture.
        loras, embeddings, vae, decoder, cpu_offload, vae_tiling, compiled: see InferenceOptions.
        loading: config, weights, allow_pickle and safety_checker, see LoadingOptions.

    Raises:
        ModelError: the model is missing, damaged, or of another kind; or a file does not fit it.
        ConfigError: there is no such device, cpu_offload is set without a GPU, or this machine cannot compile.
    """
    device = parse_device(device)
    precision = precision or ("fp16" if device.type == "cuda" else "fp32")
    dtype = torch.float32 if precision == "auto" else parse_precision(precision, device)
    pickles = loading.get("allow_pickle", False)
    for path in (*(lora.path for lora in loras), *embeddings):
        require_readable(path, allow_pickle=pickles)
    if cpu_offload:
        require_gpu(device)
    place = torch.device("cpu") if cpu_offload else device
    backbone = load_backbone(name, device=place, dtype=dtype, want=want, **loading)
    merge_loras(backbone, loras, allow_pickle=pickles)
    words = add_embeddings(backbone, embeddings, allow_pickle=pickles)
    if backbone.vocabulary:
        backbone.vocabulary = backbone.vocabulary.add(words)
    if vae:
        replace_autoencoder(backbone, vae)
    if decoder:
        replace_decoder(backbone, decoder)
    require_finite_weights(backbone)
    if precision == "auto":
        dtype = choose_precision(lambda: _predict_once(backbone), device=device)
        for module in backbone.modules:
            module.to(dtype)
    if cpu_offload:
        offload(backbone, device)
    if vae_tiling:
        tile(backbone)
    autoencoders = [each for each in (backbone.vae, backbone.decoder) if each is not None]
    for network in (backbone.unet, *autoencoders):
        network.to(memory_format=torch.channels_last)
    if compiled:
        compile_unet(backbone.unet, lambda: _predict_once(backbone))
        backbone.compiled = True
    pack_convolutions(*autoencoders, *(() if compiled else (backbone.unet,)))
    given = loading | {
        "lora": [f"{lora.path}:{lora.scale}" for lora in loras], "embedding": list(map(str, embeddings)),
        "vae": vae, "decoder": decoder, "compiled": compiled, "vae_tiling": vae_tiling,
    }  # fmt: skip
    defaults = {"safety_checker": True}
    backbone.options = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in given.items() if value != defaults.get(name, False) and value not in (None, [])
    }  # fmt: skip
    return backbone


def require_finite_weights(backbone: Backbone) -> None:
    """Check all weights, for attention can hide one that is not a number behind a picture that looks like any other.

    Raises:
        ModelError: a weight is not finite.
    """
    for name, weight in backbone.named_weights():
        if not weight.isfinite().all():
            raise ModelError(f"the weights {name} of {backbone.name} are not finite", "Download the model again")


def record_parameters(backbone: Backbone, settings: SamplingSettings) -> dict[str, Any]:
    """Everything but texts, seed and input that a picture depends on.

    These are the sampling settings, the model with the options that it was loaded with, precision, device and versions.

    Args:
        backbone: model.
        settings: sampling settings of the run, of the model's kind.
    """
    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("ip2p", "torch", "diffusers"))
    return {
        **settings.record(backbone.settings),
        "model": backbone.name, **({"weights": backbone.weights} if backbone.weights else {}), **backbone.options,
        "precision": precision_name(backbone.dtype), "device": backbone.device.type, "versions": ", ".join(versions),
    }  # fmt: skip


def _predict_once(backbone: Backbone) -> None:
    """Make one prediction for three rows of the model's picture size, as in an edit."""
    side = backbone.image_size // backbone.downscale
    x = torch.zeros(3, int(backbone.unet.config.in_channels), side, side, device=backbone.device)
    with torch.inference_mode():
        backbone.predict(x, torch.tensor(500, device=backbone.device), backbone.encode_text(["", "", ""]))
