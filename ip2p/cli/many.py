"""Commands that make many pictures at once."""

import math
from pathlib import Path
from typing import Annotated

import typer

from ip2p.cli.options import (
    BUNDLED_EDITOR,
    Precision,
    Preset,
    Resolution,
    Scheduler,
    Seed,
    Set,
    Steps,
    counted,
    outputs,
    refuse_empty,
    sampling,
    say,
    slug,
    write,
)
from ip2p.errors import ConfigError, DataError

app = typer.Typer()

Model = Annotated[str, typer.Option("--model", help="Bundled name, folder or hub id of an editor.")]


@app.command()
def batch(
    edits: Annotated[Path, typer.Argument(help='JSON lines: {"image": "a.png", "instruction": "make it winter"}.')],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder; NAME-edited if not given.")] = None,
    text_scale: Annotated[float | None, typer.Option(help="Of rows that have none of their own.")] = None,
    image_scale: Annotated[float | None, typer.Option(help="Of rows that have none of their own.")] = None,
    steps: Steps = None,
    model: Model = BUNDLED_EDITOR,
    scheduler: Scheduler = None,
    resolution: Resolution = None,
    precision: Precision = None,
    preset: Preset = None,
    more: Set = None,
    at_once: Annotated[int, typer.Option("--batch", min=1, max=256, help="Pictures at once.")] = 8,
) -> None:
    """Make the edits of a file, or go on with them."""
    if not edits.is_file():
        raise DataError(f"there is no file {edits}", "Give a file of JSON lines, one edit a line")
    from ip2p.batch import RESULTS, Batch
    from ip2p.editor import Editor

    out = output or edits.with_name(f"{edits.stem}-edited")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "Give a folder with -o")
    settings = sampling(
        preset, more, text_scale=text_scale, image_scale=image_scale, steps=steps, scheduler=scheduler,
        resolution=resolution,
    )  # fmt: skip

    def load() -> Editor:
        return Editor.from_pretrained(model, precision=precision, report=say)

    run = Batch(edits, out, load, model=model, defaults=settings, size=at_once, say=say)
    done, failed, before = run.run()
    print(f"{out / RESULTS}: {done} edited, {failed} failed, {before} there before")
    raise typer.Exit(2 if failed else 0)


@app.command()
def grid(
    image: Annotated[Path, typer.Argument(help="Picture to edit.")],
    instruction: Annotated[str, typer.Argument(help='Such as "make it winter".')],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="PNG to write.")] = None,
    text_scales: Annotated[str, typer.Option(help="How strongly to edit, column by column.")] = "0.5,1,2,4,7.5",
    image_scales: Annotated[str, typer.Option(help="How much to keep, row by row.")] = "0.5,1,1.5,2.5",
    steps: Steps = None,
    seed: Seed = None,
    model: Model = BUNDLED_EDITOR,
    scheduler: Scheduler = None,
    resolution: Resolution = None,
    precision: Precision = None,
    preset: Preset = None,
    more: Set = None,
) -> None:
    """Draw one edit at many pairs of scales, on one sheet."""
    refuse_empty(instruction, "instruction", "make it winter")
    settings = sampling(preset, more, steps=steps, scheduler=scheduler, resolution=resolution)
    columns, rows = _numbers(text_scales, "--text-scales"), _numbers(image_scales, "--image-scales")
    from ip2p.opening import open_image
    from ip2p.saving import EDITED

    source, (chosen,) = open_image(image), counted(seed, 1)
    (path,) = outputs(output, f"{image.stem}-{slug(instruction)}-grid", [chosen])
    if path.resolve() == image.resolve():
        raise ConfigError(f"the sheet would overwrite {image}", "Give another name with -o")
    from ip2p.editor import Editor
    from ip2p.grid import scale_grid

    editor = Editor.from_pretrained(model, precision=precision, report=say)
    sheet = scale_grid(
        editor, source, instruction, text_scales=columns, image_scales=rows, seed=chosen,
        **settings,
    )  # fmt: skip
    told = {"instruction": instruction, "seed": chosen, "text_scales": columns, "image_scales": rows, "model": model}
    write(sheet, path, told, EDITED)


def _numbers(text: str, option: str) -> list[float]:
    """Numbers between commas.

    Raises:
        ConfigError: one is none, or not finite.
    """
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{option} {text!r} are no numbers", "Give numbers with commas, such as 1.5,3,7.5")
    return numbers
