"""What commands share: options of the same name and meaning, where pictures go, and what is told on the way."""

import functools
import hashlib
import inspect
import random
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ip2p.errors import ConfigError, InstructionError

if TYPE_CHECKING:
    from PIL.Image import Image

    from ip2p.editing.editor import Editor

BUNDLED_EDITOR = "storybook-128-editor"
BUNDLED_BASE = "storybook-128-base"
PHOTO_EDITOR = "timbrooks/instruct-pix2pix"

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="PNG, JPEG or WebP; named by its seed if not given.", rich_help_panel="Output"),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, max=1000, help="Of the sampler; the model's own if not given.", rich_help_panel="Quality and speed"
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**63 - 1, help="The same seed draws the same picture.", rich_help_panel="Edit")
]
Samples = Annotated[
    int, typer.Option(min=1, max=64, help="Pictures to draw, each from a seed of its own.", rich_help_panel="Edit")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Such as euler_a, dpm_karras or unipc; the model's own if not given.", rich_help_panel="Quality and speed"
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="fp32, bf16, fp16, or auto, which measures; fp32 on a CPU if not given.",
        rich_help_panel="Quality and speed",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="exact, balanced, fast or paper: settings that go together; see docs/editing.md.",
        rich_help_panel="Quality and speed",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other setting of sampling, such as tolerance=0.1.",
        rich_help_panel="Quality and speed",
    ),
]
Negative = Annotated[
    str | None, typer.Option("--negative-prompt", help="What the picture should not show.", rich_help_panel="Edit")
]
Resolution = Annotated[
    int | None,
    typer.Option(help="Pixels along the long side, for the model to work on.", rich_help_panel="Quality and speed"),
]
ConfigFile = Annotated[str, typer.Option("--config", help="YAML file, or the name of one that comes with ip2p.")]
ModelConfig = Annotated[
    str | None,
    typer.Option(
        "--config", help="For a single file: folder or hub id with configs and tokenizer.", rich_help_panel="Model"
    ),
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read .ckpt and other pickles, weights only.", rich_help_panel="Model")
]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Replace those of the config.")]


def say(message: str) -> None:
    print(f"ip2p: {message}", file=sys.stderr)


def refuse_empty(text: str, what: str, example: str) -> None:
    """Told before any model is loaded."""
    if not text.strip():
        raise InstructionError(f"the {what} is empty", f'Write one, such as "{example}"')


def sampling_settings(preset: str | None, more: Sequence[str] | None, **given: Any) -> dict[str, Any]:
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
    checked = Settings().replace(**options)
    return {name: getattr(checked, name) for name in options}


def sample_seeds(seed: int | None, samples: int) -> list[int]:
    """One seed for each sample, counting up from the first, which is drawn here if not given."""
    first = random.SystemRandom().randrange(2**32) if seed is None else seed
    return [first + sample for sample in range(samples)]


def output_paths(output: Path | None, name: str, seeds: Sequence[int]) -> list[Path]:
    """Where each sample goes: NAME-SEED.png; or as told, with the seed in the name where there are several."""
    if output is None:
        return [Path(f"{name}-{seed}.png") for seed in seeds]
    from ip2p.pictures.write import format_of

    format_of(output)
    return [output] if len(seeds) == 1 else [output.with_stem(f"{output.stem}-{seed}") for seed in seeds]


def slug(text: str) -> str:
    """Text as a part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "picture"


def describe_source(image: Path, frame: int | None = None, native: bool = False) -> dict[str, Any]:
    """What is to be known of an edited file to make the edit again: its name, its hash, and how it was taken."""
    taken = {"input": image.name, "input_sha256": hashlib.sha256(image.read_bytes()).hexdigest()}
    return taken | ({} if frame is None else {"frame": frame}) | ({"native": True} if native else {})


def write(picture: "Image", path: Path, parameters: Mapping[str, Any], source_type: str) -> None:
    """Save a picture with what made it, and tell its name and seed."""
    from ip2p.pictures.write import save_picture

    save_picture(picture, path, parameters, source_type=source_type)
    print(f"{path} (seed {parameters['seed']})")


def compose(**parts: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command have, in place of a parameter, the options of the function that makes its value.

        @app.command()
        @compose(editor=choose_editor)
        def edit(image: ..., *, editor: EditorChoice) -> None: ...

    Args:
        parts: such functions by the names of the parameters, which stand last and have no defaults.
    """
    options = {name: inspect.signature(part, eval_str=True).parameters for name, part in parts.items()}

    def compose(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**given: Any) -> Any:
            made = {name: part(**{each: given.pop(each) for each in options[name]}) for name, part in parts.items()}
            return command(**given, **made)

        own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name not in parts]
        every = [*own, *(each for group in options.values() for each in group.values())]
        keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in every]
        vars(run)["__signature__"] = inspect.Signature(keywords)
        run.__annotations__ = {each.name: each.annotation for each in every}
        return run

    return compose


