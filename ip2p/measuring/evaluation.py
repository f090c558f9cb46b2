"""Evaluate an editor on held-out storybook scenes, where every edit has its exact target and a judge reads pictures.

Baselines on the same scenes and seeds are the input itself, a picture drawn from the edited caption, and SDEdit at the
strength that did best on other scenes.
"""

import json
import logging
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Unpack

import torch
from jaxtyping import Float
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ip2p.device import best_device
from ip2p.editing.editor import Editor
from ip2p.editing.generation import generate, img2img
from ip2p.editing.requests import resize
from ip2p.measuring.tables import Measurement, Score, full_table, kinds_table, overall_table, scores_by_method
from ip2p.models.backbone import Backbone, LoadingOptions, load_backbone
from ip2p.models.bundled import DEFAULT_EDITOR
from ip2p.models.checkpoint import WeightsChoice
from ip2p.ownership import require_own
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.tensors import to_tensor
from ip2p.pictures.write import save_picture
from ip2p.progress import StageProgress
from ip2p.seeding import derive_seed
from ip2p.shards import atomic_write
from ip2p.storybook.edits import Case, evaluation_cases
from ip2p.storybook.free import free_cases
from ip2p.storybook.judge import Judge, Outcome
from ip2p.storybook.render import render

EDITOR, COPY, TEXT_TO_IMAGE, SDEDIT = "editor", "copy of the input", "text-to-image", "SDEdit"
OUTPUTS = ("evaluation.json", "evaluation.md", "sheet.png")
logger = logging.getLogger(__name__)

STRENGTHS = (0.3, 0.5, 0.7, 0.85)
TRIAL_SCENES = 24  # for the strength of SDEdit; more scenes would cost minutes for little accuracy
BATCH_SIZE = 16
SHEET_ROWS = 12

Measure = Callable[[Float[Tensor, "b 3 h w"], Sequence[Case]], list[Outcome]]
Draw = Callable[[Sequence["Trial"]], list[Image.Image]]


class Trial(NamedTuple):
    """A case with its number, its seed and the pictures before and after the edit."""

    number: int
    case: Case
    seed: int
    source: Image.Image
    target: Image.Image


class Evaluation(BaseModel):
    """The results of an evaluation, with its settings. As text, it is a table."""

    model_config = ConfigDict(frozen=True)

    editor: str
    weights: WeightsChoice | None = None
    base: str
    scenes: int
    seed: int
    device: str
    versions: str
    strength: float
    strengths: dict[str, float]
    scores: dict[str, dict[str, Score]]
    rows: list[Measurement]

    def __str__(self) -> str:
        tried = ", ".join(f"{strength}: {100 * product:.1f} %" for strength, product in self.strengths.items())
        which = f" ({self.weights} weights)" if self.weights else ""
        return (
            f"{self.editor}{which} on {self.scenes} held-out scenes (seed {self.seed}); baselines by {self.base}.\n"
            "Means; success x preservation is multiplied scene by scene, with a 95 % bootstrap interval.\n"
            f"SDEdit at strength {self.strength}, the best on {TRIAL_SCENES} other scenes ({tried}).\n\n"
            f"{overall_table(self.scores)}\n\n{kinds_table(self.scores)}"
        )


def evaluate(
    editor_name: str = DEFAULT_EDITOR,
    base_name: str = "storybook-base",
    *,
    scenes: int = 200,
    seed: int = 2024,
    out: Path = Path("runs/evaluation"),
    free: bool = False,
    measure: Measure | None = None,
    say: Callable[[str], None] = logger.info,
    **loading: Unpack[LoadingOptions],
) -> Evaluation:
    """Evaluate an editor and its baselines, and write evaluation.json, evaluation.md and sheet.png.

    Args:
        editor_name: bundled name, folder or hub id of an editor.
        base_name: bundled name, folder or hub id of the baselines' text-to-image model.
        scenes: number of held-out scenes, each with one edit.
        seed: seed of the scenes and of all noise; equal seeds give equal figures on equal machines.
        out: folder to write to.
        free: whether to use the sixty free instructions, which no template made, in place of `scenes` instructions.
        measure: function that judges pictures; the bundled judge if None.
        say: function that prints a line about the progress, if there is no terminal for a bar.
        loading: config, weights, allow_pickle and safety_checker of the editor, see LoadingOptions.

    Raises:
        ModelError: a model is missing or of another kind.
        DataError: the folder has files of these names that no evaluation made.
    """
    require_own(out, OUTPUTS, mark=OUTPUTS[0], keys=("editor", "scenes", "scores"))
    measure = measure or Judge.from_pretrained("storybook-judge").measure
    editor = Editor.from_pretrained(editor_name, **loading)
    base = load_backbone(base_name, device=best_device(), want="base")
    trials = make_trials(free_cases(seed), seed, "free") if free else held_out_trials(scenes, seed, "evaluate")
    strengths = _try_strengths(base, held_out_trials(TRIAL_SCENES, seed + 1, "strength"), measure, say)
    strength = max(strengths, key=lambda each: strengths[each])
    pictures = {
        EDITOR: _draw_batches(EDITOR, _edit_with(editor), trials, say),
        COPY: [trial.source for trial in trials],
        TEXT_TO_IMAGE: _draw_batches(TEXT_TO_IMAGE, _generate_with(base), trials, say),
        SDEDIT: _draw_batches(SDEDIT, _sdedit_with(base, strength), trials, say),
    }
    rows = [row for method, made in pictures.items() for row in judge_pictures(method, trials, made, measure)]
    evaluation = Evaluation(
        editor=editor_name, weights=editor.backbone.weights, base=base_name, scenes=len(trials), seed=seed,
        device=base.device.type,
        versions=", ".join(f"{name} {version(name)}" for name in ("ip2p", "torch", "diffusers")),
        strength=strength, strengths={str(each): product for each, product in strengths.items()},
        scores=scores_by_method(rows, seed), rows=rows,
    )  # fmt: skip
    _write(evaluation, trials, pictures, out)
    return evaluation


