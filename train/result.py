"""Write the results of a run: the editor's folder with its model card, and an HTML report."""

import json
import math
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard, ModelCardData

from ip2p.models.backbone import Backbone, save_backbone
from ip2p.models.bundled import PROGRESS_FILE
from ip2p.pictures.pages import Chart, Curve, data_uri, render_page
from ip2p.plurals import counted, duration
from ip2p.shards import atomic_write
from ip2p.train.adapters import has_lora, save_lora
from ip2p.train.checkpoint import State
from ip2p.train.config import FinetuneConfig
from ip2p.train.exact import ExactFigures, read_exact
from ip2p.train.held_out import HeldOutCurve
from ip2p.train.metrics import read_metrics
from ip2p.train.speed import summarize

CARD_TEMPLATE = Path(__file__).with_name("card.md.jinja")
REPORT_TEMPLATE = Path(__file__).with_name("report.html")
MAX_EXAMPLES, MAX_EXAMPLE_LENGTH = 12, 40
CARD_ROWS = 12
"""Validations in a model card: the first, the last, the one with the lowest loss, and others evenly between."""
CHART_WIDTH, CHART_HEIGHT = 720, 240


def save_editor(
    backbone: Backbone,
    folder: Path,
    config: FinetuneConfig,
    state: State,
    *,
    pairs: Dataset,
    curve: HeldOutCurve | None = None,
    exact: ExactFigures | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write the editor as a diffusers folder, atomically.

    Beside it are default settings (ip2p.json), the progress of the run (progress.json) and the model card (README.md).
    Where the vocabulary of the base model is closed, that of the editor has the words of the instructions besides.

    Args:
        backbone: model with the averaged weights.
        folder: folder to write, replaced if it exists.
        config: settings of the run.
        state: progress of the run.
        pairs: training pairs.
        curve: held-out loss of the run.
        exact: its latest pixel truth.
        extra: texts of further files by name.
    """
    defaults: dict[str, Any] = {
        "text_scale": config.text_scale,
        "image_scale": config.image_scale,
        "steps": 20,
        "scheduler": "euler_a",
        "resolution": config.size or backbone.image_size,
    }
    if backbone.vocabulary:
        instructions = pairs["edit_prompt"]
        examples = [text for text in dict.fromkeys(instructions) if len(text) <= MAX_EXAMPLE_LENGTH][:MAX_EXAMPLES]
        defaults |= backbone.vocabulary.add([*instructions, *state.words], examples).as_json()
    save_backbone(
        backbone,
        folder,
        pipeline_class=backbone.pipeline_class,
        dtype=torch.float16,
        extra={
            "ip2p.json": json.dumps(defaults, indent=1) + "\n",
            "README.md": model_card(
                config, state, folder, pairs=len(pairs), curve=curve or HeldOutCurve(), exact=exact
            ),
            PROGRESS_FILE: state.progress(),
            **(extra or {}),
        },
    )


def save_lora_files(backbone: Backbone, config: FinetuneConfig, folder: Path, *, say: Callable[[str], None]) -> None:
    """Write the LoRA files where they are all that was trained, so that they fit the base model.

    Args:
        backbone: model with the averaged weights.
        config: settings of the run.
        folder: folder to write, replaced if it exists.
        say: function that prints a line.
    """
    if not has_lora(backbone):
        return
    if backbone.unet.conv_in.weight.requires_grad:
        say("no LoRA files: the base model has no channels for the picture, and the editor has them and all else")
        return
    save_lora(backbone, folder)
    say(f"LoRA: {folder}, for {config.base}, in the layouts of diffusers and of kohya")


def model_card(
    config: FinetuneConfig,
    state: State,
    folder: Path,
    *,
    pairs: int,
    curve: HeldOutCurve,
    exact: ExactFigures | None = None,
) -> str:
    """Return the text of the model card: what the editor is, how it was trained, and how to use it."""
    header = ModelCardData(library_name="diffusers", pipeline_tag="image-to-image", tags=["instruct-pix2pix", "ip2p"])
    card = ModelCard.from_template(
        header, template_path=str(CARD_TEMPLATE), config=config, state=state, pairs=pairs, device=device_name(),
        editor=folder, curve=[(each.step, f"{each.loss:.4f}") for each in curve.thinned(CARD_ROWS)],
        exact=exact, settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip(),
    )  # fmt: skip
    return f"{card}\n"


def write_report(out: Path, state: State, *, pairs: int, curve: HeldOutCurve | None = None) -> Path:
    """Write report.html, with figures, the loss over the steps and the newest sheet of edits; returns its path.

    Args:
        out: folder of the run.
        state: progress of the run.
        pairs: number of training pairs, if they are not streamed.
        curve: held-out loss of the run; None for all that its metrics have.
    """
    rows = read_metrics(out / "metrics.jsonl")
    curve = curve or HeldOutCurve.read(out / "metrics.jsonl")
    losses = [(float(row["step"]), float(row["loss"])) for row in rows if math.isfinite(row.get("loss", math.nan))]
    held_out = [(float(step), loss) for step, loss in curve.points if math.isfinite(loss)]
    facts = {
        "steps": str(state.step),
        "samples": f"{state.samples} from {'a stream of pairs' if state.config.get('streaming') else f'{pairs} pairs'}",
        "time": f"{duration(state.seconds)} on {device_name()} in {state.precision}",
        "speed": summarize(rows) or "not measured",
        "held-out loss": curve.tell() or "not measured",
    }
    if exact := read_exact(out / "metrics.jsonl"):
        facts |= {
            f"on exact targets, step {exact.step}": f"pixel truth {100 * exact.truth:.1f} %, edit accuracy "
            f"{100 * exact.accuracy:.1f} %, pixels kept {100 * exact.preservation:.1f} %"
        }
    sheets = sorted((out / "validation").glob("step-*.png"))
    page = render_page(
        REPORT_TEMPLATE, title="Fine-tuning report", facts=facts, chart=loss_chart(losses, held_out),
        sheet=data_uri(sheets[-1].read_bytes(), "png") if sheets else None,
    )  # fmt: skip
    atomic_write(out / "report.html", page.encode())
    return out / "report.html"


def loss_chart(losses: list[tuple[float, float]], held_out: list[tuple[float, float]]) -> Chart | None:
    """Plot the smoothed training loss and the held-out loss over the steps.

    Args:
        losses: (step, training loss) of each step.
        held_out: (step, held-out loss) of each validation.

    Returns:
        The chart; None without any loss.
    """
    window = max(1, len(losses) // 50)
    chunks = [losses[start : start + window] for start in range(0, len(losses), window)]
    smooth = [(chunk[-1][0], sum(loss for _, loss in chunk) / len(chunk)) for chunk in chunks]
    points = smooth + held_out
    if not points:
        return None
    last, top = max(step for step, _ in points), max(loss for _, loss in points) * 1.05 or 1.0
    mean = f", mean over {window} steps" if window > 1 else ""
    return Chart(
        CHART_WIDTH, CHART_HEIGHT, x=(0, last), y=(0, top), ticks=True, top="loss", right="step",
        curves=[Curve(smooth, "gray", 1), Curve(held_out, "royalblue", 4)],
        legend=[(f"training{mean}", "gray"), ("held-out pairs, nothing dropped", "royalblue")],
    )  # fmt: skip


def device_name() -> str:
    """Return the name of the GPU, or of the processor with its number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    processor = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return f"{processor} ({counted(torch.get_num_threads(), 'CPU thread')})"
