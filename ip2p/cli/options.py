"""What commands share: options of the same name and meaning, where pictures go, and what is told on the way."""

import random
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ip2p.errors import ImageError, InstructionError

if TYPE_CHECKING:
    from PIL.Image import Image

BUNDLED_EDITOR = "storybook-editor"
BUNDLED_BASE = "storybook-base"
FOR_PHOTOS = "timbrooks/instruct-pix2pix"

Output = Annotated[Path | None, typer.Option("--output", "-o", help="PNG to write; named by its seed if not given.")]
Steps = Annotated[int | None, typer.Option(min=1, max=1000, help="Of the sampler; the model's own if not given.")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="The same seed draws the same picture.")]
Samples = Annotated[int, typer.Option(min=1, max=64, help="Pictures to draw, each from a seed of its own.")]
Scheduler = Annotated[str | None, typer.Option(help="euler_a, euler, ddim or dpm; the model's own if not given.")]
Resolution = Annotated[int | None, typer.Option(help="Pixels along the long side, for the model to work on.")]
Config = Annotated[str, typer.Option("--config", help="YAML file, or the name of one that comes with ip2p.")]
ModelConfig = Annotated[
    str | None, typer.Option("--config", help="For a single file: folder or hub id with configs and tokenizer.")
]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="Read .ckpt and other pickles, weights only.")]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Replace those of the config.")]


def say(message: str) -> None:
    print(f"ip2p: {message}", file=sys.stderr)


def refuse_empty(text: str, what: str, example: str) -> None:
    """Told before any model is loaded."""
    if not text.strip():
        raise InstructionError(f"the {what} is empty", f'Write one, such as "{example}"')


def counted(seed: int | None, samples: int) -> list[int]:
    """One seed for each sample, counting up from the first, which is drawn here if not given."""
    first = random.SystemRandom().randrange(2**32) if seed is None else seed
    return [first + sample for sample in range(samples)]


def outputs(output: Path | None, name: str, seeds: Sequence[int]) -> list[Path]:
    """Where each sample goes: NAME-SEED.png; or as told, with the seed in the name where there are several."""
    if output is None:
        return [Path(f"{name}-{seed}.png") for seed in seeds]
    if output.suffix.lower() != ".png":
        raise ImageError(f"cannot write {output}: pictures are written as PNG", "Give a name that ends in .png")
    return [output] if len(seeds) == 1 else [output.with_stem(f"{output.stem}-{seed}") for seed in seeds]


def slug(text: str) -> str:
    """Text as a part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "picture"


def write(picture: "Image", path: Path, parameters: Mapping[str, Any], source_type: str) -> None:
    """Save a picture with what made it, and tell its name and seed."""
    from ip2p.images import save_png

    save_png(picture, path, parameters, source_type=source_type)
    print(f"{path} (seed {parameters['seed']})")
