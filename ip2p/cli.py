"""The command line. A command imports what it needs when it runs, so that `ip2p --help` answers at once.

Every expected failure is one line on stderr and exit code 2: `ip2p: what was wrong. What to do`.
"""

import json
import random
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

import ip2p
from ip2p.errors import ImageError, InstructionError, Ip2pError

if TYPE_CHECKING:
    from PIL.Image import Image

    from ip2p.config import DatasetConfig

BUNDLED_EDITOR = "storybook-editor"
BUNDLED_BASE = "storybook-base"
FOR_PHOTOS = "timbrooks/instruct-pix2pix"

_SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
_ALL = 10**9

app = typer.Typer(
    help="Edit pictures by instruction, and make the models that do it.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
dataset = typer.Typer(help="Build a data set of edits, filter it anew, or report on it.", no_args_is_help=True)
app.add_typer(dataset, name="dataset")

Output = Annotated[Path | None, typer.Option("--output", "-o", help="PNG to write; named by its seed if not given.")]
Steps = Annotated[int | None, typer.Option(min=1, max=1000, help="Of the sampler; the model's own if not given.")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="The same seed draws the same picture.")]
Samples = Annotated[int, typer.Option(min=1, max=64, help="Pictures to draw, each from a seed of its own.")]
Scheduler = Annotated[str | None, typer.Option(help="euler_a, euler, ddim or dpm; the model's own if not given.")]
Resolution = Annotated[int | None, typer.Option(help="Pixels along the long side, for the model to work on.")]
Config = Annotated[str, typer.Option("--config", help="YAML file, or the name of one that comes with ip2p.")]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Replace those of the config.")]


def _version(wanted: bool) -> bool:
    if wanted:
        print(f"ip2p {ip2p.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Edit pictures by instruction, and make the models that do it."""


@app.command()
def edit(
    image: Annotated[Path, typer.Argument(help="PNG, JPEG, WEBP, BMP, GIF or TIFF file.")],
    instruction: Annotated[str, typer.Argument(help='Such as "make it winter".')],
    output: Output = None,
    text_scale: Annotated[
        float | None, typer.Option("--text-scale", "--cfg-text", help="How strongly to edit; e.g. 7.5.")
    ] = None,
    image_scale: Annotated[
        float | None, typer.Option("--image-scale", "--cfg-image", help="How much to keep; e.g. 1.5.")
    ] = None,
    steps: Steps = None,
    seed: Seed = None,
    samples: Samples = 1,
    model: Annotated[str, typer.Option(help="Bundled name, folder or hub id of an editor.")] = BUNDLED_EDITOR,
    scheduler: Scheduler = None,
    resolution: Resolution = None,
) -> None:
    """Edit a picture as an instruction says."""
    _refuse_empty(instruction, "instruction", "make it winter")
    from ip2p.images import EDITED, open_image

    source = open_image(image)
    seeds = _seeds(seed, samples)
    paths = _outputs(output, f"{image.stem}-{_slug(instruction)}", seeds)
    if image.resolve() in [path.resolve() for path in paths]:
        raise ImageError(f"the edit would overwrite {image}", "Give another name with -o")
    if model == BUNDLED_EDITOR:
        _say(f"the bundled editor draws storybook scenes; for photos use --model {FOR_PHOTOS}")
    from ip2p.editor import Editor

    edits = Editor.from_pretrained(model).edit(
        source, instruction, text_scale=text_scale, image_scale=image_scale, steps=steps, seeds=seeds,
        scheduler=scheduler, resolution=resolution,
    )  # fmt: skip
    for each, path in zip(edits, paths, strict=True):
        _write(each.image, path, each.parameters, EDITED)


@app.command()
def generate(
    caption: Annotated[str, typer.Argument(help='Such as "a red barn by a lake in summer".')],
    output: Output = None,
    scale: Annotated[float | None, typer.Option(help="Guidance by the caption.")] = None,
    steps: Steps = None,
    seed: Seed = None,
    samples: Samples = 1,
    model: Annotated[str, typer.Option(help="Bundled name, folder or hub id of a text-to-image model.")] = BUNDLED_BASE,
    scheduler: Scheduler = None,
    resolution: Resolution = None,
) -> None:
    """Draw a picture from a caption."""
    _refuse_empty(caption, "caption", "a red barn by a lake in summer")
    seeds = _seeds(seed, samples)
    paths = _outputs(output, _slug(caption), seeds)
    from ip2p.backbone import load_backbone
    from ip2p.editor import best_device
    from ip2p.generation import generate as draw
    from ip2p.images import GENERATED

    backbone = load_backbone(model, device=best_device(), want="base")
    settings = backbone.settings.replaced(scale=scale, steps=steps, scheduler=scheduler, resolution=resolution)
    used = settings.model_dump(include={"scale", "steps", "scheduler", "resolution"})
    pictures = draw(backbone, [caption] * samples, seeds=seeds, **used)
    for picture, path, each in zip(pictures, paths, seeds, strict=True):
        _write(picture, path, {"caption": caption, "seed": each, **used, "model": model}, GENERATED)


@app.command()
def evaluate(
    scenes: Annotated[int, typer.Option(min=1, help="Held-out storybook scenes, each with one edit.")] = 200,
    model: Annotated[str, typer.Option(help="Bundled name, folder or hub id of an editor.")] = BUNDLED_EDITOR,
    base: Annotated[str, typer.Option(help="Text-to-image model that the baselines draw with.")] = BUNDLED_BASE,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenes and of all noise.")] = 2024,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of table, figures and sheet.")] = Path(
        "runs/evaluation"
    ),
) -> None:
    """Measure an editor on held-out scenes."""
    from ip2p.evaluation import evaluate as measure

    print(measure(model, base, scenes=scenes, seed=seed, out=output))
    print(f"\nWrote {output}/evaluation.md, evaluation.json and sheet.png")


