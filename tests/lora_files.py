"""LoRA files that tests write, with what the weights of the model have to be after them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ip2p.models.backbone import Backbone

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
QUERY, OUT, FORWARD = f"{BLOCK}.attn1.to_q", f"{BLOCK}.attn1.to_out.0", f"{BLOCK}.ff.net.0.proj"
CONV, SECOND = "down_blocks.0.resnets.0.conv1", "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
MLP = "text_model.encoder.layers.0.mlp.fc1"
SD, XL = "sd_editor_folder", "xl_editor_folder"


class ByHand:
    """A LoRA file that is being written, and what the model's weights have to be after it."""

    def __init__(self, backbone: Backbone, path: Path) -> None:
        self.backbone, self.path = backbone, path
        self.keys: dict[str, Tensor] = {}
        self.header: dict[str, str] = {}
        self.expected: dict[tuple[str, str], tuple[Tensor, Tensor | None]] = {}

    def module(self, network: str, name: str) -> Any:
        part = getattr(self.backbone, network)
        with_prefix = hasattr(part, "text_model") or not name.startswith("text_model.")
        return part.get_submodule(name if with_prefix else name.removeprefix("text_model."))

    def change(
        self, name: str, changed: Callable[[Tensor], Tensor], network: str = "unet", bias: Tensor | None = None
    ) -> None:
        """Say what a weight has to be."""
        module = self.module(network, name)
        self.expected[network, name] = changed(module.weight), None if bias is None else module.bias + bias

    def matrices(self, name: str, rank: int = 2, network: str = "unet") -> tuple[Tensor, Tensor]:
        """Random matrices (rank, in) and (out, rank) of a module, or convolutions."""
        shape = self.module(network, name).weight.shape
        rest = [1] * (len(shape) - 2)
        return torch.randn(rank, *shape[1:]), torch.randn(shape[0], rank, *rest)

    def add(self, name: str, keys: tuple[str, str], factor: float, rank: int = 2, network: str = "unet") -> None:
        """A pair of matrices under two keys, and their product times a factor."""
        down, up = self.matrices(name, rank, network)
        self.keys |= dict(zip(keys, (down, up), strict=True))
        self.change(name, lambda w: w + factor * (up.flatten(1) @ down.flatten(1)).reshape(w.shape), network)

    def kohya(self, key: str, name: str, alpha: float | None, rank: int = 2, network: str = "unet") -> None:
        """A pair of matrices with kohya's names, and an alpha."""
        factor = 1.0 if alpha is None else alpha / rank
        self.add(name, (f"{key}.lora_down.weight", f"{key}.lora_up.weight"), factor, rank, network)
        self.keys |= {} if alpha is None else {f"{key}.alpha": torch.tensor(alpha)}


def flat(name: str) -> str:
    return name.replace(".", "_")


def kohya_sd(file: ByHand) -> None:
    """Alphas and ranks that differ from module to module, and one module without an alpha."""
    file.kohya(f"lora_unet_{flat(QUERY)}", QUERY, 1.0)
    file.kohya(f"lora_unet_{flat(OUT)}", OUT, 8.0, rank=4)
    file.kohya(f"lora_unet_{flat(FORWARD)}", FORWARD, 0.5, rank=1)
    file.kohya(f"lora_unet_{flat(SECOND)}", SECOND, None)
    file.kohya(f"lora_te_{flat(TEXT)}", TEXT, 3.0, network="text_encoder")
    file.kohya(f"lora_te_{flat(MLP)}", MLP, 1.0, network="text_encoder")


def kohya_sdxl(file: ByHand) -> None:
    """The names of the original checkpoint, where blocks are numbered as they run."""
    file.kohya(
        "lora_unet_input_blocks_3_1_transformer_blocks_1_attn1_to_q", QUERY.replace("blocks.0.a", "blocks.1.a"), 1.0
    )
    file.kohya("lora_unet_middle_block_1_transformer_blocks_0_attn2_to_v", SECOND, 4.0)
    file.kohya("lora_unet_output_blocks_1_1_proj_in", "up_blocks.0.attentions.1.proj_in", 0.5)
    file.kohya("lora_unet_input_blocks_1_0_in_layers_2", CONV, 2.0)
    file.kohya("lora_unet_input_blocks_1_0_emb_layers_1", "down_blocks.0.resnets.0.time_emb_proj", 2.0)
    file.kohya("lora_unet_time_embed_0", "time_embedding.linear_1", 1.0)
    file.kohya("lora_unet_label_emb_0_2", "add_embedding.linear_2", 1.0)
    file.kohya("lora_unet_out_2", "conv_out", 1.0)
    file.kohya(f"lora_te1_{flat(TEXT)}", TEXT, 1.0, network="text_encoder")
    file.kohya(f"lora_te2_{flat(MLP)}", MLP, 6.0, network="text_encoder_2")
    file.kohya("lora_te2_text_projection", "text_projection", 1.0, network="text_encoder_2")
