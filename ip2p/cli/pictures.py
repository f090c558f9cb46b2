"""Commands that make pictures."""

from pathlib import Path
from typing import Annotated

import typer

from ip2p.cli.options import (
    BUNDLED_BASE,
    BUNDLED_EDITOR,
    FOR_PHOTOS,
    Output,
    Resolution,
    Samples,
    Scheduler,
    Seed,
    Steps,
    counted,
    outputs,
    refuse_empty,
    say,
    slug,
    source_of,
    write,
)
from ip2p.errors import ImageError

app = typer.Typer()


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
    frame: Annotated[int | None, typer.Option(help="Which one of an animation or of many pages, from 0.")] = None,
    native: Annotated[
        bool, typer.Option("--native", help="Leave the result in the size that the model works in.")
    ] = False,
) -> None:
    """Edit a picture as an instruction says."""
    refuse_empty(instruction, "instruction", "make it winter")
    from ip2p.opening import open_image
    from ip2p.saving import EDITED

    source = open_image(image, frame)
    seeds = counted(seed, samples)
    paths = outputs(output, f"{image.stem}-{slug(instruction)}", seeds)
    if image.resolve() in [path.resolve() for path in paths]:
        raise ImageError(f"the edit would overwrite {image}", "Give another name with -o")
    if model == BUNDLED_EDITOR:
        say(f"the bundled editor draws storybook scenes; for photos use --model {FOR_PHOTOS}")
    from ip2p.editor import Editor

    edits = Editor.from_pretrained(model).edit(
        source, instruction, text_scale=text_scale, image_scale=image_scale, steps=steps, seeds=seeds,
        scheduler=scheduler, resolution=resolution, keep_size=not native,
    )  # fmt: skip
    about = source_of(image, frame, native)
    for each, path in zip(edits, paths, strict=True):
        write(each.image, path, {**each.parameters, **about}, EDITED)


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
    refuse_empty(caption, "caption", "a red barn by a lake in summer")
    seeds = counted(seed, samples)
    paths = outputs(output, slug(caption), seeds)
    from ip2p.backbone import load_backbone
    from ip2p.editor import best_device
    from ip2p.generation import generate as draw
    from ip2p.saving import GENERATED

    backbone = load_backbone(model, device=best_device(), want="base")
    settings = backbone.settings.replaced(scale=scale, steps=steps, scheduler=scheduler, resolution=resolution)
    used = settings.model_dump(include={"scale", "steps", "scheduler", "resolution"})
    pictures = draw(backbone, [caption] * samples, seeds=seeds, **used)
    for picture, path, each in zip(pictures, paths, seeds, strict=True):
        write(picture, path, {"caption": caption, "seed": each, **used, "model": model}, GENERATED)


@app.command()
def inspect(picture: Annotated[Path, typer.Argument(help="PNG, JPEG or WebP file.")]) -> None:
    """Show how a picture was made, and the command that makes it again."""
    from ip2p.parameters import command, shown
    from ip2p.saving import FORMATS, read_parameters

    parameters = read_parameters(picture)
    for name, value in parameters.items():
        print(f"{shown(name)}: {shown(value)}")
    suffix = picture.suffix if picture.suffix.lower() in FORMATS else ".png"
    again = command(parameters, f"{picture.stem}-again{suffix}")
    if again:
        print(f"\n{again}")