def judge_pictures(
    method: str, trials: Sequence[Trial], pictures: Sequence[Image.Image], measure: Measure
) -> list[Measurement]:
    """Judge the pictures of a method, and measure their PSNR against the exact targets."""
    rows = []
    for start in range(0, len(trials), BATCH_SIZE):
        chosen, made = trials[start : start + BATCH_SIZE], pictures[start : start + BATCH_SIZE]
        x = to_tensor([resize(image, trial.source.size) for image, trial in zip(made, chosen, strict=True)])
        decibels = psnr(x, to_tensor([trial.target for trial in chosen]))
        for trial, outcome, ratio in zip(chosen, measure(x, [trial.case for trial in chosen]), decibels, strict=True):
            rows.append(
                Measurement(
                    method=method, scene=trial.number, kind=trial.case.edit.kind, instruction=trial.case.instruction,
                    seed=trial.seed, success=bool(outcome.success), attributes_kept=round(outcome.attributes_kept, 4),
                    layout_kept=round(outcome.layout_kept, 4), preservation=round(outcome.preservation, 4),
                    psnr=round(float(ratio), 3),
                )
            )  # fmt: skip
    return rows


def psnr(x: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of pictures in [-1, 1] in dB, 10 log10(2^2 / mse); 60 for equal pictures."""
    mse = (x - target).square().flatten(1).mean(1)
    return (10 * torch.log10(4 / mse.clamp_min(1e-30))).clamp_max(60)


def held_out_trials(count: int, seed: int, stage: str) -> list[Trial]:
    """Make trials of `count` held-out cases."""
    return make_trials(evaluation_cases(count, seed), seed, stage)


def make_trials(cases: Sequence[Case], seed: int, stage: str) -> list[Trial]:
    """Make trials of cases: derive their seeds and render their pictures."""
    return [
        Trial(number, case, derive_seed(seed, stage, str(number)), render(case.scene), render(case.target))
        for number, case in enumerate(cases)
    ]


def _try_strengths(
    base: Backbone, trials: Sequence[Trial], measure: Measure, say: Callable[[str], None]
) -> dict[float, float]:
    """Measure the mean success x preservation of SDEdit by strength."""
    products = {}
    for strength in STRENGTHS:
        pictures = _draw_batches(f"{SDEDIT} at {strength}", _sdedit_with(base, strength), trials, say)
        rows = judge_pictures(SDEDIT, trials, pictures, measure)
        products[strength] = round(sum(row.product for row in rows) / len(rows), 4)
    return products


def _draw_batches(name: str, draw: Draw, trials: Sequence[Trial], say: Callable[[str], None]) -> list[Image.Image]:
    """Draw the pictures of a method in batches, with a progress bar."""
    made: list[Image.Image] = []
    with StageProgress(name, "pictures", total=len(trials), done=0, say=say, transient=True) as progress:
        for start in range(0, len(trials), BATCH_SIZE):
            batch = draw(trials[start : start + BATCH_SIZE])
            made += batch
            progress.advance(len(batch))
    return made


def _edit_with(editor: Editor) -> Draw:
    return lambda trials: [
        edited.image
        for edited in editor.edit(
            [trial.source for trial in trials],
            [trial.case.instruction for trial in trials],
            seeds=[trial.seed for trial in trials],
            batch=BATCH_SIZE,
        )
    ]


def _generate_with(base: Backbone) -> Draw:
    return lambda trials: generate(
        base, [trial.case.edited_caption for trial in trials], seeds=[trial.seed for trial in trials], batch=BATCH_SIZE
    )


def _sdedit_with(base: Backbone, strength: float) -> Draw:
    return lambda trials: img2img(
        base,
        [trial.source for trial in trials],
        [trial.case.edited_caption for trial in trials],
        strength=strength,
        seeds=[trial.seed for trial in trials],
        batch=BATCH_SIZE,
    )


def _write(evaluation: Evaluation, trials: Sequence[Trial], pictures: dict[str, list[Image.Image]], out: Path) -> None:
    """Write the figures as JSON and as tables, and a contact sheet with an edit of every kind."""
    first = {trial.case.edit.kind: trial for trial in reversed(trials)}
    shown = list(islice(sorted(first.values(), key=lambda trial: trial.number), SHEET_ROWS))
    sheet = contact_sheet(
        [
            [
                trial.source,
                *(pictures[method][trial.number] for method in (EDITOR, TEXT_TO_IMAGE, SDEDIT)),
                trial.target,
            ]
            for trial in shown
        ],
        [trial.case.instruction for trial in shown],
        ["input", EDITOR, TEXT_TO_IMAGE, f"{SDEDIT} at {evaluation.strength}", "exact target"],
    )
    about = evaluation.model_dump(include={"editor", "base", "scenes", "seed", "versions"})
    figures = json.dumps(evaluation.model_dump(mode="json"), indent=1) + "\n"
    atomic_write(out / OUTPUTS[0], figures.encode())  # says whose the others are
    save_picture(sheet, out / "sheet.png", about)
    text = f"# Evaluation\n\n{evaluation}\n\n## Every method, by kind of edit\n\n{full_table(evaluation.scores)}\n"
    atomic_write(out / "evaluation.md", text.encode())
