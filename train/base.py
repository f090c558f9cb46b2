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
from ip2p.errors import Ip2pError
from ip2p.train.autoencoder import AutoencoderTask
from ip2p.train.sitting import Task, sit
from ip2p.train.world import World

MODELS = ("autoencoder",)


def make_task(model: str, parsed: argparse.Namespace, device: torch.device) -> Task:
    """The task of a model, with the pictures that it reads."""
    pictures = parsed.state / "pictures"
    return AutoencoderTask(World(parsed.scenes, "base", pictures, print), device, seed=0)


def run(parsed: argparse.Namespace) -> None:
    """One sitting."""
    device = torch.device(parsed.device) if parsed.device else best_device()
    task = make_task(parsed.model, parsed, device)
    sit(
        task, parsed.state, minutes=parsed.minutes, steps=parsed.steps, device=device, precision=parsed.precision,
        say=lambda line: print(line, flush=True),
    )  # fmt: skip


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--minutes", type=float, default=20, help="time box of this sitting (default: 20)")
    parser.add_argument("--steps", type=int, help="at most so many steps in this sitting")
    parser.add_argument("--scenes", type=int, default=24_000, help="to draw and learn from (default: 24000)")
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
