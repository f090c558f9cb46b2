"""Edit pictures by two captions with a text-to-image model: DDIM inversion, then Prompt-to-Prompt.

The picture is inverted under its caption into the noise that it would be drawn from (arXiv 2010.02502, section 4.3).
From that noise both captions are drawn: the first again, without guidance, so that it comes out as it was; the edited
one with guidance, and for a share p of the steps with the self-attention of the first (arXiv 2208.01626).
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDIMInverseScheduler
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.conditioning import Conditioning
from ip2p.diffusion.prompt_to_prompt import share_with_source
from ip2p.editing.draw import decode, denoise, text_guidance
from ip2p.editing.requests import Images, Texts, group_by_size, plan_requests, resize, resolve_settings, working_size
from ip2p.models.backbone import Backbone
from ip2p.pictures.tensors import to_tensor
from ip2p.settings import GenerationSettings

SCHEDULER = "ddim"
"""The one scheduler whose steps are inverted here."""


@torch.inference_mode()
def edit_by_captions(
    backbone: Backbone,
    images: Images,
    captions: Sequence[str],
    edited_captions: Texts,
    *,
    share: float,
    features: bool = False,
    batch: int = 8,
    settings: GenerationSettings | None = None,
    **options: Any,
) -> list[Image.Image]:
    """Edit pictures from one caption to another; there is no randomness in it.

    Args:
        backbone: text-to-image model.
        images: pictures to edit, one for each pair of captions. Results have their sizes.
        captions, edited_captions: captions before and after the edit.
        share: share p of the steps in which the edited picture has the self-attention of the first, 0 to 1.
        features: whether it also has the features of the decoder's residual blocks, which decide the layout in a
            small UNet.
        batch: number of pictures edited at once.
        settings: all sampling settings at once, in place of the model's own; the scheduler is always ddim.
        options: sampling settings by name, which override the others.

    Raises:
        InstructionError: a caption is empty, or the numbers do not match.
        ConfigError: a setting is unknown, or out of range.
        ModelError: the backbone is no text-to-image model, or its UNet has no self-attention to share.
    """
    backbone.require("base")
    chosen = resolve_settings(backbone, settings, None, options, arguments=edit_by_captions)
    chosen = chosen.replace(scheduler=SCHEDULER)
    requests = plan_requests(images, edited_captions, 0)
    before = [each.text for each in plan_requests(images, captions, 0)]
    sizes = [working_size(each.image.size, chosen.resolution, backbone.downscale) for each in requests]
    made: dict[int, Image.Image] = {}
    with backbone.lock:
        for rows in group_by_size(sizes, batch):
            pictures = [resize(requests[row].image, sizes[row]) for row in rows]
            texts = [before[row] for row in rows], [requests[row].text for row in rows]
            latents = _draw_both(backbone, pictures, *texts, chosen, share, features)
            made |= dict(zip(rows, decode(backbone, latents[len(rows) :])[0], strict=True))
    return [resize(made[row], request.image.size) for row, request in enumerate(requests)]


def invert(
    backbone: Backbone, latents: Float[Tensor, "b c h w"], text: Conditioning, steps: int
) -> Float[Tensor, "b c h w"]:
    """Invert scaled latents into the noise from which DDIM draws them in so many steps, without guidance.

    Args:
        backbone: text-to-image model.
        latents: scaled latents of the pictures.
        text: embedded captions of the pictures.
        steps: denoising steps.
    """
    options = {"clip_sample": False, "thresholding": False}  # both are for pixels
    scheduler: Any = DDIMInverseScheduler.from_config(backbone.scheduler.config, **options)
    scheduler.set_timesteps(steps, device=latents.device)
    x = latents
    for timestep in scheduler.timesteps:
        x = scheduler.step(backbone.predict(x, timestep, text), timestep, x, return_dict=False)[0]
    return x


def _draw_both(
    backbone: Backbone,
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    edited_captions: Sequence[str],
    settings: GenerationSettings,
    share: float,
    features: bool,
) -> Float[Tensor, "b2 c h w"]:
    """Draw latents of both captions from the inverted noise, those of all first captions before the others."""
    count, size = len(pictures), pictures[0].size
    origin = backbone.encode_target(to_tensor(pictures).to(backbone.device))
    noise = invert(backbone, origin, backbone.encode_text(captions), settings.steps)
    scale = torch.tensor([1.0] * count + [settings.scale] * count, device=backbone.device)
    guidance = text_guidance(backbone, settings, [*captions, *edited_captions], scale=scale)
    with share_with_source(backbone.unet, [share] * count, settings.steps, features=features) as control:
        return denoise(
            backbone, guidance, settings, size=size, noise=noise.repeat(2, 1, 1, 1),
            generators=[torch.Generator().manual_seed(0)] * (2 * count),  # DDIM draws nothing
            on_step=lambda step, _: control.at(step + 1) if step + 1 < settings.steps else None,
        ).latents  # fmt: skip