@dataset.command()
def build(config: Config = "storybook_dataset.yaml", settings: Settings = None) -> None:
    """Make or go on with a data set, all stages."""
    checked = _dataset_config(config, settings)
    from ip2p.data_gen import pipeline

    pipeline.build(checked)


@dataset.command()
def triples(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[CAPTION | KEY=VALUE]...", help="For --preview; or settings.")
    ] = None,
    writer: Annotated[str | None, typer.Option(help="rules, openai, openai-batch or local.")] = None,
    model: Annotated[str | None, typer.Option(help="Language model: name at the server, or folder.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Of an OpenAI-compatible server.")] = None,
    captions: Annotated[str | None, typer.Option(help="File, folder or hub data set; all of it.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder.")] = "data/triples",
    max_usd: Annotated[float | None, typer.Option(help="Money that requests may cost at most.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens that requests may cost at most.")] = None,
    preview: Annotated[int | None, typer.Option(min=1, help="Show so many edits of each caption; keep none.")] = None,
    config: Annotated[str | None, typer.Option("--config", help="YAML file of a data set.")] = None,
) -> None:
    """Turn captions into triples: caption, instruction, edited caption."""
    from ip2p.config import DatasetConfig, load_config
    from ip2p.data_gen import pipeline

    texts = [word for word in words or () if not _SETTING.match(word)]
    if texts and not preview:
        raise InstructionError(f"nothing is done with the caption {texts[0]!r}", "Give --preview 5, or --captions FILE")
    given = {
        "out": output, "triples.writer": writer, "triples.model": model, "triples.base_url": base_url,
        "captions.source": captions, "captions.count": _ALL if captions else None, "triples.max_usd": max_usd,
        "triples.max_tokens": max_tokens, "triples.per_caption": preview,
    }  # fmt: skip
    options = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    checked = load_config(DatasetConfig, config, [*options, *(each for each in words or () if _SETTING.match(each))])
    if preview:
        pipeline.show_triples(checked, texts)
    else:
        pipeline.write_triples(checked)