class EditorChoice(NamedTuple):
    """An editor that is not loaded yet: its name, and what `Editor.from_pretrained` is told besides."""

    model: str
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the model, with what changes what it draws."""
        options = self.options
        added = [*options["loras"], *map(str, options["embeddings"]), *filter(None, [options["decoder"]])]
        return " + ".join([self.model, *added])

    def load(self) -> "Editor":
        """The editor.

        Raises:
            ModelError: it is not there, or it or a file for it does not fit.
            ConfigError: this machine cannot do what is asked for.
        """
        from ip2p.editing.editor import Editor
        from ip2p.models.adapters import Lora

        loras = [Lora.parse(text) for text in self.options["loras"]]
        return Editor.from_pretrained(self.model, **{**self.options, "loras": loras}, report=say)


def choose_editor(
    model: Annotated[
        str,
        typer.Option(help="Bundled name, folder, .safetensors file or hub id of an editor.", rich_help_panel="Model"),
    ] = BUNDLED_EDITOR,
    precision: Precision = None,
    lora: Annotated[
        list[str] | None, typer.Option(metavar="FILE[:SCALE]", help="LoRA weights to add.", rich_help_panel="Model")
    ] = None,
    embedding: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A word by textual inversion.", rich_help_panel="Model")
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            help="Small decoder for speed: folder or hub id, such as madebyollin/taesd.",
            rich_help_panel="Quality and speed",
        ),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Faster edits, after a minute or more.", rich_help_panel="Quality and speed"),
    ] = False,
    config: ModelConfig = None,
    allow_pickle: AllowPickle = False,
    safety_checker: Annotated[
        bool, typer.Option(help="Use the one that the model brings, if it brings one.", rich_help_panel="Model")
    ] = True,
    cpu_offload: Annotated[
        bool, typer.Option("--cpu-offload", help="Less GPU memory, slower.", rich_help_panel="Quality and speed")
    ] = False,
    vae_tiling: Annotated[
        bool, typer.Option("--vae-tiling", help="Less memory for large pictures.", rich_help_panel="Quality and speed")
    ] = False,
) -> EditorChoice:
    """An editor by the options of a command line."""
    options = {
        "precision": precision, "loras": lora or [], "embeddings": embedding or [], "decoder": decoder,
        "compiled": compiled, "config": config, "allow_pickle": allow_pickle, "safety_checker": safety_checker,
        "cpu_offload": cpu_offload, "vae_tiling": vae_tiling,
    }  # fmt: skip
    return EditorChoice(model, options)


def sampler_settings(
    steps: Steps = None,
    scheduler: Scheduler = None,
    resolution: Resolution = None,
    preset: Preset = None,
    more: Set = None,
) -> dict[str, Any]:
    """Settings of sampling, without the scales.

    Raises:
        ConfigError: one is not known, or out of range.
    """
    return sampling_settings(preset, more, steps=steps, scheduler=scheduler, resolution=resolution)


@compose(settings=sampler_settings)
def all_settings(
    text_scale: Annotated[
        float | None,
        typer.Option("--text-scale", "--cfg-text", help="How strongly to edit; e.g. 7.5.", rich_help_panel="Edit"),
    ] = None,
    image_scale: Annotated[
        float | None,
        typer.Option("--image-scale", "--cfg-image", help="How much to keep; e.g. 1.5.", rich_help_panel="Edit"),
    ] = None,
    *,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Settings of sampling with both scales.

    Raises:
        ConfigError: one is not known, or out of range.
    """
    return settings | sampling_settings(None, None, text_scale=text_scale, image_scale=image_scale)
