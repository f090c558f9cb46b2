"""Draw pictures from captions with a text-to-image model: from noise, or from noised pictures (SDEdit)."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image

from ip2p.diffusion.sampling import OnStep
from ip2p.editing.draw import Drawn, draw, text_guidance
from ip2p.editing.requests import (
    Images,
    Seeds,
    Texts,
    group_by_size,
    plan_requests,
    resize,
    resolve_settings,
    warn_of_unknown_words,
    working_size,
)
from ip2p.models.backbone import Backbone
from ip2p.pictures.tensors import to_tensor
from ip2p.settings import GenerationSettings


@torch.inference_mode()
def generate(
    backbone: Backbone,
    captions: Texts,
    *,
    negative_prompt: Texts | None = None,
    seeds: Seeds = None,
    batch: int = 8,
    on_step: OnStep | None = None,
    preset: str | None = None,
    settings: GenerationSettings | None = None,
    **options: Any,
) -> list[Image.Image]:
    """Draw square pictures from captions (classifier-free guidance, arXiv 2207.12598).

    Args:
        backbone: text-to-image model.
        captions: one or more captions.
        negative_prompt: text in place of the empty prompt, which guidance leads away from; one, or one a caption.
        seeds: one seed for all captions, or one for each; drawn if None. A picture does not depend on its batch.
        batch: number of pictures drawn at once.
        on_step: callback after each model call of each batch, with its number and the latents.
        preset: name of a preset: exact, balanced, fast or paper.
        settings: all sampling settings at once, in place of the model's own.
        options: sampling settings by name, see `ip2p.settings.GenerationSettings`; they override the preset, which
            overrides the model's own. resolution is the side of the pictures in pixels.

    Raises:
        InstructionError: a caption is empty, or the numbers of captions and seeds do not match.
        ConfigError: a setting is unknown, or out of range.
        ModelError: the backbone is no text-to-image model.
    """
    backbone.require("base")
    chosen = resolve_settings(backbone, settings, preset, options, arguments=generate)
    side = max(1, chosen.resolution // backbone.downscale) * backbone.downscale
    requests = plan_requests(Image.new("RGB", (1, 1)), captions, seeds, negative_prompts=negative_prompt)
    warn_of_unknown_words(backbone, requests)
    with backbone.lock:
        drawn: list[Drawn] = []
        for rows in group_by_size([side] * len(requests), batch):
            group = [requests[row] for row in rows]
            captions, negatives = [each.text for each in group], [each.negative_prompt for each in group]
            drawn += draw(
                backbone,
                text_guidance(backbone, chosen, captions, negatives, scale=chosen.scale),
                chosen, size=(side, side), generators=[request.generator for request in group], on_step=on_step,
            )  # fmt: skip
    return list(_warn_of_blocked(drawn))


@torch.inference_mode()
def img2img(
    backbone: Backbone,
    images: Images,
    captions: Texts,
    *,
    negative_prompt: Texts | None = None,
    seeds: Seeds = None,
    batch: int = 8,
    on_step: OnStep | None = None,
    preset: str | None = None,
    settings: GenerationSettings | None = None,
    **options: Any,
) -> list[Image.Image]:
    """Noise pictures to an intermediate level and denoise them under other captions (SDEdit, arXiv 2108.01073).

    Args:
        images, captions: images and captions, equally many or one of either. Results have the sizes of the images.
        backbone, negative_prompt, seeds, batch, on_step, preset, settings: see `generate`.
        options: sampling settings by name, see `generate`. strength is the share of the denoising steps that is run,
            more than 0 and at most 1; resolution is the long side that the model works at, in pixels.

    Raises:
        InstructionError, ConfigError, ModelError: see `generate`.
    """
    backbone.require("base")
    chosen = resolve_settings(backbone, settings, preset, options, arguments=img2img)
    start = chosen.steps - max(1, int(chosen.steps * chosen.strength))
    requests = plan_requests(images, captions, seeds, negative_prompts=negative_prompt)
    warn_of_unknown_words(backbone, requests)
    sizes = [working_size(request.image.size, chosen.resolution, backbone.downscale) for request in requests]
    results: dict[int, Drawn] = {}
    with backbone.lock:
        for rows in group_by_size(sizes, batch):
            group, size = [requests[row] for row in rows], sizes[rows[0]]
            generators = [request.generator for request in group]
            pictures = to_tensor([resize(request.image, size) for request in group]).to(backbone.device)
            origin = backbone.encode_target(pictures, generators)
            texts, negatives = [each.text for each in group], [each.negative_prompt for each in group]
            drawn = draw(
                backbone,
                text_guidance(backbone, chosen, texts, negatives, scale=chosen.scale),
                chosen, size=size, generators=generators, origin=origin, start=start, on_step=on_step,
            )  # fmt: skip
            results |= dict(zip(rows, drawn, strict=True))
    pictures_made = _warn_of_blocked([results[row] for row in range(len(requests))])
    return [resize(image, request.image.size) for image, request in zip(pictures_made, requests, strict=True)]


def _warn_of_blocked(drawn: list[Drawn]) -> Iterator[Image.Image]:
    """Return the pictures, and warn of those that the model's safety checker blocked, which are black."""
    if blocked := sum(each.blocked for each in drawn):
        warnings.warn(f"the model's safety checker blocked {blocked} pictures, which are black", stacklevel=2)
    return (each.image for each in drawn)
