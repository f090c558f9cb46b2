"""Train every bundled model from scratch: `make reproduce`, or `python train/storybook/reproduce.py --out models`.

Autoencoder, judge, CLIPs, base model, decoder, data set and editor, one after the other, each by its own program. If
it is stopped, the same command resumes: finished stages are skipped, and the interrupted one trains for the remaining
minutes.

The order of samples, all noise and all pictures follow from fixed seeds. Weights are not reproduced bit for bit, since
sums depend on the processor and the number of threads, and the number of steps in a time limit on the speed.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from ip2p.device import best_device
from ip2p.errors import run_program
from ip2p.models.bundled import BUNDLED, RECORD_FILE
from ip2p.shards import atomic_write
from ip2p.train.checkpoint import load_newest
from ip2p.train.storybook.base import SCENE_COUNT, checkpoints
from ip2p.train.storybook.diffusion import UNETS
from ip2p.train.storybook.session import require_above_zero

ROOT = Path(__file__).parents[2]
MIN_MINUTES = 0.2  # remaining minutes below which a stage counts as finished
FIGURES_FILE = "figures.json"


class TrainingStage(NamedTuple):
    """A stage of the reproduction.

    Attributes:
        model: name of the model in `train/storybook/base.py`.
        cpu: minutes of training on two cores of a server CPU.
        gpu: minutes of training on one H100.
    """

    model: str
    cpu: float
    gpu: float


MODEL_STAGES = (
    TrainingStage("autoencoder", 60, 4),
    TrainingStage("judge", 40, 4),
    TrainingStage("clip-a", 45, 5),
    TrainingStage("clip-b", 20, 3),
    TrainingStage("diffusion", 480, 20),
    TrainingStage("decoder", 60, 5),
)
PIPELINE_STAGES = TrainingStage("data set", 400, 15), TrainingStage("editor", 600, 25)
"""Stages with configs of their own; the data set resumes by itself, and the editor stops after its minutes."""
CAPTIONS = 7000
"""Captions of the data set, of which each gives one triple and about one kept pair."""
FEWEST_CAPTIONS = 100
MOST_STEPS = 1_000_000
OWN_SETTINGS = ("keep_unchanged=true", "text_scale=2.5", "image_scale=1.5", "guidance_stop=0.8")
"""Sampling settings of the bundled editor: docs/decisions.md."""
PHRASINGS = 3
"""Instructions of each pair that the editor is trained on."""


def plan(parsed: argparse.Namespace) -> list[tuple[TrainingStage, float]]:
    """Return each stage with its remaining minutes on this device."""
    return [(stage, max(0.0, _minutes(stage, parsed) - _minutes_so_far(parsed, stage.model))) for stage in MODEL_STAGES]


def show(rows: list[tuple[TrainingStage, float]], scale: float) -> None:
    """Print the plan as a table.

    Args:
        rows: stages with their remaining minutes.
        scale: factor of all minutes.
    """
    table = Table("stage", "minutes on 2 CPU cores", "on one H100", "left here")
    for stage, left in rows:
        state = f"{left:.0f}" if left > MIN_MINUTES else "done"
        table.add_row(stage.model, f"{scale * stage.cpu:.0f}", f"{scale * stage.gpu:.0f}", state)
    for stage in PIPELINE_STAGES:
        table.add_row(
            stage.model, f"about {scale * stage.cpu:.0f}", f"about {scale * stage.gpu:.0f}", "resumes by itself"
        )
    console = Console()
    console.print(table)
    for what, stages in (("In all", (*MODEL_STAGES, *PIPELINE_STAGES)), ("Without data set and editor", MODEL_STAGES)):
        hours = [scale * sum(getattr(stage, device) for stage in stages) / 60 for device in ("cpu", "gpu")]
        console.print(f"{what} {hours[0]:.1f} hours on this CPU, {hours[1]:.1f} on one H100.")
    console.print("Weights are not reproduced bit for bit: they depend on processor, threads and speed.")


def commands(parsed: argparse.Namespace, rows: list[tuple[TrainingStage, float]]) -> list[list[str]]:
    """Return the command lines that are left to run, in order."""
    base = [sys.executable, "train/storybook/base.py"]
    common = ["--state", str(parsed.state), "--scenes", str(parsed.scenes), "--unet", parsed.unet]
    common += ["--device", parsed.device] if parsed.device else []
    steps = ["--steps", str(parsed.steps)] if parsed.steps else []
    todo = [
        [*base, stage.model, "--minutes", f"{left:.2f}", *steps, *common] for stage, left in rows if left > MIN_MINUTES
    ]
    todo.append([*base, "export", "--out", str(parsed.out), "--measure", str(parsed.measure), *common])
    if not parsed.models_only:
        data, run = parsed.state / "data", parsed.state / "editor"
        captions = FEWEST_CAPTIONS if parsed.steps else max(FEWEST_CAPTIONS, round(CAPTIONS * parsed.minutes_scale))
        minutes = _minutes(PIPELINE_STAGES[1], parsed)
        todo.append(
            [sys.executable, "data_gen/pipeline.py", f"out={data}", f"captions.count={captions}",
             f"pairs.model={parsed.out / 'base'}", f"scores.clip={parsed.out / 'clip-a'}"]
        )  # fmt: skip
        phrased = parsed.state / "phrased"
        todo.append(
            [sys.executable, "train/storybook/phrasings.py", str(data / "packed"), "--out", str(phrased), "--count",
             str(PHRASINGS)]
        )  # fmt: skip
        sets = ",".join(str(phrased / f"phrasing-{number}") for number in range(PHRASINGS))
        todo.append(
            [str(Path(sys.executable).with_name("accelerate")), "launch", "train/finetune.py",
             f"base={parsed.out / 'base'}", f"dataset=[{sets}]", f"out={run}",
             f"minutes={minutes:g}", f"steps={parsed.steps or MOST_STEPS}"]
        )  # fmt: skip
        export = [sys.executable, "train/storybook/editor.py", str(run / "editor"), "--out", str(parsed.out)]
        todo.append([*export, "--measure", str(parsed.measure), "--set", *OWN_SETTINGS])
    return todo


def reproduce(parsed: argparse.Namespace, run: Callable[[list[str]], int]) -> int:
    """Run everything that is left.

    Args:
        parsed: arguments of the command line.
        run: function that runs a command line and returns its exit code.

    Returns:
        The exit code of the first program that fails, or 0.
    """
    rows = plan(parsed)
    show(rows, parsed.minutes_scale)
    if parsed.plan:
        return 0
    for command in commands(parsed, rows):
        status = run(command)
        if status:
            return status
    figures = {
        path.parent.name: json.loads(path.read_text())["figures"]
        for path in sorted(parsed.out.glob(f"*/{RECORD_FILE}"))
    }
    atomic_write(parsed.state / FIGURES_FILE, (json.dumps(figures, indent=1) + "\n").encode())
    for model, measured in figures.items():
        for what, values in measured.items():
            print(f"{model}: {what}: " + ", ".join(f"{name} {value:g}" for name, value in values.items()))
    return 0


def _minutes(stage: TrainingStage, parsed: argparse.Namespace) -> float:
    """Return the minutes of a stage on the device that is asked for."""
    minutes: float = parsed.minutes_scale * (stage.gpu if parsed.device == "cuda" else stage.cpu)
    return minutes


def _minutes_so_far(parsed: argparse.Namespace, model: str) -> float:
    """Return the minutes that a model has trained in this state folder; infinity once it has taken all `--steps`."""
    found = load_newest(checkpoints(parsed.state, model, parsed.unet), warn=print)
    if found is None:
        return 0.0
    return float("inf") if parsed.steps and found.state.step >= parsed.steps else found.state.seconds / 60


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", type=Path, default=Path("state"), help="folder of training state (default: state)")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder of the models (default: ip2p/bundled)")
    parser.add_argument("--scenes", type=int, default=SCENE_COUNT, help=f"training scenes (default: {SCENE_COUNT})")
    parser.add_argument("--minutes-scale", type=float, default=1.0, help="factor of all minutes (default: 1)")
    parser.add_argument("--steps", type=int, help="limit of optimizer steps for each model, for a trial")
    parser.add_argument("--measure", type=int, default=500, help="held-out scenes to measure on (default: 500)")
    parser.add_argument(
        "--unet", default="thin", choices=tuple(UNETS), help="UNet of the diffusion model (default: thin)"
    )
    parser.add_argument("--device", help="device, such as cuda (default: the best available)")
    parser.add_argument("--models-only", action="store_true", help="leave out the data set and the editor")
    parser.add_argument("--plan", action="store_true", help="show the plan and run nothing")
    parsed = parser.parse_args()
    parsed.device = parsed.device or best_device().type
    # The programs run in the repository's root.
    parsed.state, parsed.out = parsed.state.resolve(), parsed.out.resolve()

    def check() -> None:
        for name in ("minutes_scale", "steps", "scenes"):
            require_above_zero(name.replace("_", "-"), getattr(parsed, name))

    return run_program(check) or reproduce(
        parsed, lambda command: subprocess.run(command, cwd=ROOT, check=False).returncode
    )


if __name__ == "__main__":
    sys.exit(main())
