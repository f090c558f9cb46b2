"""Memory and computing of a run, counted before it begins: `--dry-run`.

Nothing is measured and no GPU is needed: networks without numbers (on the device "meta") run once, and what autograd
keeps for the backward pass is added up.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.loading import quiet
from ip2p.models.widen import widen_conv_in
from ip2p.train.adapters import Lora, choose_trained
from ip2p.train.config import FinetuneConfig
from ip2p.train.learner import trainable
from ip2p.train.prepare import count_steps, open_sets
from ip2p.train.xl import editing_model

GIB = 2**30
WORKSPACE = GIB
"""Memory for CUDA's context, the workspaces of kernels, and fragmentation."""
STATES = {"adamw": 8, "muon": 8, "adamw8bit": 2}
"""Bytes of optimizer state for each trained weight, at most."""
PEAKS = {"H100": 989e12, "A100": 312e12, "RTX 4090": 165e12, "RTX 3090": 71e12}
"""Peak FLOP/s of dense bf16 products accumulated in fp32, from the vendor's data sheets."""
UTILIZATION = 0.25
"""Share of the peak that a training of a UNet at 256 px is taken to reach."""


class Need(NamedTuple):
    """Memory and computation that a run needs.

    Attributes:
        parts: bytes of GPU memory by what they are for.
        flops: floating-point operations for each sample, forward and backward.
    """

    parts: dict[str, int]
    flops: float

    @property
    def bytes(self) -> int:
        """GPU memory in all."""
        return sum(self.parts.values())


def dry_run(config: FinetuneConfig, say: Callable[[str], None] = print) -> None:
    """Tell the settings, the memory and the hours of a run; nothing is written, and nothing is put onto a GPU.

    Args:
        config: settings of the run.
        say: function that prints a line.

    Raises:
        DataError: epochs are given, and a data set is missing or has rows that cannot be used.
        ModelError: the base model is missing, damaged, or of another kind.
    """
    say(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip())
    if config.epochs:
        config = count_steps(config, open_sets(config, say=say)[0], processes=1, say=say)
    need = estimate(load_backbone(config.base), config)
    say(f"\nGPU memory of each process, about {need.bytes / GIB:.1f} GiB:")
    for name, size in need.parts.items():
        say(f"  {size / GIB:6.1f}  {name}")
    samples = config.steps * config.batch * config.accumulation
    work = need.flops * samples
    say(f"\n{samples} samples in {config.steps} steps of each process, {work:.2g} FLOP without the autoencoder:")
    for name, peak in PEAKS.items():
        say(f"  {work / (peak * UTILIZATION) / 3600:6.1f} hours on an {name} at {UTILIZATION:.0%} of its peak in bf16")


