"""What a run leaves: the editor's folder with its card, and a report with pictures."""

import base64
import html
import json
import math
import platform
from pathlib import Path

import torch
import yaml

from ip2p.models.backbone import Backbone, save_backbone
from ip2p.shards import atomic_write
from ip2p.train.checkpoint import State
from ip2p.train.config import FinetuneConfig
from ip2p.train.metrics import read_metrics

WIDTH, HEIGHT = 720, 240


def save_editor(backbone: Backbone, folder: Path, config: FinetuneConfig, state: State, *, pairs: int) -> None:
    """Write the editor as a diffusers folder, with its defaults (ip2p.json) and its card (README.md), all at once.

    Args:
        backbone: carrying the weights that shall be saved, the averaged ones.
        folder: replaced if there.
        config, state: of the run.
        pairs: that it was trained on.
    """
    defaults = {
        "text_scale": config.text_scale,
        "image_scale": config.image_scale,
        "steps": 20,
        "scheduler": "euler_a",
        "resolution": config.size or backbone.image_size,
    }
    save_backbone(
        backbone,
        folder,
        pipeline_class="StableDiffusionInstructPix2PixPipeline",
        dtype=torch.float16,
        extra={"ip2p.json": json.dumps(defaults, indent=1) + "\n", "README.md": model_card(config, state, pairs=pairs)},
    )


def model_card(config: FinetuneConfig, state: State, *, pairs: int) -> str:
    """The model card: what it is, what it was made from and how, and how to use it."""
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip()
    return f"""---
library_name: diffusers
pipeline_tag: image-to-image
tags: [instruct-pix2pix, ip2p]
---
# Editor fine-tuned from {config.base}

Edits a picture as an English instruction says (InstructPix2Pix, arXiv 2211.09800).

| made from | |
|---|---|
| base model | {config.base} |
| pairs | {pairs} of {" and ".join(config.datasets)} |
| steps | {state.step} ({state.updates} of them moved the weights) |
| samples seen | {state.samples} |
| device | {device_name()}, {state.precision} |
| hours | {state.seconds / 3600:.2f} |
| weights | moving average, decay {config.ema_decay} |

    ip2p edit picture.png "make it winter" --model {Path(config.out) / "editor"}

It draws what its base model draws, and follows the kinds of instructions that its pairs contain. Settings of the run:

```yaml
{settings}
```
"""


def write_report(out: Path, state: State, *, pairs: int) -> Path:
    """Write report.html: figures, the loss over the steps, and the newest sheet of edits, in one file."""
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
    table = "".join(f"<tr><th>{key}</th><td>{html.escape(value)}</td></tr>" for key, value in facts.items())
    sheets = sorted((out / "validation").glob("step-*.png"))
    picture = base64.b64encode(sheets[-1].read_bytes()).decode() if sheets else ""
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Fine-tuning report</title>
<style>body{{font:16px/1.5 system-ui;max-width:60em;margin:2em auto}}th{{text-align:left;padding-right:2em}}</style>
<h1>Fine-tuning report</h1><table>{table}</table>
<h2>Loss</h2><p>Grey: mean of each step's neighbours. Blue: held-out pairs, nothing dropped.</p>
{loss_chart(losses, held_out)}
<h2>Edits of held-out pairs</h2><p>Original, edit, edited picture of the pair.</p>
<img alt="a sheet of edits" src="data:image/png;base64,{picture}">
</html>"""
    atomic_write(out / "report.html", page.encode())
    return out / "report.html"


def loss_chart(losses: list[tuple[float, float]], held_out: list[tuple[float, float]]) -> str:
    """An SVG of the smoothed training loss and the held-out loss over the steps."""
    window = max(1, len(losses) // 50)
    chunks = [losses[start : start + window] for start in range(0, len(losses), window)]
    smooth = [(chunk[-1][0], sum(loss for _, loss in chunk) / len(chunk)) for chunk in chunks]
    points = smooth + held_out
    if not points:
        return "<p>No step was taken.</p>"
    last, top = max(step for step, _ in points), max(loss for _, loss in points) * 1.05 or 1.0

    def line(curve: list[tuple[float, float]], colour: str, dot: int) -> str:
        at = [(f"{step / last * WIDTH:.1f}", f"{HEIGHT - loss / top * HEIGHT:.1f}") for step, loss in curve]
        dots = "".join(f'<circle cx="{x}" cy="{y}" r="{dot}" fill="{colour}"/>' for x, y in at)
        path = " ".join(f"{x},{y}" for x, y in at)
        return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>{dots}'

    axes = f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="black"/><text x="4" y="12">{top:.3f}</text>'
    steps = f'<text x="{WIDTH}" y="{HEIGHT + 16}" text-anchor="end">step {last:g}</text>'
    body = axes + line(smooth, "gray", 1) + line(held_out, "royalblue", 4) + steps
    return f'<svg viewBox="-4 -4 {WIDTH + 8} {HEIGHT + 28}" font-size="12" role="img">{body}</svg>'


def device_name() -> str:
    """The processor or GPU, as far as the system tells."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    processor = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return f"{processor} ({torch.get_num_threads()} CPU threads)"
