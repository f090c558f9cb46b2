"""The recipe of InstructPix2Pix's authors for pairs, written plainly: the peer of bench/pairs.py.

One candidate at a time: a batch of four rows, {source, edited} x {without text, with text}, 100 steps of Euler
ancestral with the same noise for both pictures. While p > i / (S - 1), the attention maps of the edited picture are
those of the source, computed as whole matrices. Every candidate is drawn to its end (paper, section 3.1 and appendix).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import EulerAncestralDiscreteScheduler
from diffusers.models.attention_processor import Attention
from torch import Tensor

from ip2p.data_gen.pairs.draw import Pair, PlannedCandidate
from ip2p.models.backbone import Backbone
from ip2p.pictures.tensors import to_images

ROWS = 4
"""Rows of a call of the UNet: source and edited picture without text, and both with text."""


class WholeMaps:
    """Attention processor that computes whole maps; while `shared`, edited rows take those of their sources."""

    shared = False

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Compute attention, shape (rows, tokens, channels), or (rows, channels, h, w)."""
        shape = hidden_states.shape
        tokens = hidden_states.flatten(2).transpose(1, 2) if len(shape) == 4 else hidden_states
        normed = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2) if attn.group_norm is not None else tokens
        context = normed if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (attn.head_to_batch_dim(project(each)) for project, each in (
            (attn.to_q, normed), (attn.to_k, context), (attn.to_v, context),
        ))  # fmt: skip
        maps = attn.get_attention_scores(query, key)
        if self.shared and encoder_hidden_states is None:
            by_row = maps.unflatten(0, (ROWS, -1))
            maps = by_row[[0, 0, 2, 2]].flatten(0, 1)
        mixed = attn.to_out[0](attn.batch_to_head_dim(torch.bmm(maps, value)))
        mixed = mixed.transpose(1, 2).reshape(shape) if len(shape) == 4 else mixed
        return (mixed + hidden_states if attn.residual_connection else mixed) / attn.rescale_output_factor


@torch.inference_mode()
def draw_by_recipe(backbone: Backbone, planned: Sequence[PlannedCandidate], side: int) -> Iterator[Pair]:
    """Draw candidates one by one.

    Args:
        backbone: text-to-image model; its attention processors are replaced until the end.
        planned: candidates to draw, with the number of denoising steps.
        side: side of the pictures in pixels.
    """
    maps, processors = WholeMaps(), dict(backbone.unet.attn_processors)
    backbone.unet.set_attn_processor(maps)
    try:
        for each in planned:
            yield _draw(backbone, each, side, maps)
    finally:
        backbone.unet.set_attn_processor(processors)


def _draw(backbone: Backbone, planned: PlannedCandidate, side: int, maps: WholeMaps) -> Pair:
    candidate = planned.candidate
    scheduler = EulerAncestralDiscreteScheduler.from_config(backbone.scheduler.config)
    scheduler.set_timesteps(candidate.steps)
    text = backbone.encode_text(["", "", planned.caption, planned.edited_caption])
    generator = torch.Generator().manual_seed(candidate.seed)
    shape = (1, backbone.latent_channels, side // backbone.downscale, side // backbone.downscale)
    latents = torch.randn(shape, generator=generator).repeat(2, 1, 1, 1) * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        maps.shared = candidate.p > step / max(1, candidate.steps - 1)
        scaled = scheduler.scale_model_input(latents, timestep)
        noise = backbone.predict(scaled.repeat(2, 1, 1, 1), timestep, text)
        without, with_text = noise.chunk(2)
        guided = without + candidate.cfg * (with_text - without)
        # The scheduler draws noise for all rows: two generators of one state give both pictures the same.
        state = generator.get_state()
        generators = [torch.Generator(), generator]
        for one in generators:
            one.set_state(state)
        latents = scheduler.step(guided, timestep, latents, generator=generators).prev_sample
    source, edited = to_images(backbone.decode(latents))
    return Pair(candidate, source, edited, ROWS * candidate.steps)
