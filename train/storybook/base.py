"""Train the storybook base models: `python train/storybook/base.py autoencoder --minutes 25`.

Train in this order, because each model needs the earlier ones:

    autoencoder   pictures to latents and back
    judge         reads attributes and layout from pictures; for evaluation only
    clip-a        filters pairs
    clip-b        for evaluation only
    diffusion     text encoder and UNet, from captions to latents
    decoder       trains the decoder further, with a frozen encoder
    export        writes all models into ip2p/bundled, with cards measured on held-out scenes
    measure       measures all of these in ip2p/bundled on held-out scenes; with --write into their cards, too

Each call is one session: it resumes from the state of the last one, and is safe to kill. Without such a state,
`--begin-with ip2p/bundled` starts from finished models. `python train/storybook/reproduce.py` makes all of them.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from ip2p.device import parse_device
from ip2p.errors import ModelError, run_program
from ip2p.models.bundled import BUNDLED
from ip2p.models.hashes import hash_weights
from ip2p.shards import atomic_write
from ip2p.train.checkpoint import State, check_same_settings
from ip2p.train.storybook.autoencoder import (
    AutoencoderTask,
    DecoderTask,
    finish_autoencoder,
    load_autoencoder,
    save_autoencoder,
)
from ip2p.train.storybook.bundle import (
    export,
    exported_folders,
    measure_models,
    read_record,
    replace_figures,
    require_replaceable,
)
from ip2p.train.storybook.clip import SEEDS, ClipTask
from ip2p.train.storybook.diffusion import UNETS, DiffusionTask, encode_world
from ip2p.train.storybook.judge import JudgeTask
from ip2p.train.storybook.session import Task, require_above_zero, restore_averages, train_session
from ip2p.train.storybook.tokens import make_tokenizer
from ip2p.train.storybook.world import World, drawing_code

MODELS = ("autoencoder", "judge", "clip-a", "clip-b", "diffusion", "decoder")
EXPORTED = ("judge", "clip-a", "clip-b", "diffusion", "decoder")
SCENE_COUNT = 20_000
SEED = 0


def make_task(model: str, parsed: argparse.Namespace, device: torch.device) -> Task:
    """Make the training task of a model.

    Args:
        model: name of the model, one of MODELS.
        parsed: arguments of the command line.
        device: device to train on.

    Raises:
        ModelError: there is no finished autoencoder, which the model needs.
    """
    half = parsed.scenes // 2

    def world(kind: str, count: int = parsed.scenes) -> World:
        return World(count, kind, parsed.state / "pictures", print)

    if model == "autoencoder":
        return AutoencoderTask(world("base"), device, SEED)
    vae = _finished_autoencoder(parsed)
    if model == "judge":
        return JudgeTask(world("judge", half), world("judge-edited", half), vae, device, SEED)
    tokenizer = make_tokenizer(parsed.state / "tokenizer")
    if model in SEEDS:
        return ClipTask(model, world("clip", half), world("clip-edited", half), tokenizer, device)
    if vae is None:
        raise ModelError(
            f"there is no autoencoder in {parsed.state}", "Train it first: train/storybook/base.py autoencoder"
        )
    if model == "decoder":
        return DecoderTask(world("base"), vae, device, SEED)
    scenes = world("base")
    encoder = hash_weights(vae.encoder)[:12]
    path = parsed.state / f"latents-{len(scenes)}-{drawing_code()}-{encoder}.pt"
    latents = encode_world(scenes, vae, path, device)
    return DiffusionTask(scenes, vae, tokenizer, parsed.unet, latents, device, SEED, encoder=encoder)


def checkpoints(state: Path, model: str, unet: str) -> Path:
    """Return the folder of a model's checkpoints; each UNet of the diffusion model has its own."""
    return state / (f"diffusion-{unet}" if model == "diffusion" else model) / "checkpoints"


def train(parsed: argparse.Namespace, device: torch.device) -> None:
    """Run one training session, and save the autoencoder after training it or its decoder."""
    for name in ("minutes", "steps", "scenes"):  # before scenes are drawn, which takes minutes
        require_above_zero(name, getattr(parsed, name))
    task: Any = make_task(parsed.model, parsed, device)
    train_session(
        task, parsed.state, minutes=parsed.minutes, steps=parsed.steps, device=device, precision=parsed.precision,
        begin=lambda: _begin(task, parsed), say=lambda line: print(line, flush=True),
    )  # fmt: skip
    finished = parsed.state / "autoencoder" / "finished"
    if parsed.model == "autoencoder":
        finish_autoencoder(task, finished)
    if parsed.model == "decoder":
        save_autoencoder(task.vae, finished)


