"""Measures of edited pictures: pixel truth, the judge's reading, CLIP's scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ip2p.editing.requests import resize
from ip2p.evaluation.samples import Pictures, Sample
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.dino import Dino
from ip2p.measuring.pixel_truth import pixel_truth
from ip2p.measuring.psnr import psnr
from ip2p.measuring.published import (
    KEPT,
    MAGIC_BRUSH,
    PIE_BENCH,
    emu_edit,
    find_lpips,
    kept_parts,
    magic_brush,
    pie_bench,
)
from ip2p.measuring.ranking import MIN_CHANGE
from ip2p.pictures.tensors import to_tensor
from ip2p.storybook.judge import Judge, outcomes

Figures = dict[str, float]
"""Figures of one picture by the names in `MEASURES`; those that are not defined for it are left out."""


class Measure(NamedTuple):
    """A measure of edited pictures.

    Attributes:
        title: title of its column.
        percent: whether it is a share, shown in per cent.
        meaning: what it is, one sentence.
        yes_or_no: whether it is 0 or 1 for a picture.
    """

    title: str
    percent: bool
    meaning: str
    yes_or_no: bool = False


MEASURES: dict[str, Measure] = {
    "iou": Measure(
        "pixel truth", True,
        "IoU of the pixels that should change and those that do, counted where they are right; mean over dE 1 to 10",
    ),
    "accuracy": Measure("edit accuracy", True, "share of the pixels to change that are as in the exact target"),
    "nearer": Measure(
        "nearer to the target", True, "share of the pixels to change that are nearer to the target than to the input"
    ),
    "kept": Measure("pixels kept", True, "share of the other pixels that are as in the input"),
    "sharpness": Measure("sharpness", False, "energy of edges against that of the exact target; below 1 is blurred"),
    "psnr": Measure("PSNR", False, "PSNR against the exact target in dB"),
    "success": Measure("judge: success", True, "the judge reads the requested value", yes_or_no=True),
    "preservation": Measure("judge: preservation", True, "the judge reads all else as before, and the same layout"),
    "product": Measure("judge: both", True, "success x preservation, scene by scene"),
    "asked": Measure("vision model: both", True, "a vision model's marks of edit x kept, the mean of both orders"),
    "asked_edit": Measure("vision model: edit", True, "its mark of whether the edit is done"),
    "asked_kept": Measure("vision model: kept", True, "its mark of whether all else is as before"),
    "asked_clean": Measure("vision model: clean", True, "its mark of whether both pictures are drawn whole"),
    "clip_direction": Measure(
        "CLIP direction", False, "cosine of the change of the pictures and the change of the captions"
    ),
    "clip_image": Measure("CLIP image", False, "cosine of the picture before and after"),
    "clip_edited": Measure("CLIP caption", False, "cosine of the edited picture and the edited caption"),
} | {
    f"{whose} {name}": Measure(f"{whose} {name}", False, f"{name} as {whose} defines it; docs/evaluation.md")
    for whose, names in (
        ("MagicBrush", MAGIC_BRUSH), ("Emu Edit", ("L1", "DINO")), ("PIE-Bench", PIE_BENCH), ("masked", KEPT)
    )
    for name in names
}  # fmt: skip
"""All measures by name, the one that matters most first; those of others, which are for pictures without a scene, last.
Emu Edit's three of CLIP are those above."""
CLIP_MEASURES = ("clip_direction", "clip_image", "clip_edited")


class Measured(NamedTuple):
    """Measurements of one picture.

    Attributes:
        figures: figures by name.
        read: values of the attributes as the judge reads them, by name; empty without a judge.
        lacks: why figures are not there, in words.
    """

    figures: Figures
    read: dict[str, str]
    lacks: list[str]


@dataclass
class Batch:
    """Samples with their pictures, and what all methods have in common on them.

    Args:
        samples: samples.
        pictures: their pictures.
        embedded: embeddings by "clip" or "dino" and what is embedded: "input", "target", "caption", "edited caption";
            what a sample lacks has one that means nothing.
    """

    samples: Sequence[Sample]
    pictures: Sequence[Pictures]
    embedded: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)

    def take(self, rows: Sequence[int]) -> "Batch":
        """Take some of the rows."""
        embedded = {name: each[list(rows)] for name, each in self.embedded.items()}
        return Batch([self.samples[row] for row in rows], [self.pictures[row] for row in rows], embedded)

    @classmethod
    def join(cls, batches: Sequence["Batch"]) -> "Batch":
        """Join batches, which have the same kinds of embeddings."""
        kinds = batches[0].embedded if batches else ()
        return cls(
            [sample for each in batches for sample in each.samples],
            [pictures for each in batches for pictures in each.pictures],
            {kind: torch.cat([each.embedded[kind] for each in batches]) for kind in kinds},
        )


