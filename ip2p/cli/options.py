"""What commands share: options of the same name and meaning, where pictures go, and what is told on the way."""

import hashlib
import random
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ip2p.errors import ConfigError, InstructionError

if TYPE_CHECKING:
    from PIL.Image import Image

BUNDLED_EDITOR = "storybook-editor"
BUNDLED_BASE = "storybook-base"
FOR_PHOTOS = "timbrooks/instruct-pix2pix"

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="PNG, JPEG or WebP; named by its seed if not given."),
]
Steps = Annotated[int | None, typer.Option(min=1, max=1000, help="Of the sampler; the model's own if not given.")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="The same seed draws the same picture.")]
Samples = Annotated[int, typer.Option(min=1, max=64, help="Pictures to draw, each from a seed of its own.")]
Scheduler = Annotated[
    str | None, typer.Option(help="Such as euler_a, dpm_karras or unipc; the model's own if not given.")
]
Precision = Annotated[
    str | None, typer.Option(help="fp32, bf16, fp16, or auto, which measures; fp32 on a CPU if not given.")
]
Preset = Annotated[
    str | None, typer.Option(help="exact, balanced, fast or paper: settings that go together; see docs/editing.md.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of sampling, such as tolerance=0.1."),
]
Negative = Annotated[str | None, typer.Option("--negative-prompt", help="What the picture should not show.")]
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


def sampling(preset: str | None, more: Sequence[str] | None, **given: Any) -> dict[str, Any]:
    """Settings of sampling, of a preset, one by one, and of --set; checked before any model is loaded.

    Raises:
        ConfigError: one is not known, or out of range.
    """
    from ip2p.settings import Settings, preset_options

    options: Any = {name: value for name, value in given.items() if value is not None}
    for word in more or ():
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--set {word!r} sets nothing", "Give a name and a value, such as tolerance=0.1")
        options[name] = value
    options = preset_options(preset, options)
    checked = Settings().replaced(**options)
    return {name: getattr(checked, name) for name in options}


def counted(seed: int | None, samples: int) -> list[int]:
    """One seed for each sample, counting up from the first, which is drawn here if not given."""
    first = random.SystemRandom().randrange(2**32) if seed is None else seed
    return [first + sample for sample in range(samples)]


def outputs(output: Path | None, name: str, seeds: Sequence[int]) -> list[Path]:
    """Where each sample goes: NAME-SEED.png; or as told, with the seed in the name where there are several."""
    if output is None:
        return [Path(f"{name}-{seed}.png") for seed in seeds]
    from ip2p.saving import format_of

    format_of(output)
    return [output] if len(seeds) == 1 else [output.with_stem(f"{output.stem}-{seed}") for seed in seeds]


def slug(text: str) -> str:
    """Text as a part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "picture"


def source_of(image: Path, frame: int | None = None, native: bool = False) -> dict[str, Any]:
    """What is to be known of an edited file to make the edit again: its name, its hash, and how it was taken."""
    taken = {"input": image.name, "input_sha256": hashlib.sha256(image.read_bytes()).hexdigest()}
    return taken | ({} if frame is None else {"frame": frame}) | ({"native": True} if native else {})


def write(picture: "Image", path: Path, parameters: Mapping[str, Any], source_type: str) -> None:
    """Save a picture with what made it, and tell its name and seed."""
    from ip2p.saving import save_picture

    save_picture(picture, path, parameters, source_type=source_type)
    print(f"{path} (seed {parameters['seed']})")
