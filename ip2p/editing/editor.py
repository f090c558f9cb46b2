"""Edit pictures by instruction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.diffusion.previews import Previews
from ip2p.diffusion.sampling import OnStep
from ip2p.editing.changes import change_mask, changed_share, compare
from ip2p.editing.draw import Drawn, draw, dual_guidance
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
    resolve_settings,
    warn_of_unknown_words,
    working_size,
)
from ip2p.models.backbone import Backbone
from ip2p.models.bundled import DEFAULT_EDITOR
from ip2p.models.inference import InferenceOptions, load_for_inference, record_parameters
from ip2p.pictures.color import with_alpha
from ip2p.pictures.tensors import to_tensor
from ip2p.settings import EditSettings

BLOCKED_NOTE = "by the model's safety checker"


@dataclass(frozen=True)
class Edited:
    """An edited picture.

    Attributes:
        image: edited picture.
        seed: seed that it was drawn from.
        parameters: all parameters needed to draw it again, by name.
        unet_rows: number of UNet rows that it took, at most three a denoising step.
        changed: share of the pixels inside the mask that each edit has changed, 0 to 1; empty if not measured.
    """

    image: Image.Image
    seed: int
    parameters: dict[str, Any]
    unet_rows: int
    changed: tuple[float, ...] = ()

    @property
    def blocked(self) -> bool:
        """Whether the model's safety checker blocked it, or in a sequence the result of one of its edits."""
        return "blocked" in self.parameters


