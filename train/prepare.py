"""The base model of a run, widened, and what of it is trained."""

import torch
from torch import nn

from ip2p.errors import ModelError
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.widen import suit_attention, widen_conv_in
from ip2p.train.config import FinetuneConfig
from ip2p.train.learner import Learner
from ip2p.train.noise_schedule import suit_scheduler
from ip2p.train.objective import EditingModel
from ip2p.train.optimizer import build_optimizer


def prepare(config: FinetuneConfig, device: torch.device) -> tuple[Backbone, EditingModel, Learner]:
    """Load the base model, widen its first convolution unless it is an editor, and set up what is trained.

    Args:
        config: settings of the run.
        device: device to train on.

    Raises:
        ModelError: the base model is missing, damaged, or of another kind.
    """
    backbone = load_backbone(config.base, device=device, dtype=torch.float32)
    if backbone.is_xl:
        raise ModelError(
            f"{config.base} has SDXL's two text encoders, and training knows one",
            "Give a base of Stable Diffusion 1 or 2",
        )
    if not backbone.is_editor:
        widen_conv_in(backbone.unet)
    backbone.vae.requires_grad_(False)
    backbone.text_encoder.requires_grad_(config.train_text_encoder)
    backbone.unet.requires_grad_(True)
    suit_attention(backbone.unet, device)
    if config.gradient_checkpointing:
        backbone.unet.enable_gradient_checkpointing()
        if config.train_text_encoder:
            backbone.text_encoder.gradient_checkpointing_enable()
    if device.type == "cuda":  # convolutions on tensor cores want channels last
        for network in (backbone.unet, backbone.vae):
            network.to(memory_format=torch.channels_last)
    backbone.scheduler = suit_scheduler(
        backbone.scheduler, prediction_type=config.prediction_type, zero_terminal_snr=config.zero_terminal_snr
    )
    modules: dict[str, nn.Module] = {"unet": backbone.unet}
    if config.train_text_encoder:
        modules["text_encoder"] = backbone.text_encoder
    optimizer = build_optimizer(
        modules, name=config.optimizer, learning_rate=config.learning_rate, weight_decay=config.weight_decay
    )
    ema_device = torch.device("cpu") if config.ema_device == "cpu" else None
    learner = Learner.create(modules, optimizer, ema_decay=config.ema_decay, ema_device=ema_device)
    return backbone, EditingModel(backbone.unet, backbone.text_encoder), learner
