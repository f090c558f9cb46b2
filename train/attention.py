"""Attention kernel in training: chosen by name, or on a CPU by a probe. Results differ only in rounding.

On short sequences the backward pass of a CPU's fused attention is slow, and plain matrix products are faster: 1.4 to
1.6 times on the storybook UNet (256 and 64 tokens). On long ones it is the reverse: with 1024 tokens the same products
take 1.5 times as long as fused attention.
"""

import importlib.util
import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from ip2p.errors import ConfigError

Attention = Literal["auto", "plain", "sdpa", "xformers"]
SHORT = 256
"""Tokens of the longest sequence up to which plain products are taken without a probe."""
INSTEAD = "Give attention=auto"


def require_attention(name: Attention, device: torch.device) -> None:
    """Check that a way of computing attention works here.

    Raises:
        ConfigError: it is xformers, and xformers is not installed or there is no CUDA device.
    """
    if name != "xformers":
        return
    if device.type != "cuda":
        raise ConfigError(f"attention=xformers needs an NVIDIA GPU, and this run is on {device.type}", INSTEAD)
    if importlib.util.find_spec("xformers") is None:
        raise ConfigError(
            "attention=xformers needs xformers, which is not installed",
            f"Run `pip install 'ip2p[xformers]'`, or {INSTEAD[0].lower()}{INSTEAD[1:]}",
        )


def use_attention(unet: Any, name: str) -> None:
    """Let a UNet compute attention in the way of this name: plain, sdpa or xformers."""
    if name == "xformers":
        unet.enable_xformers_memory_efficient_attention()
    else:
        unet.set_attn_processor(AttnProcessor() if name == "plain" else AttnProcessor2_0())


def choose_attention(
    unet: Any,
    asked: Attention,
    *,
    side: int,
    device: torch.device,
    step: Callable[[], None],
    say: Callable[[str], None],
) -> str:
    """Choose how a UNet computes attention, set it up, and say so.

    Args:
        unet: UNet to train.
        asked: name of the way; auto takes SDPA on a GPU, and on a CPU what is faster here.
        side: side of its latents.
        device: device that it trains on.
        step: function that runs one real step, forward and backward; called for the probe only.
        say: function that prints a line.

    Returns:
        plain, sdpa or xformers.
    """
    chosen, reason = str(asked), "as asked"
    if asked == "auto" and device.type != "cpu":
        chosen, reason = "sdpa", "by the kind of device"
    elif asked == "auto" and longest_sequence(unet, side) <= SHORT:
        chosen, reason = "plain", f"for sequences of at most {SHORT} tokens on a CPU"
    elif asked == "auto":
        seconds = {name: _seconds(unet, name, step) for name in ("sdpa", "plain")}
        chosen = min(seconds, key=lambda name: seconds[name])
        reason = "measured: " + ", ".join(f"{name} {taken:.2f} CPU s a step" for name, taken in seconds.items())
    use_attention(unet, chosen)
    say(f"attention: {chosen} ({reason})")
    return chosen


def longest_sequence(unet: Any, side: int) -> int:
    """Return the tokens of the longest self-attention of a UNet for latents of a side; 0 if it has none."""
    blocks = [*unet.config.down_block_types]
    levels = [level for level, block in enumerate(blocks) if "Attn" in block]
    if not levels and not unet.config.mid_block_type:
        return 0
    return int((side >> (levels[0] if levels else len(blocks) - 1)) ** 2)


def _seconds(unet: Any, name: str, step: Callable[[], None]) -> float:
    """Return the shorter time of two steps, in seconds of the processor, for others may be at work on it."""
    use_attention(unet, name)
    taken = []
    for _ in range(2):
        began = time.process_time()
        step()
        taken.append(time.process_time() - began)
    return min(taken)
