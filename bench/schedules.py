"""What each way of saving UNet rows keeps: `python bench/schedules.py [--scenes 48] [--editor FOLDER]`.

Held-out scenes are edited from the same seeds by the exact sampler and by schedules of the two differences of guidance,
a tolerance, an end of refreshing, intervals of guidance, and reused features. The judge reads every picture, and PSNR
tells how near it is to what the exact sampler of the same solver and steps draws.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ip2p import Editor
from ip2p.errors import Ip2pError
from ip2p.measuring.evaluation import BATCH_SIZE, Trial, held_out_trials, judge_pictures, psnr
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
FEW = (0, 1, 2, 12)
"""Ways that are tried with the solvers after the first."""


class Measured(NamedTuple):
    """One way: means over the scenes."""

    solver: str
    way: str
    rows: float
    psnr: float
    success: float
    preservation: float
    product: float
    seconds: float


def named(settings: dict[str, Any]) -> str:
    """Settings in words."""
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "exact"


def measure(editor: Editor, judge: Judge, trials: list[Trial]) -> list[Measured]:
    """All ways of all solvers."""
    plan = [
        (solver, way)
        for number, solver in enumerate(SOLVERS)
        for place, way in enumerate(WAYS)
        if number == 0 or place in FEW
    ]
    results, exact = [], torch.empty(0)
    with StageProgress("measured", "ways", total=len(plan), done=0, say=print, transient=True) as progress:
        for solver, way in plan:
            began = time.perf_counter()
            made = editor.edit(
                [trial.source for trial in trials], [trial.case.instruction for trial in trials],
                seeds=[trial.seed for trial in trials], batch=BATCH_SIZE, **solver, **way,
            )  # fmt: skip
            taken = time.perf_counter() - began
            x = to_tensor([each.image for each in made])
            exact = exact if way else x
            scores = judge_pictures("ip2p", trials, [each.image for each in made], judge.measure)
            means = [
                sum(float(getattr(row, name)) for row in scores) / len(scores)
                for name in ("success", "preservation", "product")
            ]
            rows = sum(each.unet_rows for each in made) / len(made)
            name = f"{solver['scheduler']} {solver['steps']}"
            results.append(Measured(name, named(way), rows, float(psnr(x, exact).mean()), *means, taken / len(made)))
            progress.advance(1)
    return results


def table(results: list[Measured]) -> str:
    """The figures as Markdown."""
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
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--editor", default=DEFAULT_EDITOR, help="editor: bundled name or folder")
    parser.add_argument("--scenes", type=int, default=48, help="held-out scenes (default: 48)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/schedules.md"), help="file of the table")
    parsed = parser.parse_args()
    try:
        editor, judge = Editor.from_pretrained(parsed.editor), Judge.from_pretrained("storybook-judge")
        results = measure(editor, judge, held_out_trials(parsed.scenes, SEED, "schedules"))
        atomic_write(parsed.out, (table(results) + "\n").encode())
    except Ip2pError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
