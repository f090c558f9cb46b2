"""Validation during a run: the loss on held-out pairs, and edits of them, as a sheet and scored."""

import dataclasses
import hashlib
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import torch
from datasets import Dataset
from PIL import Image
from torch import nn

from ip2p.diffusion.noise import ForwardProcess
from ip2p.editing.editor import Editor
from ip2p.evaluation.samples import Pictures, Sample, storybook_samples
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.pixel_truth import pixel_truth
from ip2p.pairs.stored import read_stored
from ip2p.pictures.color import to_rgb
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.read import open_image
from ip2p.pictures.tensors import to_tensor
from ip2p.pictures.write import save_picture
from ip2p.seeding import derive_seed, generator
from ip2p.train.batches import CENTER_CROP, PICTURE_COLUMNS, Batches, augment, told_by_row
from ip2p.train.config import FinetuneConfig
from ip2p.train.exact import NAMES
from ip2p.train.interrupt import Interrupted
from ip2p.train.objective import draw_randomness, editing_loss, make_training_batch
from ip2p.train.xl import tokenize_texts

EDIT_STEPS = 20
"""Denoising steps of an edit."""
PIXELS = 4 * 512**2
"""Pixels in a batch of the held-out loss: four pictures of 512 px, and one at least."""


class EditSettings(NamedTuple):
    """Settings of the edits of a validation.

    Attributes:
        scenes: largest number of held-out scenes that are edited.
        text_scale, image_scale: guidance scales.
        exact: number of scenes with exact targets that are edited besides, where the base draws storybook's world.
        prompt: instruction of one more edit, in the last row of the sheet, which has no edited picture to compare with.
        picture: picture file that this one edits; None for the first held-out original.
    """

    scenes: int
    text_scale: float
    image_scale: float
    prompt: str | None = None
    picture: str | None = None
    exact: int = 0

    @classmethod
    def of(cls, config: FinetuneConfig) -> "EditSettings":
        """Return those of a run."""
        return cls(
            config.validation_edits, config.text_scale, config.image_scale, config.validation_prompt,
            config.validation_image, config.validation_exact,
        )  # fmt: skip


