"""Edit pictures by instruction."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ip2p.backbone import Backbone, load_backbone
from ip2p.guidance import DualGuidance
from ip2p.images import to_images, to_tensor
from ip2p.jobs import Images, Job, Seeds, Texts, alike, plan, resized, working_size
from ip2p.modes import with_alpha
from ip2p.sampling import OnStep, make_scheduler, sample
from ip2p.seeding import randn
from ip2p.settings import Settings

PRECISION = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


@dataclass(frozen=True)
class Edited:
    """An edited picture, the seed it came from, and all that it takes to make it again."""

    image: Image.Image
    seed: int
    parameters: dict[str, Any]


class Editor:
    """Edits pictures by instruction (InstructPix2Pix, arXiv 2211.09800).

        editor = Editor.from_pretrained()  # or a folder, or "timbrooks/instruct-pix2pix"
        (edited,) = editor.edit(image, "make it winter", seeds=7)

    Args:
        backbone: of an editor.

    Raises:
        ModelError: it is another kind of model.
    """

    def __init__(self, backbone: Backbone) -> None:
        backbone.require("editor")
        self.backbone = backbone

    @classmethod
    def from_pretrained(
        cls,
        name: str = "storybook-editor",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> "Editor":
        """Load an editor by bundled name, folder or hub id.

        Args:
            name: of the model.
            device: the best there is if None: cuda, then mps, then cpu.
            dtype: fp32 if None, so that a seed means the same picture everywhere; fp16 or bf16 are faster on a GPU.

        Raises:
            ModelError: it is not there, damaged, or no editor.
        """
        return cls(load_backbone(name, device=device or best_device(), dtype=dtype or torch.float32, want="editor"))

    @torch.no_grad()
    def edit(
        self,
        images: Images,
        instructions: Texts,
        *,
        text_scale: float | None = None,
        image_scale: float | None = None,
        steps: int | None = None,
        seeds: Seeds = None,
        samples: int | None = None,
        scheduler: str | None = None,
        resolution: int | None = None,
        keep_size: bool = True,
        batch: int = 8,
        on_step: OnStep | None = None,
    ) -> list[Edited]:
        """Edit one picture in many ways, many in one way, or each in its own; several times if asked.

        Settings that are None are the model's own. A picture depends on its seed, not on its batch.

        Args:
            images, instructions: of equal number, or one of the two single. Images of any mode, of at least 16
                pixels on each side; they are taken upright, and white stands behind what is transparent.
            text_scale: s_T, how strongly to edit; any number.
            image_scale: s_I, how much to keep; any number.
            steps: of the sampler.
            seeds: one, counted up over the samples; or one for each sample; or one for each picture made. Drawn, and
                told in the result, if None.
            samples: pictures of each image and instruction.
            scheduler: euler_a, euler, ddim or dpm.
            resolution: long side of the picture that the model works on, in pixels.
            keep_size: bring results back to the sizes of their originals, and give them their transparency; else
                they are as the model made them.
            batch: pictures at once; the UNet sees up to three rows for each.
            on_step: called after each step of each batch with its number and the latents.

        Returns:
            Edited pictures: image by image or instruction by instruction, and within these sample by sample.

        Raises:
            InstructionError: an instruction is empty, or there are not as many as images or seeds.
            ImageError: an image is smaller than 16 x 16 pixels, or longer than 20 : 1.
            ConfigError: a setting is out of range.
        """
        settings = self.backbone.settings.replaced(
            text_scale=text_scale, image_scale=image_scale, steps=steps, scheduler=scheduler, resolution=resolution
        )
        settings = settings.replaced(resolution=settings.resolution or self.backbone.image_size)
        assert settings.resolution is not None
        jobs = plan(images, instructions, seeds, samples)
        sizes = [working_size(job.image.size, settings.resolution, self.backbone.downscale) for job in jobs]
        results: dict[int, Edited] = {}
        for rows in alike(sizes, batch):
            drawn = self._edit_batch([jobs[row] for row in rows], sizes[rows[0]], settings, on_step)
            for row, image in zip(rows, drawn, strict=True):
                job = jobs[row]
                image = with_alpha(resized(image, job.image.size), job.alpha) if keep_size else image
                results[row] = Edited(image, job.seed, self._parameters(job, settings))
        return [results[row] for row in range(len(jobs))]

    def _edit_batch(
        self, jobs: Sequence[Job], size: tuple[int, int], settings: Settings, on_step: OnStep | None
    ) -> list[Image.Image]:
        """Edit pictures together, all at one working size (width, height)."""
        backbone = self.backbone
        generators = [job.generator for job in jobs]
        pictures = to_tensor([resized(job.image, size) for job in jobs]).to(backbone.device)
        condition = backbone.encode_condition(pictures)
        guided = DualGuidance(
            backbone.predict, condition, backbone.encode_text([job.text for job in jobs]), backbone.encode_text([""]),
            text_scale=settings.text_scale, image_scale=settings.image_scale,
        )  # fmt: skip
        latents = sample(
            guided,
            randn(tuple(condition.shape[1:]), generators, device=backbone.device),
            make_scheduler(backbone.scheduler, settings.scheduler),
            steps=settings.steps, generators=generators, on_step=on_step,
        )  # fmt: skip
        return to_images(backbone.decode(latents))

    def _parameters(self, job: Job, settings: Settings) -> dict[str, Any]:
        """Everything that the picture of a job depends on."""
        versions = (f"{name} {importlib.metadata.version(name)}" for name in ("ip2p", "torch", "diffusers"))
        return {
            "instruction": job.text,
            "seed": job.seed,
            **settings.model_dump(include={"text_scale", "image_scale", "steps", "scheduler", "resolution"}),
            "model": self.backbone.name,
            "precision": PRECISION.get(self.backbone.dtype, str(self.backbone.dtype)),
            "device": self.backbone.device.type,
            "versions": ", ".join(versions),
        }


def best_device() -> torch.device:
    """cuda, then mps, then cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
