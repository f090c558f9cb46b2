"""Train the storybook base models: `python train/base.py autoencoder --minutes 25`.

In this order, because each reads what the ones before it made:

    autoencoder   pictures to latents and back
    judge         reads attributes and layout; measures, and nothing else
    diffusion     text encoder and UNet, from captions to latents
    clip-a        filters pairs
    clip-b        only measures

Every call is one sitting: it goes on from the state of the last one, and is safe to kill. `export` writes the models
with their cards, measured on scenes that training never saw.
"""

import argparse
import sys
from pathlib import Path

import torch

from ip2p.editor import best_device
from ip2p.errors import Ip2pError, ModelError
from ip2p.train.autoencoder import AutoencoderTask, finish_autoencoder, load_autoencoder
from ip2p.train.diffusion import UNETS, DiffusionTask, encode_world
from ip2p.train.judge import JudgeTask
from ip2p.train.sitting import Task, sit
from ip2p.train.tokens import make_tokenizer
from ip2p.train.world import World, drawing_code

MODELS = ("autoencoder", "judge", "diffusion")
SEED = 0


def make_task(parsed: argparse.Namespace, device: torch.device) -> Task:
    """The task of a model, with the pictures and the finished models that it reads."""
    pictures = parsed.state / "pictures"
    vae = load_autoencoder(parsed.state / "autoencoder" / "finished")
    if parsed.model == "autoencoder":
        return AutoencoderTask(World(parsed.scenes, "base", pictures, print), device, SEED)
    if parsed.model == "judge":
        return JudgeTask(World(parsed.scenes, "judge", pictures, print), vae, device, SEED)
    if vae is None:
        raise ModelError(f"there is no autoencoder in {parsed.state}", "Train it first: train/base.py autoencoder")
    world = World(parsed.scenes, "base", pictures, print)
    latents = encode_world(world, vae, parsed.state / f"latents-{len(world)}-{drawing_code()}.pt")
    tokenizer = make_tokenizer(parsed.state / "tokenizer")
    return DiffusionTask(world, vae, tokenizer, parsed.unet, latents, device, SEED)


def run(parsed: argparse.Namespace) -> None:
    """One sitting."""
    device = torch.device(parsed.device) if parsed.device else best_device()
    task = make_task(parsed, device)
    sit(
        task, parsed.state, minutes=parsed.minutes, steps=parsed.steps, device=device, precision=parsed.precision,
        say=lambda line: print(line, flush=True),
    )  # fmt: skip
    if isinstance(task, AutoencoderTask):
        finish_autoencoder(task, parsed.state / "autoencoder" / "finished")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--minutes", type=float, default=20, help="time box of this sitting (default: 20)")
    parser.add_argument("--steps", type=int, help="at most so many steps in this sitting")
    parser.add_argument("--scenes", type=int, default=24_000, help="to draw and learn from (default: 24000)")
    parser.add_argument("--unet", default="attention", choices=tuple(UNETS), help="default: attention")
    parser.add_argument("--state", type=Path, default=Path("state"), help="folder of training state (default: state)")
    parser.add_argument("--device", help="such as cuda; the best that is there if left out")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"), help="default: measured")
    parsed = parser.parse_args()
    try:
        run(parsed)
    except Ip2pError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
