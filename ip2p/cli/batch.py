"""Commands that make many pictures: batch and grid."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ip2p.cli.help import GroupedCommand
from ip2p.cli.lazy import make_app
from ip2p.cli.options import (
    Frame,
    ModelChoice,
    Negative,
    Seed,
    choose_editor,
    compose,
    options_but_scales,
    options_of_rows,
    refuse_empty,
    say,
)
from ip2p.cli.outputs import Result, output_paths, plan_parameters, require_free, require_same, sample_seeds, write
from ip2p.errors import ConfigError, DataError

app = make_app()


@app.command(cls=GroupedCommand)
@compose(editor=choose_editor, settings=options_of_rows)
def batch(
    edits: Annotated[Path, typer.Argument(help='JSON lines: {"image": "a.png", "instruction": "make it winter"}.')],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; NAME-edited if not given.", rich_help_panel="Output"),
    ] = None,
    at_once: Annotated[
        int,
        typer.Option("--batch", min=1, max=256, help="Pictures in a batch.", rich_help_panel="Quality and speed"),
    ] = 8,
    negative_prompt: Negative = None,
    *,
    editor: ModelChoice,
    settings: dict[str, Any],
) -> None:
    """Make the edits listed in a file, or resume. Options apply to rows that do not set their own."""
    if not edits.is_file():
        raise DataError(f"there is no file {edits}", "Give a file of JSON lines, one edit a line")
    from ip2p.editing.batch import RESULTS_FILE, BatchRun

    out = output or edits.with_name(f"{edits.stem}-edited")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "Give a folder with -o")
    run = BatchRun(
        edits,
        out,
        editor.load_editor,
        model=editor.name,
        weights=editor.fingerprint(),
        defaults=settings | {"negative_prompt": negative_prompt},
        size=at_once,
        say=say,
    )
    done, failed, before = run.run()
    print(f"{out / RESULTS_FILE}: {done} edited, {failed} failed, {before} there before")
    raise typer.Exit(2 if failed else 0)


@app.command(cls=GroupedCommand)
@compose(editor=choose_editor, settings=options_but_scales)
def grid(
    image: Annotated[Path, typer.Argument(help="Picture to edit.")],
    instruction: Annotated[str, typer.Argument(help='Such as "make it winter".')],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG, JPEG or WebP to write.", rich_help_panel="Output")
    ] = None,
    text_scales: Annotated[
        str, typer.Option(help="Text guidance scales: how strongly to edit, column by column.", rich_help_panel="Edit")
    ] = "0.5,1,2,4,7.5",
    image_scales: Annotated[
        str, typer.Option(help="Image guidance scales: how much to keep, row by row.", rich_help_panel="Edit")
    ] = "0.5,1,1.5,2.5",
    seed: Seed = None,
    frame: Frame = None,
    negative_prompt: Negative = None,
    *,
    editor: ModelChoice,
    settings: dict[str, Any],
) -> None:
    """Draw one edit at many pairs of guidance scales, on one sheet."""
    refuse_empty(instruction, "instruction", "make it winter")
    columns, rows = _numbers(text_scales, "--text-scales"), _numbers(image_scales, "--image-scales")
    from ip2p.pictures.parameters import describe_source, slug
    from ip2p.pictures.read import open_image
    from ip2p.pictures.write import EDITED

    source, (chosen,) = open_image(image, frame), sample_seeds(seed, 1)
    (path,) = output_paths(output, f"{image.stem}-{slug(instruction)}-grid", [chosen])
    require_free(path, {"instruction": instruction, "seed": chosen, "text_scales": columns}, reads=[image])
    from ip2p.editing.grid import scale_grid

    loaded = editor.load_editor()
    about = describe_source(image, frame=frame)
    shared = plan_parameters(loaded.backbone, settings)
    planned = {name: value for name, value in shared.items() if name not in ("text_scale", "image_scale")} | {
        "instruction": instruction, "seed": chosen, "text_scales": columns, "image_scales": rows, **about,
        **({"negative_prompt": negative_prompt} if negative_prompt else {}),
    }  # fmt: skip
    require_same(path, planned)
    grid = scale_grid(
        loaded, source, instruction, text_scales=columns, image_scales=rows, seed=chosen,
        negative_prompt=negative_prompt, **settings,
    )  # fmt: skip
    parameters = grid.parameters | about
    hint = f"the model's safety checker blocked {grid.blocked} of its pictures, which are black" if grid.blocked else ""
    write([Result(grid.sheet, path, parameters, hint=hint)], EDITED)


def _numbers(text: str, option: str) -> list[float]:
    """Parse comma-separated numbers.

    Raises:
        ConfigError: one is not a number, or not finite.
    """
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{option} {text!r} is not a list of numbers", "Give numbers with commas, such as 1.5,3,7.5")
    return numbers