def export_all(parsed: argparse.Namespace, device: torch.device) -> None:
    """Export every model that has a checkpoint, or only the one of `--only`.

    Raises:
        ConfigError: something else is where a model is to be.
        ModelError: no model has a checkpoint.
    """
    wanted = [parsed.only] if parsed.only else EXPORTED
    models = [each for each in wanted if any(checkpoints(parsed.state, each, parsed.unet).glob("step-*"))]
    if not models:
        raise ModelError(
            f"there is nothing to export in {parsed.state}: no checkpoint of {' or '.join(wanted)}",
            f"Train it first: train/storybook/base.py {wanted[0]}, or give another folder by --state",
        )
    for model in models:
        for folder in exported_folders(parsed.out, model):
            require_replaceable(folder)
    for model in models:
        task = make_task(model, parsed, device)
        state = restore_averages(task, parsed.state)
        assert state is not None
        check_same_settings(state, config=task.settings, folder=parsed.state / task.name)
        print(f"exporting {model}, {state.samples:,} samples", flush=True)
        export(task, state, parsed.out, scenes=parsed.measure)


def measure_all(parsed: argparse.Namespace, device: torch.device) -> None:
    """Print what the finished models of a folder do on held-out scenes, and write it into their cards if wanted."""
    for name, figures in measure_models(parsed.out, scenes=parsed.measure, device=device):
        for what, values in figures.items():
            print(f"{name}, {what}: " + ", ".join(f"{key} {value:.1f}" for key, value in values.items()), flush=True)
        if parsed.write:
            for file, text in replace_figures(parsed.out / name, figures).items():
                atomic_write(parsed.out / name / file, text.encode())


def _finished_autoencoder(parsed: argparse.Namespace) -> Any:
    """Load the autoencoder from the state folder, or else from the models to begin with or to export to; None if none
    has one."""
    begun = parsed.begin_with or (parsed.out if parsed.model == "export" else None)
    folders = [parsed.state / "autoencoder" / "finished", *([begun / "base" / "vae"] if begun else [])]
    return next((found for each in folders if (found := load_autoencoder(each)) is not None), None)


def _begin(task: Task, parsed: argparse.Namespace) -> State:
    """Load the weights of the model to begin with into the task; returns its progress, or none without such a model."""
    if parsed.begin_with is None:
        return State()
    task.load(parsed.begin_with)
    return read_record(parsed.begin_with, parsed.model)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=(*MODELS, "export", "measure"))
    parser.add_argument("--minutes", type=float, default=20, help="time limit of this session (default: 20)")
    parser.add_argument("--steps", type=int, help="limit of optimizer steps in this session")
    parser.add_argument("--scenes", type=int, default=SCENE_COUNT, help=f"training scenes (default: {SCENE_COUNT})")
    parser.add_argument(
        "--unet", default="thin", choices=tuple(UNETS), help="UNet of the diffusion model (default: thin)"
    )
    parser.add_argument("--state", type=Path, default=Path("state"), help="folder of training state (default: state)")
    parser.add_argument("--begin-with", type=Path, help="folder of finished models to start from, such as ip2p/bundled")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder of exported models (default: ip2p/bundled)")
    parser.add_argument("--only", choices=EXPORTED, help="export this model only")
    parser.add_argument(
        "--measure", type=int, default=500, help="held-out scenes to measure exported models on (default: 500)"
    )
    parser.add_argument(
        "--write", action="store_true", help="measure: replace the figures in the cards by those measured"
    )
    parser.add_argument("--device", help="device, such as cuda (default: the best available)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "bf16"),
        help="precision; auto takes the fastest (default: auto)",
    )
    parsed = parser.parse_args()
    if parsed.write and parsed.model != "measure":
        parser.error("--write goes with measure alone")
    work = {"export": export_all, "measure": measure_all}.get(parsed.model, train)
    return run_program(lambda: work(parsed, parse_device(parsed.device)))


if __name__ == "__main__":
    sys.exit(main())
