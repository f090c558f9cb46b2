"""Edit pictures by instruction."""

import importlib.metadata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.device import best_device, choose_precision, compile_unet, parse_precision, precision_name
from ip2p.diffusion.feature_cache import FeatureCache
from ip2p.diffusion.guidance import DualGuidance, UNetCall
from ip2p.diffusion.guidance_cache import CacheSchedule
from ip2p.diffusion.previews import DenoiserWithPreviews, Previews
from ip2p.diffusion.sampling import Denoise, OnStep, make_scheduler, sample
from ip2p.diffusion.text_cache import MAX_BATCHES, TextCache
from ip2p.editing.masks import keep_outside, paste
from ip2p.editing.requests import (
    Images,
    Masks,
    Request,
    Seeds,
    Texts,
    group_by_size,
    plan_requests,
    resize,
    working_size,
)
from ip2p.models.adapters import Lora, add_embeddings, merge_loras, require_readable
from ip2p.models.backbone import Backbone, LoadingOptions, load_backbone
from ip2p.models.bundled import DEFAULT_EDITOR
from ip2p.models.decoder import replace_decoder
from ip2p.models.offload import offload, require_gpu, tile
from ip2p.models.packed_conv import pack_convolutions
from ip2p.models.safety import black_out
from ip2p.pictures.color import with_alpha
from ip2p.pictures.tensors import to_images, to_tensor
from ip2p.seeding import randn
from ip2p.settings import Options, Settings, preset_options

ALWAYS_RECORDED = {"text_scale", "image_scale", "steps", "scheduler", "resolution"}
"""Settings that are told of every edit; the others where they are not what is exact."""

BLOCKED_NOTE = "by the model's safety checker"


@dataclass(frozen=True)
class Edited:
    """An edited picture.

    Attributes:
        image: the picture.
        seed: it came from.
        parameters: all that it takes to make it again.
        unet_rows: that it took: pictures that went through the UNet, three a step at most.
    """

    image: Image.Image
    seed: int
    parameters: dict[str, Any]
    unet_rows: int