class Editor:
    """Edits pictures by instruction (InstructPix2Pix, arXiv 2211.09800).

        editor = Editor.from_pretrained()  # or a folder, or "timbrooks/instruct-pix2pix"
        edited = editor.edit_one(image, "make it winter", seed=7)

    Several threads may share an editor: their edits are drawn one after the other.

    Args:
        backbone: components of an editor.

    Raises:
        ModelError: the backbone is another kind of model.
    """

    def __init__(self, backbone: Backbone) -> None:
        backbone.require("editor")
        self.backbone = backbone

    @classmethod
    def from_pretrained(
        cls,
        name: str = DEFAULT_EDITOR,
        device: torch.device | str | None = None,
        precision: str | None = None,
        **options: Unpack[InferenceOptions],
    ) -> "Editor":
        """Load an editor of Stable Diffusion 1, 2 or XL, or storybook's, by bundled name, folder, file or hub id.

        Args:
            name, device, precision: see `ip2p.models.inference.load_for_inference`.
            options: loras, embeddings, decoder, cpu_offload, vae_tiling, compiled, config, weights, allow_pickle and
                safety_checker, see InferenceOptions and LoadingOptions there.

        Raises:
            ModelError: the model is missing, damaged, or no editor; or a file does not fit it.
            ConfigError: cpu_offload is set without a GPU, or this machine cannot compile.
        """
        return cls(load_for_inference(name, want="editor", device=device, precision=precision, **options))

    def edit_one(
        self, image: Image.Image, instruction: str, *, seed: int | None = None,
        mask: Image.Image | None = None, **others: Any,
    ) -> "Edited":  # fmt: skip
        """Edit one picture once.

        Args:
            image, instruction, seed, mask: one picture, instruction, seed and mask, see `edit`.
            others: other arguments of `edit`.

        Raises:
            InstructionError, ImageError, ConfigError: see `edit`.
        """
        (edited,) = self.edit([image], [instruction], seeds=seed, masks=mask, **others)
        return edited

    @torch.inference_mode()
    def edit(
        self,
        images: Images,
        instructions: Texts,
        *,
        negative_prompt: Texts | None = None,
        seeds: Seeds = None,
        samples: int | None = None,
        masks: Masks = None,
        cross: bool = False,
        keep_size: bool = True,
        measure_change: bool = False,
        batch: int = 8,
        on_step: OnStep | None = None,
        previews: Previews | None = None,
        preset: str | None = None,
        settings: EditSettings | None = None,
        **options: Any,
    ) -> list[Edited]:
        """Edit one picture in many ways, many in one way, or each in its own; several times if asked.

        A picture depends on its seed and not on its batch.

        Args:
            images, instructions: images and instructions, equally many or one of either. Images of any mode, at
                least 16 pixels a side; they are turned upright and put on white if transparent.
            negative_prompt: text in place of the empty prompt, which guidance leads away from; one, or one for each
                image and instruction.
            seeds: one seed, counted up over the samples; or one for each sample; or one for each picture made. Drawn,
                and recorded in the result, if None.
            samples: number of samples of each image and instruction.
            masks: masks of the sizes of the images: white is edited, black is kept to the bit, gray blends. One mask,
                or one for each image and instruction.
            cross: whether to combine every image with every instruction, image by image.
            keep_size: whether to resize results to the sizes of their originals and to restore their transparency.
            measure_change: whether to measure the share of changed pixels, which takes the autoencoder once more.
            batch: number of pictures drawn at once; the UNet gets up to three rows for each.
            on_step: callback after each model call of each batch, with its number and the latents.
            previews: interval and callback for the clean pictures predicted during the run.
            preset: name of a preset: exact, balanced, fast or paper.
            settings: all sampling settings at once, in place of the model's own.
            options: sampling settings by name, see `ip2p.settings.EditSettings`; they override the preset, which
                overrides the model's own. text_scale is s_T, how strongly to edit; image_scale is s_I, how much
                to keep.

        Returns:
            Edited pictures: image by image or instruction by instruction, and within these sample by sample. One that
            the model's safety checker blocks is black, and its parameters say so.

        Raises:
            InstructionError: an instruction is empty, or the numbers of images, instructions and seeds do not match.
            ImageError: an image is smaller than 16 x 16 pixels, or longer than 20 : 1; a mask has another size than
                its image, or is all black.
            ConfigError: a setting is unknown, or out of range.
        """
        backbone = self.backbone
        chosen = resolve_settings(backbone, settings, preset, options, arguments=Editor.edit)
        requests = plan_requests(
            images, instructions, seeds, samples, masks=masks, cross=cross, negative_prompts=negative_prompt
        )
        warn_of_unknown_words(backbone, requests)
        sizes = [working_size(request.image.size, chosen.resolution, backbone.downscale) for request in requests]
        results: dict[int, Edited] = {}
        with backbone.lock:
            for rows in group_by_size(sizes, batch):
                group, size = [requests[row] for row in rows], sizes[rows[0]]
                watch = _batch_previews(previews, rows, group, keep_size) if previews else None
                pictures = to_tensor([resize(request.image, size) for request in group]).to(backbone.device)
                drawn = self._edit_batch(group, pictures, chosen, on_step, watch)
                look = measure_change or chosen.keep_unchanged
                changes = compare(backbone, pictures, [made.image for made in drawn]) if look else [None] * len(group)
                for row, request, made, change in zip(rows, group, drawn, changes, strict=True):
                    shares = (changed_share(change, request.mask),) if measure_change else ()
                    kept = change if chosen.keep_unchanged else None
                    special = {
                        "negative_prompt": request.negative_prompt, "blocked": made.blocked and BLOCKED_NOTE,
                        "together": len(group) > 1 and len(group),
                        "changed": [round(share, 4) for share in shares],
                    }  # fmt: skip
                    others = {name: value for name, value in special.items() if value}
                    parameters = self._parameters(request, chosen) | others
                    image = _finish(request, made.image, keep_size, kept)
                    results[row] = Edited(image, request.seed, parameters, made.unet_rows, shares)
        return [results[row] for row in range(len(requests))]

    def _edit_batch(
        self,
        requests: Sequence[Request],
        pictures: Float[Tensor, "b 3 h w"],
        settings: EditSettings,
        on_step: OnStep | None,
        previews: Previews | None,
    ) -> list[Drawn]:
        """Edit pictures together, all at one working size."""
        backbone = self.backbone
        height, width = pictures.shape[-2:]
        texts, masks = [request.text for request in requests], [request.mask for request in requests]
        negatives = [request.negative_prompt for request in requests]
        outside = keep_outside(backbone.encode_target(pictures), masks, backbone.downscale) if any(masks) else None
        return draw(
            backbone,
            dual_guidance(backbone, settings, backbone.encode_condition(pictures), texts, negatives),
            settings, size=(width, height), generators=[request.generator for request in requests],
            constrain=outside, on_step=on_step, previews=previews,
        )  # fmt: skip

    def _parameters(self, request: Request, settings: EditSettings) -> dict[str, Any]:
        """All parameters that the picture of a request depends on."""
        return {
            "instruction": request.text, "seed": request.seed, **record_parameters(self.backbone, settings),
        }  # fmt: skip


def _finish(
    request: Request, image: Image.Image, keep_size: bool, change: Float[Tensor, "1 h w"] | None = None
) -> Image.Image:
    """Finish a drawn picture: resize it to its original if wanted, and restore what was not to be edited.

    Args:
        request, image: request and drawn picture.
        keep_size: whether to resize it.
        change: how much of each pixel was changed, where the others are restored, too; None restores none of them.
    """
    size = request.image.size if keep_size else image.size
    original, image = resize(request.image, size), resize(image, size)
    if change is not None:
        image = paste(image, original, change_mask(change, size))
    image = paste(image, original, resize(request.mask, size) if request.mask else None)
    return with_alpha(image, request.alpha) if keep_size else image


def _batch_previews(previews: Previews, rows: Sequence[int], requests: Sequence[Request], keep_size: bool) -> Previews:
    """Previews of one batch that report the index among all results."""

    def show(place: int, step: int, image: Image.Image) -> None:
        previews.show(rows[place], step, _finish(requests[place], image, keep_size))

    return Previews(previews.every, show)
