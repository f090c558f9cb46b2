"""Export finished storybook models into ip2p/bundled: fp16 weights, and cards with figures on held-out scenes.

The editor, which `train/finetune.py` trains, is exported by `editor.py`.
"""

import copy
import dataclasses
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import ModelCard, ModelCardData
from jaxtyping import Float
from torch import Tensor

from ip2p.editing.generation import generate
from ip2p.errors import ConfigError
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.psnr import psnr
from ip2p.models.backbone import Backbone, load_backbone, save_backbone
from ip2p.models.bundled import RECORD_FILE
from ip2p.pictures.tensors import to_tensor
from ip2p.settings import SETTINGS_FILE
from ip2p.storybook.edits import Case, evaluation_cases
from ip2p.storybook.judge import Judge, attribute_target
from ip2p.storybook.render import render
from ip2p.storybook.scene import ATTRIBUTES
from ip2p.train.checkpoint import State
from ip2p.train.storybook.autoencoder import DecoderTask, laplacian
from ip2p.train.storybook.clip import ClipTask, save_clip
from ip2p.train.storybook.clip import measure as measure_clip
from ip2p.train.storybook.diffusion import DiffusionTask
from ip2p.train.storybook.judge import JudgeTask
from ip2p.train.storybook.world import caption_vocabulary


class ModelDescription(NamedTuple):
    """Facts for the card of a model.

    Attributes:
        title: title of the card.
        text: description in Markdown.
        library: library that loads the model, as the hub calls it.
        task: task of the model, as the hub calls it.
    """

    title: str
    text: str
    library: str
    task: str


BASE = ModelDescription(
    "storybook-base: captions to pictures",
    "A StableDiffusionPipeline of small, standard parts: AutoencoderTiny, CLIPTextModel, UNet2DConditionModel.",
    "diffusers",
    "text-to-image",
)
JUDGE = ModelDescription(
    "storybook-judge: what a picture shows",
    "Reads twelve attributes and the layout, or that a picture shows none of their values clearly. It measures, and\n"
    "nothing else: no filter and no training asks it.",
    "ip2p",
    "image-classification",
)
CLIPS = {
    "clip-a": ModelDescription(
        "storybook-clip-a: the CLIP that filters",
        "A CLIPModel of pictures and captions.",
        "transformers",
        "zero-shot-image-classification",
    ),
    "clip-b": ModelDescription(
        "storybook-clip-b: the CLIP that only measures",
        "As clip-a, smaller, from other random numbers.",
        "transformers",
        "zero-shot-image-classification",
    ),
}
READ_AS_DRAWN = "Attributes read from pictures as drawn (%)"
READ_AS_CAPTIONED = "Attributes read from drawn pictures as captioned (%)"
RECONSTRUCTIONS = "The autoencoder's reconstructions"
FOUND = "Own caption found, and own direction (%)"
LIMITS = "It knows storybook scenes of 256 px and nothing else; for photographs use a real model."
CARD_TEMPLATE = Path(__file__).with_name("card.md.jinja")

FOLDERS = {"diffusion": "base"}
"""Folders of bundled models whose names differ from those of the models."""


def accuracies(judge: Judge, pictures: Float[Tensor, "b 3 h w"], cases: Sequence[Case]) -> dict[str, float]:
    """Return the percentage of values that the judge reads correctly, for each attribute, and their mean as "all".

    Args:
        judge: judge that reads the pictures.
        pictures: pictures in [-1, 1], shape (b, 3, h, w).
        cases: case of each picture, whose scene has the correct values.
    """
    read = judge.read(pictures).attributes
    truth = torch.tensor([attribute_target(case.scene) for case in cases])
    found = {
        name: 100 * float((read[name].cpu() == truth[:, column]).float().mean())
        for column, name in enumerate(ATTRIBUTES)
    }
    return {"all": sum(found.values()) / len(found), **found}


def measure_autoencoder(vae: Any, judge: Judge, cases: Sequence[Case]) -> dict[str, float]:
    """Measure PSNR in dB, sharpness in percent of the pictures', and what the judge reads from reconstructions."""
    pictures, device = to_tensor([render(case.scene) for case in cases]), next(vae.parameters()).device
    with torch.inference_mode():
        parts = [vae.decode(vae.encode(rows.to(device)).latents).sample.clamp(-1, 1) for rows in pictures.split(20)]
    back = torch.cat(parts).cpu()
    sharpness = laplacian(back).square().mean() / laplacian(pictures).square().mean()
    figures = {"PSNR (dB)": float(psnr(back, pictures).mean()), "edges (%)": 100 * float(sharpness)}
    return {**figures, **accuracies(judge, back, cases)}