@dataset.command()
def tune_writer(
    model: Annotated[str, typer.Argument(help="Causal language model: folder, hub id, or GGUF file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the adapter.")] = Path("runs/writer"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the seed triples.")] = 3,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapter's matrices.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="At its peak.")] = 2e-4,
    batch: Annotated[int, typer.Option(min=1, help="Seed triples in a step.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of order, split and new weights.")] = 0,
) -> None:
    """Fine-tune a language model on this machine to write triples, by LoRA on the seed triples."""
    from ip2p.data_gen.writers.tuning import Recipe, tune_writer

    recipe = Recipe(epochs=epochs, rank=rank, learning_rate=learning_rate, batch=batch, seed=seed)
    tune_writer(model, output, recipe=recipe)
    print(f"{output}: use it by triples.writer=local triples.model={output}")


@dataset.command("filter")
def refilter(config: Config = "storybook_dataset.yaml", settings: Settings = None) -> None:
    """Filter and pack anew with other thresholds; nothing is drawn."""
    checked = _dataset_config(config, settings)
    from ip2p.data_gen import pipeline

    pipeline.refilter(checked)


@dataset.command()
def report(config: Config = "storybook_dataset.yaml", settings: Settings = None) -> None:
    """Write report.html of a data set anew."""
    checked = _dataset_config(config, settings)
    from ip2p.data_gen import pipeline

    pipeline.report(checked)


@app.command()
def finetune(config: Config = "storybook_finetune.yaml", settings: Settings = None) -> None:
    """Train an editor on a packed data set, or go on with it."""
    from ip2p.train.finetune import finetune as train

    raise typer.Exit(train(config, settings or ()))


@app.command()
def doctor() -> None:
    """Show what is installed, and what is wrong."""
    from ip2p.doctor import examine

    facts, troubles = examine()
    for name, value in facts:
        print(f"{name:18}{value}")
    for trouble in troubles:
        _say(trouble)
    raise typer.Exit(1 if troubles else 0)


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code: 2 for what was expected to fail, 1 for the rest, 130 for Ctrl-C.

    --debug, anywhere among the arguments, lets errors through with their traceback.
    """
    words = [word for word in arguments if word != "--debug"]
    debug = len(words) < len(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = int(app(words or ["--help"], prog_name="ip2p", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if debug:
            raise
        message, code = _explain(error)
        _say(message)
    if code == 130:
        _say("interrupted")
    return code


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What ip2p warns of is one line; what libraries say to their programmers is left out."""
    if Path(filename).is_relative_to(Path(__file__).parent):
        _say(str(message))


def _explain(error: Exception) -> tuple[str, int]:
    """One line about a failure, and its exit code."""
    if isinstance(error, Ip2pError):
        return str(error), 2
    if isinstance(error, typer.TyperException):
        return f"{error.format_message().rstrip('.')}. See `ip2p --help`", 2
    said = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {said}. This should not happen; run again with --debug", 1


def _say(message: str) -> None:
    print(f"ip2p: {message}", file=sys.stderr)


def _refuse_empty(text: str, what: str, example: str) -> None:
    """Told before any model is loaded."""
    if not text.strip():
        raise InstructionError(f"the {what} is empty", f'Write one, such as "{example}"')


def _seeds(seed: int | None, samples: int) -> list[int]:
    """One seed for each sample, counting up from the first, which is drawn here if not given."""
    first = random.SystemRandom().randrange(2**32) if seed is None else seed
    return [first + sample for sample in range(samples)]


def _outputs(output: Path | None, name: str, seeds: Sequence[int]) -> list[Path]:
    """Where each sample goes: NAME-SEED.png; or as told, with the seed in the name where there are several."""
    if output is None:
        return [Path(f"{name}-{seed}.png") for seed in seeds]
    if output.suffix.lower() != ".png":
        raise ImageError(f"cannot write {output}: pictures are written as PNG", "Give a name that ends in .png")
    return [output] if len(seeds) == 1 else [output.with_stem(f"{output.stem}-{seed}") for seed in seeds]


def _dataset_config(config: str, settings: Sequence[str] | None) -> "DatasetConfig":
    """Checked before anything heavy is imported."""
    from ip2p.config import DatasetConfig, load_config

    return load_config(DatasetConfig, config, settings or ())


def _slug(text: str) -> str:
    """Text as a part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "picture"


def _write(picture: "Image", path: Path, parameters: Mapping[str, Any], source_type: str) -> None:
    """Save a picture with what made it, and tell its name and seed."""
    from ip2p.images import save_png

    save_png(picture, path, parameters, source_type=source_type)
    print(f"{path} (seed {parameters['seed']})")
