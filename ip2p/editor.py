"""Edit pictures by instruction."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch
from PIL import Image

from ip2p.adapters import Lora, add_embeddings, merge_loras, require_readable
from ip2p.backbone import Backbone, Loading, load_backbone
from ip2p.guidance import DualGuidance
from ip2p.images import to_images, to_tensor
from ip2p.jobs import Images, Job, Seeds, Texts, alike, plan, resized, working_size
from ip2p.memory import offload, require_gpu, tile
from ip2p.safety import blacked
from ip2p.sampling import OnStep, make_scheduler, sample
from ip2p.seeding import randn
from ip2p.settings import Settings

PRECISION = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}

BLOCKED = "by the model's safety checker"


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
        *,
        loras: Sequence[Lora] = (),
        embeddings: Sequence[Path] = (),
        cpu_offload: bool = False,
        vae_tiling: bool = False,
        **loading: Unpack[Loading],
    ) -> "Editor":
        """Load an editor of Stable Diffusion 1, 2 or XL, or storybook's, by bundled name, folder, file or hub id.

        Args:
            name: of the model; a file is .safetensors in the original layout.
            device: the best there is if None: cuda, then mps, then cpu.
            dtype: fp32 if None, so that a seed means the same picture everywhere; fp16 or bf16 are faster on a GPU.
            loras, embeddings: files to add to it: LoRA weights with their scales, and words of textual inversion.
            cpu_offload, vae_tiling: spare the GPU's memory: networks wait on the CPU; pictures are decoded in tiles.
            loading: config, allow_pickle and safety_checker, see Loading.

        Raises:
            ModelError: it is not there, damaged, or no editor; or a file does not fit it.
            ConfigError: nothing can be offloaded, since it computes on the CPU.
        """
        device, dtype = torch.device(device or best_device()), dtype or torch.float32
        pickles = loading.get("allow_pickle", False)
        for path in (*(lora.path for lora in loras), *embeddings):
            require_readable(path, allow_pickle=pickles)
        if cpu_offload:
            require_gpu(device)
        place = torch.device("cpu") if cpu_offload else device
        backbone = load_backbone(name, device=place, dtype=dtype, want="editor", **loading)
        merge_loras(backbone, loras, allow_pickle=pickles)
        add_embeddings(backbone, embeddings, allow_pickle=pickles)
        if cpu_offload:
            offload(backbone, device)
        if vae_tiling:
            tile(backbone)
        return cls(backbone)

    @torch.no_grad()
    def edit(
        self,
        images: Images,
        instructions: Texts,
        *,
        negative_prompt: str | None = None,
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
            images, instructions: of equal number, or one of the two single. Images of any sizes.
            negative_prompt: what the pictures should not show; stands where no text stood, in both such branches.
            text_scale: s_T, how strongly to edit; any number.
            image_scale: s_I, how much to keep; any number.
            steps: of the sampler.
            seeds: one, counted up over the samples; or one for each sample; or one for each picture made. Drawn, and
                told in the result, if None.
            samples: pictures of each image and instruction.
            scheduler: euler_a, euler, ddim or dpm.
            resolution: long side of the picture that the model works on, in pixels.
            keep_size: bring results back to the sizes of their originals; else they are as the model made them.
            batch: pictures at once; the UNet sees up to three rows for each.
            on_step: called after each step of each batch with its number and the latents.

        Returns:
            Edited pictures: image by image or instruction by instruction, and within these sample by sample. One that
            the model's safety checker blocks is black, and its parameters say so.

        Raises:
            InstructionError: an instruction is empty, or there are not as many as images or seeds.
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
            chosen, size = [jobs[row] for row in rows], sizes[rows[0]]
            drawn = self._edit_batch(chosen, size, settings, negative_prompt or "", on_step)
            for row, image, unsafe in zip(rows, drawn, self.backbone.flagged(drawn), strict=True):
                job = jobs[row]
                image = resized(blacked(image) if unsafe else image, job.image.size if keep_size else image.size)
                special = {"negative_prompt": negative_prompt, "blocked": unsafe and BLOCKED}
                told = {name: value for name, value in special.items() if value}
                results[row] = Edited(image, job.seed, self._parameters(job, settings) | told)
        return [results[row] for row in range(len(jobs))]

    def _edit_batch(
        self, jobs: Sequence[Job], size: tuple[int, int], settings: Settings, negative: str, on_step: OnStep | None
    ) -> list[Image.Image]:
        """Edit pictures together, all at one working size (width, height)."""
        backbone = self.backbone
        generators = [job.generator for job in jobs]
        pictures = to_tensor([resized(job.image, size) for job in jobs]).to(backbone.device)
        condition = backbone.encode_condition(pictures)
        guided = DualGuidance(
            backbone.predict, condition,
            backbone.encode_text([job.text for job in jobs]), backbone.encode_text([negative]),
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
            **({"adapters": list(self.backbone.adapters)} if self.backbone.adapters else {}),
            "precision": PRECISION.get(self.backbone.dtype, str(self.backbone.dtype)),
            "device": self.backbone.device.type,
            "versions": ", ".join(versions),
        }


def best_device() -> torch.device:
    """cuda, then mps, then cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