def measure_judge(judge: Judge, cases: Sequence[Case]) -> dict[str, float]:
    """Measure what the judge reads from pictures of the scenes."""
    return accuracies(judge, to_tensor([render(case.scene) for case in cases]), cases)


def measure_base(backbone: Backbone, judge: Judge, cases: Sequence[Case]) -> dict[str, float]:
    """Measure what the judge reads from pictures drawn from captions; what a caption does not name should be absent."""
    drawn = generate(backbone, [case.caption for case in cases], seeds=list(range(len(cases))), batch=25)
    return accuracies(judge, to_tensor(drawn), cases)


def measure_models(
    folder: Path, *, scenes: int, device: torch.device
) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Measure what is trained on pictures as drawn, all but the editor, on held-out scenes, as the cards say.

    Args:
        folder: folder of all bundled models.
        scenes: number of held-out scenes.
        device: device to compute on.

    Yields:
        The name of a model's folder, and its figures by their captions in its card, as soon as they are measured.
    """
    cases, judge = evaluation_cases(scenes), Judge.from_pretrained(folder / "judge", device=device)
    yield "judge", {READ_AS_DRAWN: measure_judge(judge, cases)}
    for name in CLIPS:
        if (folder / name).is_dir():
            yield name, {FOUND: measure_clip(ClipScorer.from_pretrained(folder / name, device=device), scenes)}
    base = load_backbone(folder / "base", want="base", device=device)
    drawn, reconstructed = measure_base(base, judge, cases), measure_autoencoder(base.vae, judge, cases)
    yield "base", {READ_AS_CAPTIONED: drawn, RECONSTRUCTIONS: reconstructed}


def exported_folders(out: Path, model: str) -> list[Path]:
    """Return the folders that the export of a model replaces: its own, or, of a decoder, those that have one already.

    Args:
        out: folder of all bundled models.
        model: name of the model.
    """
    if model == "decoder":
        return [folder for folder in (out / "base", out / "editor") if folder.exists()]
    return [out / FOLDERS.get(model, model)]


def require_replaceable(folder: Path, sources: Sequence[Path] = ()) -> None:
    """Check that a folder is absent or an earlier export, and none that models are read from.

    Raises:
        ConfigError: the folder is neither.
    """
    if any(source.resolve().is_relative_to(folder.resolve()) for source in sources):
        raise ConfigError(
            f"{folder} would be replaced, and holds what is to be exported", "Give another folder by --out"
        )
    if folder.exists() and not (folder / RECORD_FILE).is_file():
        raise ConfigError(f"{folder} is there and is no exported model", "Give another folder by --out, or move it")


def export(task: object, state: State, out: Path, *, scenes: int) -> None:
    """Write a trained model with its card. Export the judge first, because it measures the others.

    Args:
        task: task with the averaged weights in its modules.
        state: progress of its last checkpoint.
        out: folder of all bundled models.
        scenes: number of held-out scenes to measure on.
    """
    cases = evaluation_cases(scenes)
    if isinstance(task, JudgeTask):
        judge = Judge(task.net)
        figures = {READ_AS_DRAWN: measure_judge(judge, cases)}
        extra = {"README.md": card(JUDGE, sessions("judge"), state, figures), RECORD_FILE: record(state, figures)}
        judge.save_pretrained(out / "judge", extra=extra)
    elif isinstance(task, DiffusionTask):
        judge, backbone = Judge.from_pretrained(out / "judge"), task.backbone
        figures = {
            READ_AS_CAPTIONED: measure_base(backbone, judge, cases),
            RECONSTRUCTIONS: measure_autoencoder(backbone.vae, judge, cases),
        }
        body = card(BASE, sessions("autoencoder", "judge", f"diffusion --unet {task.unet}"), state, figures)
        own = backbone.settings.model_dump()
        defaults = {name: own[name] for name in ("scale", "steps", "scheduler")} | caption_vocabulary().as_json()
        settings = json.dumps(defaults, indent=1) + "\n"
        extra = {"README.md": body, SETTINGS_FILE: settings, RECORD_FILE: record(state, figures)}
        save_backbone(backbone, out / "base", pipeline_class="StableDiffusionPipeline", extra=extra)
    elif isinstance(task, DecoderTask):
        measured = measure_autoencoder(task.vae, Judge.from_pretrained(out / "judge"), cases)
        for folder in exported_folders(out, "decoder"):
            replace_decoder(folder, task.vae, measured, state)
    elif isinstance(task, ClipTask):
        figures = {FOUND: measure_clip(task.scorer(), scenes)}
        body = card(CLIPS[task.name], sessions(task.name), state, figures)
        save_clip(task, out / task.name, {"README.md": body, RECORD_FILE: record(state, figures)})


def replace_decoder(folder: Path, vae: Any, figures: Mapping[str, float], state: State) -> None:
    """Replace the decoder of a bundled model, and update its card.

    Args:
        folder: folder of the bundled model.
        vae: autoencoder with the new decoder and the same encoder.
        figures: figures of its reconstructions.
        state: progress of the decoder's training.
    """
    backbone = load_backbone(folder)
    larger = copy.deepcopy(vae)  # the decoder may have grown; the encoder is the bundled one
    larger.encoder.load_state_dict(backbone.vae.encoder.state_dict())
    backbone = dataclasses.replace(backbone, vae=larger)
    line = (
        f"    python train/storybook/base.py decoder  # {state.samples:,} samples, {state.seconds / 60:.0f} minutes\n"
    )
    extra = {**replace_figures(folder, {RECONSTRUCTIONS: figures}), SETTINGS_FILE: (folder / SETTINGS_FILE).read_text()}
    if f"{RECONSTRUCTIONS}:\n\n" in extra["README.md"]:
        end = "    python train/storybook/base.py export\n"
        extra["README.md"] = extra["README.md"].replace(end, line + end)
    save_backbone(backbone, folder, pipeline_class=backbone.pipeline_class, extra=extra)


def replace_figures(folder: Path, figures: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Return card and record of a bundled model, by name of the file, with other figures; it writes nothing.

    Args:
        folder: folder of the bundled model.
        figures: tables of figures with one row, by caption; those without a table in the card are only recorded.
    """
    body, content = (folder / "README.md").read_text(), json.loads((folder / RECORD_FILE).read_text())
    for what, values in figures.items():
        before, caption, after = body.partition(f"{what}:\n\n")
        if caption:
            _, gap, rest = after.partition("\n\n")
            body = before + caption + _table(values) + gap + rest
    content["figures"] |= _rounded(figures)
    return {"README.md": body, RECORD_FILE: json.dumps(content, indent=1) + "\n"}


