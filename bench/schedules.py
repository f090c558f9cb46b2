"""Measure the quality of each way to save UNet rows: `python bench/schedules.py [--scenes 48] [--editor FOLDER]`.

Held-out scenes are edited with the same seeds by the exact sampler, and with cached guidance differences, a tolerance,
guidance intervals, and cached features. The judge measures every picture, and PSNR compares it with that of the exact
sampler with the same scheduler and steps.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ip2p import Editor
from ip2p.errors import Ip2pError
from ip2p.evaluation.draw import BATCH_SIZE
from ip2p.evaluation.measures import Measurer
from ip2p.evaluation.samples import Sample, storybook_samples
from ip2p.measuring.psnr import psnr
from ip2p.measuring.tables import markdown_table
from ip2p.models.bundled import DEFAULT_EDITOR
from ip2p.pictures.tensors import to_tensor
from ip2p.progress import StageProgress
from ip2p.shards import atomic_write
from ip2p.storybook.judge import Judge

SEED = 77
SOLVERS: tuple[dict[str, Any], ...] = (
    {"scheduler": "euler_a", "steps": 20},
    {"scheduler": "dpm", "steps": 10},
    {"scheduler": "dpm", "steps": 8},
    {"scheduler": "unipc", "steps": 8},
    {"scheduler": "dpm", "steps": 6},
)
EVERY_STEP: dict[str, Any] = {"guidance_stop": 1.0}
"""Guidance as savings are measured against it, whatever the editor's own settings say."""
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"text_every": 2, "image_every": 2},
    {"text_every": 2, "image_every": 4},
    {"text_every": 3, "image_every": 6},
    {"text_every": 3, "image_every": 6, "extrapolate": 0.5},
    {"text_every": 4, "image_every": 8},
    {"tolerance": 0.2},
    {"tolerance": 0.5},
    {"hold_after": 0.6},
    {"guidance_stop": 0.6},
    {"guidance_start": 0.2},
    {"rescale": 0.5},
    {"reuse": 2},
    {"text_every": 3, "image_every": 6, "reuse": 2},
)
WAYS_OF_ALL_SOLVERS = (0, 1, 2, 12)
"""Indices of the ways that are measured with all solvers; the others with the first one only."""


class ScheduleFigures(NamedTuple):
    """Figures of one solver and way, as means over the scenes."""

    solver: str
    way: str
    rows: float
    psnr: float
    success: float
    preservation: float
    product: float
    seconds: float


def describe_settings(settings: dict[str, Any]) -> str:
    """Return a description of settings."""
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "exact"


def measure(editor: Editor, judge: Judge, samples: list[Sample]) -> list[ScheduleFigures]:
    """Measure all ways with the first solver, and some with the others."""
    plan = [
        (solver, way)
        for number, solver in enumerate(SOLVERS)
        for place, way in enumerate(WAYS)
        if number == 0 or place in WAYS_OF_ALL_SOLVERS
    ]
    measurer, results, exact = Measurer(judge, None), [], torch.empty(0)
    batch = measurer.prepare(samples, [sample.load() for sample in samples])
    with StageProgress("measured", "ways", total=len(plan), done=0, say=print, transient=True) as progress:
        for solver, way in plan:
            began = time.perf_counter()
            made = editor.edit(
                [each.source for each in batch.pictures], [sample.instruction for sample in samples],
                seeds=[sample.seed for sample in samples], batch=BATCH_SIZE, **EVERY_STEP | solver | way,
            )  # fmt: skip
            taken = time.perf_counter() - began
            x = to_tensor([each.image for each in made])
            exact = exact if way else x
            scores = measurer.measure(batch, [each.image for each in made])
            means = [
                sum(row.figures[name] for row in scores) / len(scores)
                for name in ("success", "preservation", "product")
            ]
            rows = sum(each.unet_rows for each in made) / len(made)
            name = f"{solver['scheduler']} {solver['steps']}"
            results.append(
                ScheduleFigures(
                    name, describe_settings(way), rows, float(psnr(x, exact).mean()), *means, taken / len(made)
                )
            )
            progress.advance(1)
    return results


def make_table(results: list[ScheduleFigures]) -> str:
    """Return the figures as a Markdown table."""
    header = (
        "solver, steps",
        "differences",
        "rows",
        "PSNR to exact",
        "success",
        "preservation",
        "success x preservation",
    )
    rows = [
        (
            each.solver, each.way, f"{each.rows:.1f}", "" if each.way == "exact" else f"{each.psnr:.1f} dB",
            f"{each.success:.1%}", f"{each.preservation:.1%}", f"{each.product:.1%}",
        )
        for each in results
    ]  # fmt: skip
    return markdown_table(header, rows, names=2)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--editor", default=DEFAULT_EDITOR, help="editor: bundled name or folder")
    parser.add_argument("--scenes", type=int, default=48, help="held-out scenes (default: 48)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/schedules.md"), help="file of the table")
    parsed = parser.parse_args()
    try:
        editor, judge = Editor.from_pretrained(parsed.editor), Judge.from_pretrained("storybook-judge")
        results = measure(editor, judge, storybook_samples(parsed.scenes, SEED, stage="schedules"))
        atomic_write(parsed.out, (make_table(results) + "\n").encode())
    except Ip2pError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(make_table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
