"""Write the results of a run: the editor's folder with its model card, and an HTML report."""

import json
import math
import platform
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from ip2p.errors import one_line
from ip2p.models.backbone import Backbone, save_backbone
from ip2p.pictures.pages import Chart, Curve, data_uri, render_page
from ip2p.shards import atomic_write
from ip2p.train.checkpoint import State
from ip2p.train.config import FinetuneConfig
from ip2p.train.metrics import read_metrics

CARD_TEMPLATE = Path(__file__).with_name("card.md.jinja")
REPORT_TEMPLATE = Path(__file__).with_name("report.html")
MAX_EXAMPLES, MAX_EXAMPLE_LENGTH = 12, 40
CHART_WIDTH, CHART_HEIGHT = 720, 240


def save_editor(backbone: Backbone, folder: Path, config: FinetuneConfig, state: State, *, pairs: Dataset) -> None:
    """Write the editor as a diffusers folder with default settings (ip2p.json) and model card (README.md), atomically.

    Where the vocabulary of the base model is closed, that of the editor has the words of the instructions besides.

    Args:
        backbone: model with the averaged weights.
        folder: folder to write, replaced if it exists.
        config: settings of the run.
        state: progress of the run.
        pairs: training pairs.
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
        defaults |= backbone.vocabulary.add(instructions, examples).as_json()
    save_backbone(
        backbone,
        folder,
        pipeline_class=backbone.pipeline_class,
        dtype=torch.float16,
        extra={
            "ip2p.json": json.dumps(defaults, indent=1) + "\n",
            "README.md": model_card(config, state, pairs=len(pairs)),
        },
    )


def push_editor(folder: Path, name: str) -> str:
    """Upload an editor to the hub as a private model; returns a line that says where it is, or why it is not there.

    A hub that cannot be reached costs no run: the editor is whole in its folder.

    Args:
        folder: folder of the editor.
        name: name of the model, with or without its owner.
    """
    api = HfApi()
    try:
        made = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Upload by ip2p")
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
        return (
            f"not uploaded as {name} ({one_line(error, 160)}); log in by `hf auth login`, then "
            f"`hf upload {name} {folder}`"
        )
    return f"uploaded: {made}"


def model_card(config: FinetuneConfig, state: State, *, pairs: int) -> str:
    """Return the text of the model card: what the editor is, how it was trained, and how to use it."""
    header = ModelCardData(library_name="diffusers", pipeline_tag="image-to-image", tags=["instruct-pix2pix", "ip2p"])
    card = ModelCard.from_template(
        header, template_path=str(CARD_TEMPLATE), config=config, state=state, pairs=pairs, device=device_name(),
        editor=Path(config.out) / "editor",
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip(),
    )  # fmt: skip
    return f"{card}\n"


def write_report(out: Path, state: State, *, pairs: int) -> Path:
    """Write report.html, with figures, the loss over the steps and the newest sheet of edits; returns its path."""
    rows = read_metrics(out / "metrics.jsonl")
    losses, held_out = (
        [(float(row["step"]), float(row[key])) for row in rows if math.isfinite(row.get(key, math.nan))]
        for key in ("loss", "held_out_loss")
    )
    facts = {
        "steps": str(state.step),
        "samples": f"{state.samples} from {pairs} pairs",
        "hours": f"{state.seconds / 3600:.2f} on {device_name()} in {state.precision}",
        "last held-out loss": f"{held_out[-1][1]:.4f}" if held_out else "not measured",
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
    curves = [Curve(smooth, "gray", 1), Curve(held_out, "royalblue", 4)]
    return Chart(
        CHART_WIDTH,
        CHART_HEIGHT,
        x=(0, last),
        y=(0, top),
        curves=curves,
        top=f"{top:.3f}",
        left="0",
        right=f"step {last:g}",
    )


def device_name() -> str:
    """Return the name of the GPU, or of the processor with its number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    processor = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return f"{processor} ({torch.get_num_threads()} CPU threads)"