def record(state: State, figures: Mapping[str, Mapping[str, float]], **more: Any) -> str:
    """Return the progress of a training, the figures measured then, and what else is to be kept, as JSON."""
    progress = state.model_dump(include={"step", "updates", "samples", "seconds", "precision"})
    return json.dumps({**progress, "figures": _rounded(figures), **more}, indent=1) + "\n"


def _rounded(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {what: {name: round(value, 2) for name, value in values.items()} for what, values in figures.items()}


def read_record(bundled: Path, model: str) -> State:
    """Read the progress of the training of a bundled model; no progress if the folder has no record."""
    path = bundled / FOLDERS.get(model, model) / RECORD_FILE
    if not path.is_file():
        return State()
    content = json.loads(path.read_text())
    return State(**{name: content[name] for name in ("step", "updates", "samples", "seconds", "precision")})


def sessions(*models: str) -> list[str]:
    """Return the commands that train models in order and export them."""
    return [f"python train/storybook/base.py {each}" for each in (*models, "export")]


def card(
    about: ModelDescription,
    commands: Sequence[str],
    state: State,
    figures: Mapping[str, Mapping[str, float]],
    data: str = "pictures of the storybook world alone",
    tables: Mapping[str, str] | None = None,
    limits: str = LIMITS,
) -> str:
    """Return the card of a bundled model in Markdown: what it is, how it was made, its figures, and its limits.

    Args:
        about: description of the model.
        commands: commands that make it, in order.
        state: progress of the training.
        figures: tables of figures with one row, by caption.
        data: what it was trained on.
        tables: further tables in Markdown, by caption.
        limits: what it cannot do.
    """
    header = ModelCardData(library_name=about.library, pipeline_tag=about.task, tags=["ip2p", "storybook"])
    text = ModelCard.from_template(
        header, template_path=str(CARD_TEMPLATE), about=about, commands=commands, state=state, data=data,
        figures=figures, device="a GPU" if torch.cuda.is_available() else f"a CPU ({platform.machine()})", table=_table,
        tables=tables or {}, limits=limits,
    )  # fmt: skip
    return f"{text}\n"


def _table(figures: Mapping[str, float]) -> str:
    """Return a Markdown table with one row."""
    numbers = " | ".join(f"{value:.1f}" for value in figures.values())
    return "\n".join(["| " + " | ".join(figures) + " |", "|" + " --- |" * len(figures), f"| {numbers} |"])
