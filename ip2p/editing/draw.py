"""Draw pictures from noise: shared by the editor, text-to-image, SDEdit and the pairs of a data set.

It combines the noise of each row's generator, a scheduler, a guidance over the cached UNet, the denoising loop, the
decoder, and the safety checker.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.conditioning import Conditioning
from ip2p.device import precision_name
from ip2p.diffusion.feature_cache import FeatureCache
from ip2p.diffusion.guidance import DualGuidance, Guidance, TextGuidance, UNetCall
from ip2p.diffusion.guidance_cache import CachedDualGuidance, CachedTextGuidance, CacheSchedule
from ip2p.diffusion.noise import ForwardProcess
from ip2p.diffusion.previews import DenoiserWithPreviews, Previews
from ip2p.diffusion.sampling import Constrain, Denoise, OnStep, make_scheduler, sample
from ip2p.diffusion.text_cache import MAX_BATCHES, TextCache
from ip2p.errors import ModelError
from ip2p.models.backbone import Backbone
from ip2p.models.inference import require_finite_weights
from ip2p.models.safety import black_out
from ip2p.pictures.tensors import to_images
from ip2p.seeding import randn
from ip2p.settings import EditSettings, SamplingSettings

MakeGuidance = Callable[[UNetCall], Guidance]
"""Function from the UNet call of a run to its guidance."""
EXACT = CacheSchedule()


class Drawn(NamedTuple):
    """A picture as the model made it.

    Args:
        image: picture; black if it is blocked.
        blocked: whether the model's safety checker blocked it.
        unet_rows: number of UNet rows that it took.
    """

    image: Image.Image
    blocked: bool
    unet_rows: int


@torch.inference_mode()
def draw(
    backbone: Backbone,
    make_guidance: MakeGuidance,
    settings: SamplingSettings,
    *,
    size: tuple[int, int],
    generators: Sequence[torch.Generator],
    origin: Float[Tensor, "b c h w"] | None = None,
    start: int = 0,
    constrain: Constrain | None = None,
    on_step: OnStep | None = None,
    previews: Previews | None = None,
    decode_rows: int | None = None,
) -> list[Drawn]:
    """Draw a batch of pictures of one size.

    Args:
        backbone: text-to-image model or editor.
        make_guidance: function that makes the guidance; it is called once.
        settings: sampling settings; only scheduler, steps and reuse are read.
        size: width and height of the pictures in pixels, multiples of the autoencoder's downscale.
        generators: one generator for each picture, which does not depend on the others in its batch.
        origin: scaled latents to noise and start from, shape (b, c, h, w) (SDEdit); None starts from pure noise.
        start: index of the first step, below `settings.steps`.
        constrain, on_step: functions called after each model call, see `ip2p.diffusion.sampling.sample`.
        previews: interval and callback for the clean pictures predicted during the run.
        decode_rows: number of pictures decoded at once; all of them if None.
    """
    scheduler = make_scheduler(backbone.scheduler, settings.scheduler)
    width, height = (side // backbone.downscale for side in size)
    noise = randn((backbone.latent_channels, height, width), generators, device=backbone.device)
    text_cache = TextCache(backbone.predict, backbone.unet, max_batches=0 if backbone.compiled else MAX_BATCHES)
    feature_cache = FeatureCache(text_cache, backbone.unet, settings.reuse)
    guidance = make_guidance(feature_cache)
    denoise: Denoise = guidance
    if previews:
        process = ForwardProcess(backbone.scheduler)
        denoise = DenoiserWithPreviews(
            guidance, process, lambda latents: _decode(backbone, latents)[0], previews, scheduler.order
        )
    with text_cache, feature_cache:
        latents = sample(
            denoise, noise, scheduler, steps=settings.steps, generators=generators, origin=origin, start=start,
            on_step=on_step, constrain=constrain,
        )  # fmt: skip
    _require_finite(backbone, latents, "latents")
    decoded = [_decode(backbone, rows) for rows in latents.split(decode_rows or len(latents))]
    images, flags = ([each for part in parts for each in part] for parts in zip(*decoded, strict=True))
    return [Drawn(*each) for each in zip(images, flags, guidance.rows_each, strict=True)]


def dual_guidance(
    backbone: Backbone,
    settings: EditSettings,
    condition: Float[Tensor, "b c h w"],
    instructions: Sequence[str],
    negative_prompts: Sequence[str],
) -> MakeGuidance:
    """Choose the guidance of an editor by its settings.

    Args:
        backbone: editor.
        settings: guidance scales, cache schedule, interval and rescaling.
        condition: image latents, see `Backbone.encode_condition`.
        instructions: one instruction for each row.
        negative_prompts: texts of both branches without instruction, one for each row; may be empty.
    """
    texts = backbone.encode_text(instructions), _encode_negative(backbone, negative_prompts)
    scales = {"text_scale": settings.text_scale, "image_scale": settings.image_scale}
    options = {**scales, **_guidance_options(backbone, settings)}
    schedule = _schedule(settings, settings.image_every)
    if schedule == EXACT:
        return lambda unet: DualGuidance(unet, condition, *texts, **options)
    return lambda unet: CachedDualGuidance(unet, condition, *texts, **options, schedule=schedule)


def text_guidance(
    backbone: Backbone,
    settings: SamplingSettings,
    captions: Sequence[str],
    negative_prompts: Sequence[str] = ("",),
    *,
    scale: float | Float[Tensor, " b"],
) -> MakeGuidance:
    """Choose the guidance of a text-to-image model by its settings.

    Args:
        backbone: text-to-image model.
        settings: cache schedule, interval and rescaling.
        captions: one caption for each row.
        negative_prompts: texts of the branch without caption, one for all rows or for each; may be empty.
        scale: guidance scale, one number or a tensor of shape (b,).
    """
    texts = backbone.encode_text(captions), _encode_negative(backbone, negative_prompts)
    schedule, others = _schedule(settings), _guidance_options(backbone, settings)
    if schedule == EXACT:
        return lambda unet: TextGuidance(unet, *texts, scale=scale, **others)
    return lambda unet: CachedTextGuidance(unet, *texts, scale=scale, **others, schedule=schedule)


def _encode_negative(backbone: Backbone, texts: Sequence[str]) -> Conditioning:
    """Embed the texts of a branch without instruction; equal ones as a single row, which guidance repeats."""
    return backbone.encode_text(list(texts) if len(set(texts)) > 1 else texts[:1])


def _schedule(settings: SamplingSettings, image_every: int = 1) -> CacheSchedule:
    return CacheSchedule(
        settings.text_every, image_every, settings.tolerance, settings.extrapolate, settings.hold_after
    )


def _guidance_options(backbone: Backbone, settings: SamplingSettings) -> dict[str, Any]:
    return {
        "interval": (settings.guidance_start, settings.guidance_stop), "rescale": settings.rescale,
        "timesteps": backbone.scheduler.config.num_train_timesteps,
    }  # fmt: skip


def _decode(backbone: Backbone, latents: Float[Tensor, "b c h w"]) -> tuple[list[Image.Image], list[bool]]:
    """Decode latents into pictures, black if the model's safety checker blocks them, with a flag for each."""
    decoded = backbone.decode(latents)
    _require_finite(backbone, decoded, "decoded pictures")
    images = to_images(decoded)
    flags = backbone.flag_unsafe(images)
    return [black_out(image) if unsafe else image for image, unsafe in zip(images, flags, strict=True)], flags


def _require_finite(backbone: Backbone, values: Tensor, what: str) -> None:
    """Check that nothing overflowed, which would show as a black picture.

    Raises:
        ModelError: a value is not finite.
    """
    if values.isfinite().all():
        return
    require_finite_weights(backbone)
    raise ModelError(
        f"the {what} of {backbone.name} are not finite in {precision_name(backbone.dtype)}",
        "Give precision=bf16 or precision=fp32, or less guidance", arguments=["precision"],
    )  # fmt: skip
