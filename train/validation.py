"""Validation during a run: the loss on held-out pairs, and sheets of edits."""

from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from ip2p.diffusion.noise import ForwardProcess
from ip2p.editing.editor import Editor
from ip2p.pictures.color import to_rgb
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.read import open_image
from ip2p.pictures.write import save_picture
from ip2p.seeding import derive_seed, generator
from ip2p.train.batches import CENTER_CROP, Batches, augment
from ip2p.train.objective import draw_randomness, editing_loss, make_training_batch
from ip2p.train.xl import tokenize_texts

SHEET_EDITS = 6  # edits on a sheet, one in each row
SHEET_STEPS = 20


class Validation:
    """Computes the held-out loss and sheets of edits, with the same noise each time, so that only the weights differ.

    Args:
        batches: held-out pairs.
        model: model with the UNet and the text encoder of the backbone of `batches`.
        process: forward process of the base model.
        folder: folder of the sheets.
    """

    def __init__(self, batches: Batches, model: nn.Module, process: ForwardProcess, folder: Path) -> None:
        self.batches = batches
        self.model = model
        self.process = process
        self.folder = folder

    @torch.no_grad()
    def loss(self, batch: int) -> float:
        """Return the mean loss over all held-out pairs, without dropped conditions, at evenly spaced timesteps.

        Args:
            batch: pairs in a batch.
        """
        count, span = len(self.batches.pairs), self.process.timesteps
        timesteps = ((torch.arange(count) + 0.5) * span / count).long()
        losses = []
        for start in range(0, count, batch):
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
    def sheet(
        self,
        step: int,
        *,
        text_scale: float,
        image_scale: float,
        prompt: str | None = None,
        picture: str | None = None,
    ) -> Path:
        """Write a sheet of held-out originals, the model's edits and the pairs' edited pictures; returns its path.

        Args:
            step: optimizer steps taken.
            text_scale: text guidance scale.
            image_scale: image guidance scale.
            prompt: instruction of one more edit, in the last row, which has no edited picture to compare with.
            picture: picture file that this one edits; None for the first held-out original.
        """
        rows = range(min(SHEET_EDITS, len(self.batches.pairs)))
        pictures = [self.batches.pictures(row) for row in rows]
        instructions = [self.batches.instructions[row] for row in rows]
        if prompt:
            side = self.batches.size
            original = augment(to_rgb(open_image(picture, frame=0)), side, CENTER_CROP) if picture else pictures[0][0]
            pictures.append((original, Image.new("RGB", (side, side), "white")))
            instructions.append(prompt)
        edits = Editor(self.batches.backbone).edit(
            [original for original, _ in pictures],
            instructions,
            text_scale=text_scale,
            image_scale=image_scale,
            steps=SHEET_STEPS,
            seeds=[derive_seed(self.batches.seed, "sheet", str(row)) for row in range(len(pictures))],
        )
        table = [[original, edit.image, edited] for (original, edited), edit in zip(pictures, edits, strict=True)]
        sheet = contact_sheet(table, instructions, ["original", f"edit at step {step}", "edited picture of the pair"])
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.png"
        save_picture(
            sheet, path, {"step": step, "text_scale": text_scale, "image_scale": image_scale, "steps": SHEET_STEPS}
        )
        return path
