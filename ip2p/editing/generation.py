"""Draw from captions with a text-to-image model: from noise, or from pictures noised part of the way."""

import warnings
from collections.abc import Sequence

import torch
from PIL import Image

from ip2p.diffusion.guidance import TextGuidance
from ip2p.diffusion.sampling import OnStep, make_scheduler, sample
from ip2p.editing.requests import Images, Request, Seeds, Texts, group_by_size, plan_requests, resize, working_size
from ip2p.models.backbone import Backbone
from ip2p.models.safety import black_out
from ip2p.pictures.tensors import to_images, to_tensor
from ip2p.seeding import randn
from ip2p.settings import Settings


@torch.no_grad()
def generate(
    backbone: Backbone,
    captions: Texts,
    *,
    scale: float | None = None,
    steps: int | None = None,
    seeds: Seeds = None,
    scheduler: str | None = None,
    resolution: int | None = None,
    batch: int = 8,
    on_step: OnStep | None = None,
) -> list[Image.Image]:
    """Draw square pictures from captions. Settings that are None are the model's own.

    Args:
        backbone: of a text-to-image model.
        captions: one or more.
        scale: of classifier-free guidance, any number.
        steps: of the sampler.
        seeds: one for all captions, or one for each; drawn if None. A picture depends on its seed, not on its batch.
        scheduler: one of ip2p.settings.SCHEDULERS.
        resolution: side of the pictures, in pixels.
        batch: pictures at once.
        on_step: called after each step of each batch with its number and the latents.

    Raises:
        InstructionError: a caption is empty, or there are not as many as seeds.
        ConfigError: a setting is out of range.
        ModelError: not a text-to-image model.
    """
    backbone.require("base")
    settings = backbone.settings.replace(scale=scale, steps=steps, scheduler=scheduler, resolution=resolution)
    side = max(1, (settings.resolution or backbone.image_size) // backbone.downscale)
    blank = Image.new("RGB", (1, 1))
    requests = plan_requests(blank, captions, seeds)
    pictures = []
    for rows in group_by_size([side] * len(requests), batch):
        chosen = [requests[row] for row in rows]
        generators = [request.generator for request in chosen]
        latents = sample(
            _make_guidance(backbone, chosen, settings),
            randn((backbone.latent_channels, side, side), generators, device=backbone.device),
            make_scheduler(backbone.scheduler, settings.scheduler),
            steps=settings.steps, generators=generators, on_step=on_step,
        )  # fmt: skip
        pictures += _black_out_unsafe(backbone, to_images(backbone.decode(latents)))
    return pictures


@torch.no_grad()
def img2img(
    backbone: Backbone,
    images: Images,
    captions: Texts,
    *,
    strength: float | None = None,
    scale: float | None = None,
    steps: int | None = None,
    seeds: Seeds = None,
    scheduler: str | None = None,
    resolution: int | None = None,
    batch: int = 8,
    on_step: OnStep | None = None,
) -> list[Image.Image]:
    """Noise pictures part of the way and denoise them under other captions (SDEdit, arXiv 2108.01073).

    Args:
        images, captions: of equal number, or one of the two single. Results have the sizes of the images.
        strength: share of the steps that is taken, more than 0 and at most 1: how much may change.
        resolution: long side of the picture that the model works on, in pixels.
        backbone, scale, steps, seeds, scheduler, batch, on_step: as for `generate`.

    Raises:
        InstructionError, ConfigError, ModelError: as `generate`.
    """
    backbone.require("base")
    settings = backbone.settings.replace(
        strength=strength, scale=scale, steps=steps, scheduler=scheduler, resolution=resolution
    )
    start = settings.steps - max(1, int(settings.steps * settings.strength))
    requests = plan_requests(images, captions, seeds)
    sizes = [
        working_size(request.image.size, settings.resolution or backbone.image_size, backbone.downscale)
        for request in requests
    ]
    results: dict[int, Image.Image] = {}
    for rows in group_by_size(sizes, batch):
        chosen = [requests[row] for row in rows]
        generators = [request.generator for request in chosen]
        pictures = to_tensor([resize(request.image, sizes[rows[0]]) for request in chosen]).to(backbone.device)
        origin = backbone.encode_target(pictures, generators)
        latents = sample(
            _make_guidance(backbone, chosen, settings),
            randn(tuple(origin.shape[1:]), generators, device=backbone.device),
            make_scheduler(backbone.scheduler, settings.scheduler),
            steps=settings.steps, generators=generators, origin=origin, start=start, on_step=on_step,
        )  # fmt: skip
        for row, image in zip(rows, _black_out_unsafe(backbone, to_images(backbone.decode(latents))), strict=True):
            results[row] = resize(image, requests[row].image.size)
    return [results[row] for row in range(len(requests))]


def _black_out_unsafe(backbone: Backbone, images: list[Image.Image]) -> list[Image.Image]:
    """Pictures as they are shown: black, and told, where the model's safety checker blocks them."""
    flags = backbone.flag_unsafe(images)
    if any(flags):
        warnings.warn(f"the model's safety checker blocked {sum(flags)} pictures, which are black", stacklevel=3)
    return [black_out(image) if unsafe else image for image, unsafe in zip(images, flags, strict=True)]


def _make_guidance(backbone: Backbone, requests: Sequence[Request], settings: Settings) -> TextGuidance:
    text, null_text = backbone.encode_text([request.text for request in requests]), backbone.encode_text([""])
    return TextGuidance(backbone.predict, text, null_text, scale=settings.scale)