class Validation:
    """Computes the held-out loss and draws edits, with the same noise each time, so that only the weights differ.

    Args:
        batches: held-out pairs.
        model: model with the UNet and the text encoder of the backbone of `batches`.
        process: forward process of the base model.
        folder: folder of the sheets.
        settings: how edits are drawn.
        clip: CLIP model that scores the edits; None for no scores.
        interrupted: function that tells whether a signal came; it is asked before each batch and each denoising step.
    """

    def __init__(
        self,
        batches: Batches,
        model: nn.Module,
        process: ForwardProcess,
        folder: Path,
        settings: EditSettings,
        *,
        clip: ClipScorer | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.batches, self.model, self.process = batches, model, process
        self.folder, self.settings, self.clip, self._interrupted = folder, settings, clip, interrupted

    @torch.no_grad()
    def loss(self) -> float:
        """Return the mean loss over all held-out pairs, without dropped conditions, at evenly spaced timesteps.

        The batch follows from the size of the pictures alone, so that the loss is the same for any batch and number of
        processes of the run.

        Raises:
            Interrupted: a signal came.
        """
        count, span = len(self.batches.pairs), self.process.timesteps
        timesteps = ((torch.arange(count) + 0.5) * span / count).long()
        batch, losses = max(1, PIXELS // self.batches.size**2), []
        for start in range(0, count, batch):
            self._go_on()
            rows = range(start, min(start + batch, count))
            latents = self.batches.encode(rows, [CENTER_CROP] * len(rows))
            _, *shape = latents.mean.shape
            generators = [generator(self.batches.seed, "validate", str(row)) for row in rows]
            draws = draw_randomness(generators, (shape[0], shape[1], shape[2]), span)
            draws = draws._replace(timesteps=timesteps[rows.start : rows.stop])
            texts = [self.batches.instructions[row] for row in rows]
            assembled = make_training_batch(
                texts, latents, draws, drop=0.0, tokenize=partial(tokenize_texts, self.batches.backbone)
            )
            losses.append(editing_loss(self.model, self.process, assembled))
        return torch.cat(losses).mean().item()

    @torch.no_grad()
    def edits(self, step: int) -> tuple[Path | None, dict[str, float]]:
        """Edit held-out originals; writes a sheet of them beside the edited pictures of their pairs.

        Args:
            step: optimizer steps taken.

        Returns:
            The path of the sheet, None if there is nothing to edit, and the mean scores of the edits by name.
        """
        settings, pictures = self.settings, [self.batches.pictures(row) for row in self.rows]
        instructions = [self.batches.instructions[row] for row in self.rows]
        if settings.prompt:
            pictures.append(self._prompted())
            instructions.append(settings.prompt)
        if not pictures:
            return None, {}
        edits = self._draw([original for original, _ in pictures], instructions, "sheet")
        table = [[original, edit, edited] for (original, edited), edit in zip(pictures, edits, strict=True)]
        sheet = contact_sheet(table, instructions, ["original", f"edit at step {step}", "edited picture of the pair"])
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.png"
        scales = {"text_scale": settings.text_scale, "image_scale": settings.image_scale}
        save_picture(sheet, path, {"step": step, **scales, "steps": EDIT_STEPS})
        scored = len(self.rows)
        return path, self.scores(*(list(column[:scored]) for column in zip(*table, strict=True)))

    def scores(
        self, originals: list[Image.Image], edits: list[Image.Image], edited: list[Image.Image]
    ) -> dict[str, float]:
        """Return the mean CLIP scores of edits; empty without a CLIP model or without edits.

        With unit vectors i, j, k of original, edit and the pair's edited picture: clip_image = i.j, the similarity to
        what was there before, and clip_direction = cos(j - i, k - i), whether the change is that of the pair.
        """
        if self.clip is None or not originals:
            return {}
        i, j, k = (self.clip.embed_images(pictures) for pictures in (originals, edits, edited))
        direction = torch.nn.functional.cosine_similarity(j - i, k - i, dim=-1)
        return {"clip_image": (i * j).sum(-1).mean().item(), "clip_direction": direction.mean().item()}

    @torch.no_grad()
    def pixel_truth(self) -> dict[str, float]:
        """Edit storybook scenes and compare the edits with their exact targets; empty where there are none."""
        if not self.samples:
            return {}
        sources, targets = (
            [augment(picture, self.batches.size, CENTER_CROP) for picture in pictures]
            for pictures in (
                [each.source for _, each in self.samples],
                [each.target for _, each in self.samples if each.target],
            )
        )
        edits = self._draw(sources, [each.instruction for each, _ in self.samples], "exact")
        before, exact, made = ((to_tensor(pictures) / 2 + 0.5).clamp(0, 1) for pictures in (sources, targets, edits))
        found = pixel_truth(before, exact, made)
        figures = (found.score, found.mean_accuracy, found.mean_preservation)
        return {name: figure.nanmean().item() for name, figure in zip(NAMES, figures, strict=True)}

    @cached_property
    def samples(self) -> list[tuple[Sample, Pictures]]:
        """Held-out scenes with their exact targets, other ones than `ip2p evaluate` measures."""
        if not self.settings.exact or self.batches.backbone.vocabulary is None:
            return []
        seed = derive_seed(self.batches.seed, "exact", "scenes")
        return [(each, each.load()) for each in storybook_samples(self.settings.exact, seed, stage="exact")]

    def _draw(self, originals: list[Image.Image], instructions: list[str], stage: str) -> list[Image.Image]:
        """Draw edits; the seed of each follows from the stage and its place."""
        learning = dataclasses.replace(self.batches.backbone, vocabulary=None)  # it may know more words than its base
        drawn = Editor(learning).edit(
            originals,
            instructions,
            text_scale=self.settings.text_scale,
            image_scale=self.settings.image_scale,
            steps=EDIT_STEPS,
            on_step=lambda *_: self._go_on(),
            seeds=[derive_seed(self.batches.seed, stage, str(place)) for place in range(len(originals))],
        )
        return [edit.image for edit in drawn]

    def _go_on(self) -> None:
        if self._interrupted():
            raise Interrupted

    @cached_property
    def pairs_key(self) -> int:
        """Number that stands for the held-out pairs: losses of other ones are not compared with those of these."""
        digest = hashlib.blake2b(digest_size=6)
        for row, pair in enumerate(self.batches.pairs):
            digest.update(pair["edit_prompt"].encode())
            for name in PICTURE_COLUMNS:
                with told_by_row(row):
                    digest.update(hashlib.sha256(read_stored(pair[name], f"{name} of row {row}")).digest())
        return int.from_bytes(digest.digest())

    @cached_property
    def rows(self) -> list[int]:
        """Held-out rows that are edited, each of another picture."""
        return different_scenes(self.batches.pairs, self.settings.scenes)

    def _prompted(self) -> tuple[Image.Image, Image.Image]:
        """Return the picture of the prompt, and a white one in place of its edited picture."""
        side, picture = self.batches.size, self.settings.picture
        if picture:
            original = augment(to_rgb(open_image(picture, frame=0)), side, CENTER_CROP)
        else:
            original, _ = self.batches.pictures(0)
        return original, Image.new("RGB", (side, side), "white")


def load_clip(name: str | None, device: torch.device) -> ClipScorer | None:
    """Load the CLIP model that scores edits; None for none.

    Raises:
        ModelError: there is no such model, or it is not a CLIP model in safetensors.
    """
    return ClipScorer.from_pretrained(name, device=device) if name else None


def different_scenes(pairs: Dataset, count: int) -> list[int]:
    """Choose rows whose original pictures differ, evenly spread over all such rows.

    Args:
        pairs: pairs with encoded pictures.
        count: largest number of rows.
    """
    seen: dict[bytes, int] = {}
    for row, pair in enumerate(pairs) if count else ():
        with told_by_row(row):
            picture = read_stored(pair["original_image"], f"original_image of row {row}")
        seen.setdefault(hashlib.sha256(picture).digest(), row)
    rows = list(seen.values())
    if len(rows) <= count:
        return rows
    return [rows[number * len(rows) // count] for number in range(count)]
