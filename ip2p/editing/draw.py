"""Draw pictures from noise: shared by the editor, text-to-image, SDEdit and the pairs of a data set.

It combines the noise of each row's generator, a scheduler, a guidance over the cached UNet, the denoising loop, the
decoder, and the safety checker.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from diffusers.models.embeddings import get_timestep_embedding
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.conditioning import Conditioning
from ip2p.device import precision_name
from ip2p.diffusion.feature_cache import FeatureCache
from ip2p.diffusion.guidance import DualGuidance, Guidance, TextGuidance, UNetCall
from ip2p.diffusion.guidance_cache import CachedDualGuidance, CachedTextGuidance, CacheSchedule
from ip2p.diffusion.noise import ForwardProcess
from ip2p.diffusion.previews import DenoiserWithEstimates, Estimates, Previews
from ip2p.diffusion.sampling import Constrain, Denoise, OnStep, make_scheduler, sample, steps_of_calls
from ip2p.diffusion.text_cache import MAX_BATCHES, TextCache
from ip2p.diffusion.unique_rows import SameAs, UniqueRows
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


class Denoised(NamedTuple):
    """Latents at the end of a run.

    Args:
        latents: scaled latents, shape (b, c, h, w).
        rows_each: number of UNet rows that each took.
    """

    latents: Tensor
    rows_each: list[int]


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
) -> list[Drawn]:
    """Draw a batch of pictures of one size.

    Args:
        backbone, make_guidance, settings, size, generators, origin, start, constrain, on_step: see `denoise`.
        previews: interval and callback for the clean pictures predicted during the run.
    """
    latents, rows_each = denoise(
        backbone, make_guidance, settings, size=size, generators=generators, origin=origin, start=start,
        constrain=constrain, on_step=on_step, estimates=_show(backbone, previews) if previews else None,
    )  # fmt: skip
    return [Drawn(*each) for each in zip(*decode(backbone, latents), rows_each, strict=True)]


@torch.inference_mode()
def denoise(
    backbone: Backbone,
    make_guidance: MakeGuidance,
    settings: SamplingSettings,
    *,
    size: tuple[int, int],
    generators: Sequence[torch.Generator],
    noise: Float[Tensor, "b c h w"] | None = None,
    origin: Float[Tensor, "b c h w"] | None = None,
    start: int = 0,
    constrain: Constrain | None = None,
    on_step: OnStep | None = None,
    estimates: Estimates | None = None,
    same_as: SameAs | None = None,
) -> Denoised:
    """Denoise a batch of latents of one size.

    Args:
        backbone: text-to-image model or editor.
        make_guidance: function that makes the guidance; it is called once.
        settings: sampling settings; only scheduler, steps and reuse are read.
        size: width and height of the pictures in pixels, multiples of the autoencoder's downscale.
        generators: one generator for each picture, which does not depend on the others in its batch.
        noise: noise to start from, of unit variance, shape (b, c, h, w), such as that of an inversion; drawn from the
            generators if None.
        origin: scaled latents to noise and start from, shape (b, c, h, w) (SDEdit); None starts from pure noise.
        start: index of the first step, below `settings.steps`.
        constrain, on_step: functions called after each model call, see `ip2p.diffusion.sampling.sample`.
        estimates: which of the clean latents predicted during the run are wanted, and a callback for them.
        same_as: which rows of a text-to-image model are equal or not needed at a model call, so that they take no
            UNet rows; every picture takes its own if None.
    """
    assert settings.reuse == 1 or same_as is None, "features are cached for whole batches, not row by row"
    scheduler = make_scheduler(backbone.scheduler, settings.scheduler)
    width, height = (side // backbone.downscale for side in size)
    if noise is None:
        noise = randn((backbone.latent_channels, height, width), generators, device=backbone.device)
    text_cache = TextCache(backbone.predict, backbone.unet, max_batches=0 if backbone.compiled else MAX_BATCHES)
    feature_cache = FeatureCache(text_cache, backbone.unet, settings.reuse)
    unique = UniqueRows(feature_cache, same_as) if same_as else None
    guidance = make_guidance(unique or feature_cache)
    predict: Denoise = guidance
    if estimates:
        steps = steps_of_calls(scheduler, settings.steps)[start * scheduler.order :]
        numbers = [1 + step - steps[0] for step in steps]
        predict = DenoiserWithEstimates(guidance, ForwardProcess(backbone.scheduler), estimates, numbers)
    with text_cache, feature_cache:
        latents = sample(
            predict, noise, scheduler, steps=settings.steps, generators=generators, origin=origin, start=start,
            on_step=on_step, constrain=constrain,
        )  # fmt: skip
    _require_finite(backbone, latents, "latents")
    return Denoised(latents, (unique or guidance).rows_each)


@torch.inference_mode()
def decode(backbone: Backbone, latents: Float[Tensor, "b c h w"]) -> tuple[list[Image.Image], list[bool]]:
    """Decode scaled latents into pictures, black if the model's safety checker blocks them, with a flag for each."""
    decoded = backbone.decode(latents)
    _require_finite(backbone, decoded, "decoded pictures")
    images = to_images(decoded)
    flags = backbone.flag_unsafe(images)
    return [black_out(image) if unsafe else image for image, unsafe in zip(images, flags, strict=True)], flags


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
        scale: guidance scale, one number or a tensor of shape (b,). A UNet that takes it as an input needs no branch
            without caption, and knows no negative prompt.
    """
    texts = backbone.encode_text(captions), _encode_negative(backbone, negative_prompts)
    if width := backbone.unet.config.get("time_cond_proj_dim"):
        scales = texts[0].tokens.new_zeros(len(captions)) + scale
        # From 0, which is no guidance (arXiv 2310.04378), in thousandths, as timesteps are embedded.
        embedded = get_timestep_embedding(1000 * (scales - 1), width, downscale_freq_shift=1)
        texts, scale = (dataclasses.replace(texts[0], scale=embedded), texts[1]), 1.0
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


def _show(backbone: Backbone, previews: Previews) -> Estimates:
    """Decode estimates, and show them as previews."""

    def show(step: int, latents: Tensor) -> None:
        for place, picture in enumerate(decode(backbone, latents)[0]):
            previews.show(place, step, picture)

    return Estimates(lambda step: step % previews.every == 0, show)


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