class Editor:
    """Edits pictures by instruction (InstructPix2Pix, arXiv 2211.09800).

        editor = Editor.from_pretrained()  # or a folder, or "timbrooks/instruct-pix2pix"
        (edited,) = editor.edit(image, "make it winter", seeds=7)

    Args:
        backbone: of an editor.
        compiled: whether its UNet is; its layers are then never replaced for a while, which would compile it anew.

    Raises:
        ModelError: it is another kind of model.
    """

    def __init__(self, backbone: Backbone, *, compiled: bool = False) -> None:
        backbone.require("editor")
        self.backbone = backbone
        self.compiled = compiled

    @classmethod
    def from_pretrained(
        cls,
        name: str = DEFAULT_EDITOR,
        device: torch.device | str | None = None,
        precision: str | None = None,
        *,
        loras: Sequence[Lora] = (),
        embeddings: Sequence[Path] = (),
        decoder: str | None = None,
        cpu_offload: bool = False,
        vae_tiling: bool = False,
        compiled: bool = False,
        report: Callable[[str], None] = print,
        **loading: Unpack[LoadingOptions],
    ) -> "Editor":
        """Load an editor of Stable Diffusion 1, 2 or XL, or storybook's, by bundled name, folder, file or hub id.

        Args:
            name: of the model; a file is .safetensors in the original layout.
            device: the best there is if None: cuda, then mps, then cpu.
            precision: fp32, bf16, fp16, or auto, which measures; if None fp16 on a GPU of NVIDIA's, and fp32 elsewhere,
                so that a seed means the same picture.
            loras, embeddings: files to add to it: LoRA weights with their scales, and words of textual inversion.
            decoder: folder or hub id of a small decoder in place of its own, such as madebyollin/taesd.
            cpu_offload, vae_tiling: spare the GPU's memory: networks wait on the CPU; pictures are decoded in tiles.
            compiled: compile the UNet, which takes a minute or more and makes every edit faster.
            report: takes the line that says what precision auto came to.
            loading: config, allow_pickle and safety_checker, see LoadingOptions.

        Raises:
            ModelError: it is not there, damaged, or no editor; or a file does not fit it.
            ConfigError: nothing can be offloaded, since it computes on the CPU; or this machine cannot compile.
        """
        device = torch.device(device or best_device())
        precision = precision or ("fp16" if device.type == "cuda" else "fp32")
        dtype = torch.float32 if precision == "auto" else parse_precision(precision, device)
        pickles = loading.get("allow_pickle", False)
        for path in (*(lora.path for lora in loras), *embeddings):
            require_readable(path, allow_pickle=pickles)
        if cpu_offload:
            require_gpu(device)
        place = torch.device("cpu") if cpu_offload else device
        backbone = load_backbone(name, device=place, dtype=dtype, want="editor", **loading)
        merge_loras(backbone, loras, allow_pickle=pickles)
        add_embeddings(backbone, embeddings, allow_pickle=pickles)
        if decoder:
            replace_decoder(backbone, decoder)
        if precision == "auto":
            dtype = choose_precision(lambda: _probe(backbone), device=device, report=report)
            for module in backbone.modules:
                module.to(dtype)
        if cpu_offload:
            offload(backbone, device)
        if vae_tiling:
            tile(backbone)
        autoencoders = [each for each in (backbone.vae, backbone.decoder) if each is not None]
        for network in (backbone.unet, *autoencoders):
            network.to(memory_format=torch.channels_last)
        if compiled:
            compile_unet(backbone.unet, lambda: _probe(backbone))
            pack_convolutions(*autoencoders)
        else:
            pack_convolutions(backbone.unet, *autoencoders)
        return cls(backbone, compiled=compiled)

    @torch.inference_mode()
    def edit(
        self,
        images: Images,
        instructions: Texts,
        *,
        negative_prompt: str | None = None,
        seeds: Seeds = None,
        samples: int | None = None,
        masks: Masks = None,
        cross: bool = False,
        keep_size: bool = True,
        batch: int = 8,
        on_step: OnStep | None = None,
        previews: Previews | None = None,
        preset: str | None = None,
        **options: Unpack[Options],
    ) -> list[Edited]:
        """Edit one picture in many ways, many in one way, or each in its own; several times if asked.

        Settings that are None are the model's own. A picture depends on its seed, not on its batch.

        Args:
            images, instructions: of equal number, or one of the two single. Images of any mode, of at least 16
                pixels on each side; they are taken upright, and white stands behind what is transparent.
            negative_prompt: what the pictures should not show; stands where no text stood, in both such branches.
            seeds: one, counted up over the samples; or one for each sample; or one for each picture made. Drawn, and
                told in the result, if None.
            samples: pictures of each image and instruction.
            masks: where to edit, of the sizes of the images: white is edited, black stays as it is to the bit, grey
                blends. One, or one for each image and instruction.
            cross: every image with every instruction, image by image, whatever their numbers.
            keep_size: bring results back to the sizes of their originals, and give them their transparency; else
                they are as the model made them.
            batch: pictures at once; the UNet sees up to three rows for each.
            on_step: called after each step of each batch with its number and the latents.
            previews: shown the pictures that the model is heading for.
            preset: exact, balanced, fast or paper: settings that go together.
            options: settings one by one, which come before those of the preset. text_scale is s_T, how strongly to
                edit; image_scale is s_I, how much to keep; any numbers. steps and scheduler are of the sampler.
                resolution is the long side of what the model works on, in pixels. All others: see Settings.

        Returns:
            Edited pictures: image by image or instruction by instruction, and within these sample by sample. One that
            the model's safety checker blocks is black, and its parameters say so.

        Raises:
            InstructionError: an instruction is empty, or there are not as many as images or seeds.
            ImageError: an image is smaller than 16 x 16 pixels, or longer than 20 : 1; a mask has another size than
                its image, or is all black.
            ConfigError: a setting is out of range.
        """
        settings = self.backbone.settings.replace(**preset_options(preset, options))
        if self.compiled and settings.reuse > 1:
            warnings.warn(f"a compiled UNet reuses no features: reuse={settings.reuse} is left out", stacklevel=2)
            settings = settings.replace(reuse=1)
        settings = settings.replace(resolution=settings.resolution or self.backbone.image_size)
        assert settings.resolution is not None
        requests = plan_requests(images, instructions, seeds, samples, masks=masks, cross=cross)
        sizes = [working_size(request.image.size, settings.resolution, self.backbone.downscale) for request in requests]
        results: dict[int, Edited] = {}
        for rows in group_by_size(sizes, batch):
            chosen, size = [requests[row] for row in rows], sizes[rows[0]]
            watch = _batch_previews(previews, rows, chosen, keep_size) if previews else None
            drawn = self._edit_batch(chosen, size, settings, negative_prompt or "", on_step, watch)
            for row, request, (image, unsafe, unet_rows) in zip(rows, chosen, drawn, strict=True):
                special = {"negative_prompt": negative_prompt, "blocked": unsafe and BLOCKED_NOTE}
                others = {name: value for name, value in special.items() if value}
                parameters = self._parameters(request, settings) | others
                results[row] = Edited(_finish(request, image, keep_size), request.seed, parameters, unet_rows)
        return [results[row] for row in range(len(requests))]

    def _edit_batch(
        self,
        requests: Sequence[Request],
        size: tuple[int, int],
        settings: Settings,
        negative: str,
        on_step: OnStep | None,
        previews: Previews | None,
    ) -> list[tuple[Image.Image, bool, int]]:
        """Edit pictures together, all at one working size (width, height).

        Tells of each whether it is blocked, and the UNet rows that it took.
        """
        backbone = self.backbone
        generators = [request.generator for request in requests]
        pictures = to_tensor([resize(request.image, size) for request in requests]).to(backbone.device)
        condition = backbone.encode_condition(pictures)
        scheduler = make_scheduler(backbone.scheduler, settings.scheduler)
        text_cache = TextCache(backbone.predict, backbone.unet, max_batches=0 if self.compiled else MAX_BATCHES)
        feature_cache = FeatureCache(text_cache, backbone.unet, settings.reuse)
        guidance = self._guidance(feature_cache, condition, [request.text for request in requests], negative, settings)
        denoise: Denoise = guidance
        if previews:
            denoise = DenoiserWithPreviews(
                guidance, scheduler, lambda latents: [image for image, _ in self._decode_images(latents)], previews
            )
        masks = [request.mask for request in requests]
        outside = keep_outside(backbone.encode_target(pictures), masks, backbone.downscale) if any(masks) else None
        with text_cache, feature_cache:
            latents = sample(
                denoise, randn(tuple(condition.shape[1:]), generators, device=backbone.device), scheduler,
                steps=settings.steps, generators=generators, on_step=on_step, constrain=outside,
            )  # fmt: skip
        drawn = self._decode_images(latents)
        return [(image, unsafe, rows) for (image, unsafe), rows in zip(drawn, guidance.rows_each, strict=True)]

    def _decode_images(self, latents: Float[Tensor, "b c h w"]) -> list[tuple[Image.Image, bool]]:
        """Pictures of latents, black where the model's safety checker blocks them, and whether it does."""
        images = to_images(self.backbone.decode(latents))
        flags = self.backbone.flag_unsafe(images)
        return [(black_out(image) if unsafe else image, unsafe) for image, unsafe in zip(images, flags, strict=True)]

    def _guidance(
        self,
        unet: UNetCall,
        condition: Float[Tensor, "b c h w"],
        instructions: Sequence[str],
        negative: str,
        settings: Settings,
    ) -> DualGuidance:
        """Guidance of a batch by its settings."""
        return DualGuidance(
            unet, condition, self.backbone.encode_text(instructions), self.backbone.encode_text([negative]),
            text_scale=settings.text_scale, image_scale=settings.image_scale,
            schedule=CacheSchedule(
                settings.text_every, settings.image_every, settings.tolerance, settings.extrapolate, settings.hold_after
            ),
            interval=(settings.guidance_start, settings.guidance_stop), rescale=settings.rescale,
            timesteps=self.backbone.scheduler.config.num_train_timesteps,
        )  # fmt: skip

    def _parameters(self, request: Request, settings: Settings) -> dict[str, Any]:
        """Everything that the picture of a request depends on."""
        versions = (f"{name} {importlib.metadata.version(name)}" for name in ("ip2p", "torch", "diffusers"))
        return {
            "instruction": request.text,
            "seed": request.seed,
            **settings.model_dump(include=ALWAYS_RECORDED),
            **settings.model_dump(exclude={*ALWAYS_RECORDED, "scale", "strength"}, exclude_defaults=True),
            "model": self.backbone.name,
            **({"adapters": list(self.backbone.adapters)} if self.backbone.adapters else {}),
            **({"decoder": self.backbone.decoder_name} if self.backbone.decoder_name else {}),
            **({"compiled": True} if self.compiled else {}),
            "precision": precision_name(self.backbone.dtype),
            "device": self.backbone.device.type,
            "versions": ", ".join(versions),
        }


def _finish(request: Request, image: Image.Image, keep_size: bool) -> Image.Image:
    """What the model made of a request, at the size of its original if wanted, and the original outside of the mask."""
    size = request.image.size if keep_size else image.size
    image = paste(
        resize(image, size), resize(request.image, size), resize(request.mask, size) if request.mask else None
    )
    return with_alpha(image, request.alpha) if keep_size else image


def _batch_previews(previews: Previews, rows: Sequence[int], requests: Sequence[Request], keep_size: bool) -> Previews:
    """Previews of one batch, for those who count in results."""

    def show(place: int, step: int, image: Image.Image) -> None:
        previews.show(rows[place], step, _finish(requests[place], image, keep_size))

    return Previews(previews.every, show)


def _probe(backbone: Backbone) -> None:
    """One prediction of the size that the model is made for."""
    side = backbone.image_size // backbone.downscale
    x = torch.zeros(3, 2 * backbone.latent_channels, side, side, device=backbone.device)
    with torch.inference_mode():
        backbone.predict(x, torch.tensor(500, device=backbone.device), backbone.encode_text(["", "", ""]))