class Measurer:
    """Measures edited pictures.

    Args:
        judge: reads pictures of storybook scenes; None measures without it.
        clip: CLIP model; None measures without it.
        dino: DINO of the measures of others; None measures without it.
    """

    def __init__(self, judge: Judge | None, clip: ClipScorer | None, dino: Dino | None = None) -> None:
        self.judge, self.clip, self.dino = judge, clip, dino
        self.lpips = find_lpips()

    def prepare(self, samples: Sequence[Sample], pictures: Sequence[Pictures]) -> Batch:
        """Make a batch: embed inputs, targets and captions once for all methods."""
        embedded: dict[tuple[str, str], Tensor] = {}
        sources, targets = [each.source for each in pictures], [each.target or each.source for each in pictures]
        as_others = any(not each.case for each in samples)
        if self.clip and samples:
            embedded["clip", "input"] = self.clip.embed_images(sources)
            texts = self.clip.embed_texts([text for each in samples for text in (each.caption, each.edited_caption)])
            embedded["clip", "caption"], embedded["clip", "edited caption"] = texts[::2], texts[1::2]
            if as_others:
                embedded["clip", "target"] = self.clip.embed_images(targets)
        if self.dino and as_others:
            embedded["dino", "input"], embedded["dino", "target"] = map(self.dino.embed, (sources, targets))
        return Batch(samples, pictures, embedded)

    def measure(self, batch: Batch, edited: Sequence[Image.Image], *, clip_only: bool = False) -> list[Measured]:
        """Measure the edited pictures of a batch, in order.

        Args:
            batch: batch that `prepare` made, or rows of it.
            edited: edited pictures, which are brought to the sizes of the inputs.
            clip_only: whether only CLIP measures, as for the points of a curve.
        """
        made = [resize(image, each.source.size) for image, each in zip(edited, batch.pictures, strict=True)]
        found: list[Figures] = [{} for _ in made]
        read: list[dict[str, str]] = [{} for _ in made]
        lacks = [list(each.lacks) for each in batch.pictures]
        if not clip_only:
            self._compare_pixels(batch, made, found, lacks)
            self._judge(batch, made, found, read)
            self._compare_as_others(batch, made, found)
        self._embed(batch, made, found, lacks, clip_only=clip_only)
        rounded = [{name: round(value, 6) for name, value in each.items() if math.isfinite(value)} for each in found]
        return [Measured(*row) for row in zip(rounded, read, lacks, strict=True)]

    def _compare_pixels(
        self, batch: Batch, made: Sequence[Image.Image], found: list[Figures], lacks: list[list[str]]
    ) -> None:
        """Compare with exact targets, where there are some."""
        for row, (image, each) in enumerate(zip(made, batch.pictures, strict=True)):
            if each.target is None:
                continue
            source, target, picture = (to_tensor([one]) for one in (each.source, each.target, image))
            truth = pixel_truth(source / 2 + 0.5, target / 2 + 0.5, picture / 2 + 0.5)
            found[row] |= {
                "iou": float(truth.score), "accuracy": float(truth.mean_accuracy),
                "nearer": float(truth.mean_nearer), "kept": float(truth.mean_preservation),
                "sharpness": float(truth.sharpness), "psnr": float(psnr(picture, target)),
            }  # fmt: skip
            lacks[row] += [f"no pixel truth ({fault})" for fault in truth.faults if fault]

    def _compare_as_others(self, batch: Batch, made: Sequence[Image.Image], found: list[Figures]) -> None:
        """Measure pictures without a scene as others have published it."""
        rows = [row for row, each in enumerate(batch.samples) if not each.case]
        if not rows:
            return
        edited, samples = [made[row] for row in rows], [batch.samples[row] for row in rows]
        sources, targets, masks, _ = zip(*(batch.pictures[row] for row in rows), strict=True)
        before, after = [each.caption for each in samples], [each.edited_caption for each in samples]
        figures = {
            "MagicBrush": magic_brush(edited, targets, after),
            "Emu Edit": emu_edit(sources, edited, before, after),
            "PIE-Bench": pie_bench(sources, edited, masks, dino=self.dino, lpips=self.lpips),
            "masked": kept_parts(sources, edited, masks),
        }
        for whose, measured in figures.items():
            for name, values in measured.items():
                for row, value in zip(rows, values, strict=True):
                    found[row][f"{whose} {name}"] = value

    def _judge(
        self, batch: Batch, made: Sequence[Image.Image], found: list[Figures], read: list[dict[str, str]]
    ) -> None:
        """Let the judge read the pictures of storybook scenes."""
        known = [(row, each.case) for row, each in enumerate(batch.samples) if each.case]
        if not self.judge or not known:
            return
        reading = self.judge.read(to_tensor([made[row] for row, _ in known]))
        for place, ((row, _), outcome) in enumerate(
            zip(known, outcomes(reading, [case for _, case in known]), strict=True)
        ):
            success = float(outcome.success)
            found[row] |= {
                "success": success, "preservation": outcome.preservation, "product": success * outcome.preservation
            }  # fmt: skip
            read[row] = reading.values(place)

    def _embed(
        self,
        batch: Batch,
        made: Sequence[Image.Image],
        found: list[Figures],
        lacks: list[list[str]],
        *,
        clip_only: bool,
    ) -> None:
        """Score by CLIP and DINO, each of which sees the edited pictures once; without captions there is no direction.

        MagicBrush and Emu Edit have the same scores by other names.
        """
        if not made:
            return
        if self.clip and ("clip", "input") in batch.embedded:
            images = self.clip.embed_images(made)
            inputs, before, after = (batch.embedded["clip", name] for name in ("input", "caption", "edited caption"))
            near, told = _cosines(images, inputs), _cosines(images, after)
            change, asked = images - inputs, after - before
            direction = F.cosine_similarity(change, asked, dim=-1).clamp(-1, 1)
            direction[change.norm(dim=-1) < MIN_CHANGE] = 0  # rounding has no direction
            told_apart = asked.norm(dim=-1) >= MIN_CHANGE  # other words may be the same tokens
            for row, sample in enumerate(batch.samples):
                found[row]["clip_image"] = near[row]
                if sample.edited_caption:
                    found[row]["clip_edited"] = told[row]
                if sample.has_direction and told_apart[row]:
                    found[row]["clip_direction"] = float(direction[row])
                elif sample.has_direction:
                    lacks[row].append("captions that CLIP cannot tell apart")
            if not clip_only:
                self._match_targets("CLIP-I", batch, _cosines(images, batch.embedded.get(("clip", "target"))), found)
                for row, sample in enumerate(batch.samples):
                    if not sample.case and sample.edited_caption.strip():
                        found[row]["MagicBrush CLIP-T"] = told[row]
        if self.dino and not clip_only and ("dino", "input") in batch.embedded:
            images = self.dino.embed(made)
            self._match_targets("DINO", batch, _cosines(images, batch.embedded["dino", "target"]), found)
            for row, near_input in enumerate(_cosines(images, batch.embedded["dino", "input"])):
                if not batch.samples[row].case:
                    found[row]["Emu Edit DINO"] = near_input

    @staticmethod
    def _match_targets(name: str, batch: Batch, values: Sequence[float], found: list[Figures]) -> None:
        """Add a similarity to the target, as MagicBrush has it, to the rows without a scene that have a target."""
        for row, value in enumerate(values):
            if not batch.samples[row].case and batch.pictures[row].target is not None:
                found[row][f"MagicBrush {name}"] = value


def _cosines(images: Tensor, others: Tensor | None) -> list[float]:
    """Cosines of unit vectors, row by row; none without others."""
    return [] if others is None else [float(each) for each in (images * others).sum(-1).clamp(-1, 1)]


def describe_clip(clip: ClipScorer | None, name: str) -> dict[str, Any]:
    """Describe which CLIP measures, and what it sees: its resolution, normalization and range."""
    if clip is None:
        return {}
    about = clip.preprocessing
    return {
        "clip": name, "clip_side": about.side, "clip_mean": list(about.mean), "clip_std": list(about.std),
        "clip_range": "[-1, 1], as the authors'" if about.original_range else "[0, 1]",
        "clip_resize": "bicubic, " + ("as the authors', not antialiased" if about.original_resize else "antialiased"),
    }  # fmt: skip