def estimate(backbone: Backbone, config: FinetuneConfig) -> Need:
    """Count the memory and the operations of a run.

    Args:
        backbone: base model; it is not changed.
        config: settings of the run; precision=auto is counted as bf16.
    """
    low = config.precision != "fp32"
    shadow = _without_numbers(backbone)
    widened = not shadow.is_editor
    if widened:
        widen_conv_in(shadow.unet)
    networks = choose_trained(
        shadow, train_text_encoder=config.train_text_encoder, blocks=config.blocks, lora=_lora(config), widened=widened
    )
    trained = sum(parameter.numel() for each in networks.values() for parameter in trainable(each).values())
    models = [shadow.unet, shadow.text_encoder, shadow.text_encoder_2]
    weights = sum(parameter.numel() for each in models if each is not None for parameter in each.parameters())
    side = config.size or backbone.image_size
    kept, forward = _one_sample(
        shadow, side // backbone.downscale, low=low, checkpointing=config.gradient_checkpointing
    )
    if config.gradient_checkpointing:  # the backward pass computes one block at a time, of which none keeps an eighth
        kept += _one_sample(shadow, side // backbone.downscale, low=low, checkpointing=False)[0] // 8
    rows = config.batch * (2 if config.dpo_beta else 1)
    autoencoder = sum(parameter.numel() for parameter in backbone.vae.parameters())
    pictures = 0 if config.cache_latents else _encoding_bytes(backbone, rows, side)
    parts = {
        "weights of UNet and text encoders, fp32": 4 * weights,
        "their copies in low precision": 2 * weights if low else 0,
        "gradients": 4 * trained,
        f"optimizer {config.optimizer}": STATES.get(config.optimizer, 8) * trained,
        "averages": 0 if config.ema_device == "cpu" else 4 * trained,
        "the frozen reference": 4 * weights if config.dpo_beta else 0,
        "autoencoder, fp32": 4 * autoencoder,
        f"activations of {rows} samples": max(kept * rows, pictures),
        "workspace": WORKSPACE,
    }
    passes = 4 if config.gradient_checkpointing else 3  # a backward pass is two forward passes
    return Need({name: size for name, size in parts.items() if size}, forward * passes * rows / config.batch)


def training_flops(backbone: Backbone, config: FinetuneConfig, *, encodes: bool) -> float:
    """Count the floating-point operations that a sample takes in training: forward, backward, and its pictures.

    Activations that are computed again do not count, nor does a frozen text encoder whose embeddings are kept.

    Args:
        backbone: model that is trained, as it is or not yet widened.
        config: settings of the run.
        encodes: whether pictures are encoded in each step.
    """
    shadow = _without_numbers(backbone)
    widened = not shadow.is_editor
    if widened:
        widen_conv_in(shadow.unet)
    choose_trained(
        shadow, train_text_encoder=config.train_text_encoder, blocks=config.blocks, lora=_lora(config), widened=widened
    )
    side = config.size or backbone.image_size
    latents = torch.zeros(1, backbone.latent_channels, *(2 * [side // backbone.downscale]), device="meta")
    text = torch.zeros(1, _tokens(backbone), dtype=torch.long, device="meta")
    if not (config.train_text_encoder or backbone.is_xl):
        text = torch.zeros(*text.shape, int(shadow.unet.config.cross_attention_dim), device="meta")
    model = editing_model(shadow)
    counter, fused = FlopCounterMode(display=False), _FusedAttention()
    with counter, fused:
        out = model(latents, torch.zeros(1, dtype=torch.long, device="meta"), latents, text)
        forward = counter.get_total_flops() + fused.flops
        out.sum().backward()
        if encodes:
            with torch.device("meta"), torch.no_grad(), quiet():
                vae = type(backbone.vae).from_config(backbone.vae.config)
                vae.encode(torch.zeros(2, 3, side, side))
    total = float(counter.get_total_flops() + fused.flops)
    return 2 * (total + forward) if config.dpo_beta else total  # both edits, and the frozen reference on both


def _lora(config: FinetuneConfig) -> Lora | None:
    """Return the LoRA matrices of a run; None if it trains the weights themselves."""
    if not config.lora_rank:
        return None
    return Lora(config.lora_rank, config.lora_alpha or config.lora_rank, config.lora_modules)


def _without_numbers(backbone: Backbone) -> Backbone:
    """Return a copy of a model whose UNet and text encoders have shapes and no numbers."""
    with torch.device("meta"):
        found: dict[str, Any] = {"unet": type(backbone.unet).from_config(backbone.unet.config)}
        for name in ("text_encoder", "text_encoder_2"):
            own = getattr(backbone, name)
            found[name] = None if own is None else type(own)(own.config)
    return dataclasses.replace(backbone, **found)


def _one_sample(backbone: Backbone, side: int, *, low: bool, checkpointing: bool) -> tuple[int, float]:
    """Return the bytes that one sample keeps for the backward pass, and the operations of its forward pass.

    Args:
        backbone: model without numbers.
        side: side of the latents.
        low: whether products are computed in 16 bits.
        checkpointing: whether the blocks of the UNet keep their inputs only.
    """
    unet = backbone.unet.train()
    (unet.enable_gradient_checkpointing if checkpointing else unet.disable_gradient_checkpointing)()
    model = editing_model(backbone)
    channels = backbone.latent_channels
    tokens = torch.zeros(1, _tokens(backbone), dtype=torch.long, device="meta")
    latents = torch.zeros(1, channels, side, side, device="meta")
    weights: set[int] = set()
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = tensor
        return tensor

    counter, fused = FlopCounterMode(display=False), _FusedAttention()
    with _mixed_precision(model, low), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # Not before: weights in 16 bits have other storages than those in fp32.
        weights.update(each.untyped_storage()._cdata for each in model.parameters())
        with counter, fused:
            model(latents, torch.zeros(1, dtype=torch.long, device="meta"), latents, tokens)
    return sum(each.untyped_storage().nbytes() for each in kept.values()), counter.get_total_flops() + fused.flops


def _tokens(backbone: Backbone) -> int:
    encoders = (backbone.text_encoder, backbone.text_encoder_2)
    return sum(int(each.config.max_position_embeddings) for each in encoders if each is not None)


class _FusedAttention(TorchFunctionMode):
    """Takes attention for what a fused kernel does: it keeps queries, keys, values and its output, and no map."""

    flops = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = (*args, *(kwargs or {}).values())[:3] if len(args) < 3 else args[:3]
        self.flops += 4.0 * query.numel() * key.shape[-2]
        return _Attention.apply(query, key, value, self)  # type: ignore[no-untyped-call]


class _Attention(torch.autograd.Function):
    """Attention without numbers."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, counter: _FusedAttention) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out)
        ctx.counter = counter
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Count the four products of a backward pass; a kernel that computes the map again does more."""
        query, key, value, _ = ctx.saved_tensors
        ctx.counter.flops += 8.0 * query.numel() * key.shape[-2]
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


@contextmanager
def _mixed_precision(model: nn.Module, low: bool) -> Iterator[None]:
    """Let products run in bf16 and norms in fp32, as autocast does, which does not know the device "meta"."""
    hooks = []
    for module in model.modules() if low else ():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(torch.bfloat16)
            hooks.append(module.register_forward_pre_hook(_cast(torch.bfloat16)))
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            hooks.append(module.register_forward_pre_hook(_cast(torch.float32)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _cast(dtype: torch.dtype) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda _, inputs: tuple(each.to(dtype) for each in inputs)


def _encoding_bytes(backbone: Backbone, pairs: int, side: int) -> int:
    """Return the bytes of the feature maps while both pictures of pairs are encoded: three of the first level's."""
    config = backbone.vae.config
    channels = (config.get("block_out_channels") or config.get("encoder_block_out_channels"))[0]
    return 3 * 4 * 2 * pairs * int(channels) * side**2
