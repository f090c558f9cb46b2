"""Commands that make pictures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ip2p.cli.editing import best_of, both, chosen_clip, progress_writer
from ip2p.cli.options import (
    BUNDLED_BASE,
    BUNDLED_EDITOR,
    FOR_PHOTOS,
    Negative,
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
from ip2p.cli.shared import ChosenEditor, all_settings, chosen_editor, composed
from ip2p.errors import ConfigError, ImageError

app = typer.Typer()


@app.command()
@composed(editor=chosen_editor, settings=all_settings)
def edit(
    image: Annotated[Path, typer.Argument(help="PNG, JPEG, WEBP, BMP, GIF or TIFF file.")],
    instructions: Annotated[
        list[str],
        typer.Argument(
            metavar="INSTRUCTION...", help='Such as "make it winter"; several are done one after the other.'
        ),
    ],
    output: Output = None,
    seed: Seed = None,
    samples: Samples = 1,
    mask: Annotated[Path | None, typer.Option(help="Picture of the same size: white is edited, black stays.")] = None,
    keep_unchanged: Annotated[
        bool | None,
        typer.Option(help="Give back the pixels that an edit did not change; as a rule for several instructions."),
    ] = None,
    keep_best: Annotated[bool, typer.Option("--keep-best", help="Of the samples, by CLIP's direction.")] = False,
    clip: Annotated[str | None, typer.Option(help="CLIP for --keep-best: bundled name, folder or hub id.")] = None,
    caption: Annotated[str | None, typer.Option(help="Of the picture, for --keep-best.")] = None,
    edited_caption: Annotated[str | None, typer.Option(help="Of what is wanted, for --keep-best.")] = None,
    frame: Annotated[int | None, typer.Option(help="Which one of an animation or of many pages, from 0.")] = None,
    native: Annotated[
        bool, typer.Option("--native", help="Leave the result in the size that the model works in.")
    ] = False,
    save_progress: Annotated[bool, typer.Option("--save-progress", help="Write pictures on the way, too.")] = False,
    every: Annotated[int, typer.Option("--progress-every", min=1, help="Steps between these.")] = 5,
    negative_prompt: Negative = None,
    *,
    editor: ChosenEditor,
    settings: dict[str, Any],
) -> None:
    """Edit a picture as instructions say, one after the other."""
    for instruction in instructions:
        refuse_empty(instruction, "instruction", "make it winter")
    if native and (len(instructions) > 1 or keep_unchanged):
        raise ConfigError("--native is for one instruction", "Leave it out: turns are made at the picture's own size")
    judge = chosen_clip(editor.model, clip, samples) if keep_best else None
    captions = both(caption, edited_caption)
    from ip2p.masks import open_mask
    from ip2p.opening import open_image
    from ip2p.saving import EDITED

    source = open_image(image, frame)
    masks = open_mask(mask, source.size) if mask else None
    seeds = counted(seed, samples)
    name = f"{image.stem}-{slug(' '.join(instructions))}"
    paths = outputs(output, name, seeds)
    if image.resolve() in [path.resolve() for path in (*paths, *filter(None, [output]))]:
        raise ImageError(f"the edit would overwrite {image}", "Give another name with -o")
    if editor.model == BUNDLED_EDITOR:
        say(f"the bundled editor draws storybook scenes; for photos use --model {FOR_PHOTOS}")
    loaded = editor.load()
    settings |= {"seeds": seeds, "masks": masks, "negative_prompt": negative_prompt}
    watch, on_turn = progress_writer(paths, seeds, instructions, every) if save_progress else (None, None)
    if len(instructions) > 1 or keep_unchanged:
        from ip2p.turns import edit_in_turns

        keep = keep_unchanged is not False
        edits = edit_in_turns(
            loaded, source, instructions, keep_unchanged=keep, watch=watch, on_turn=on_turn, **settings
        )
    else:
        edits = loaded.edit(
            source, instructions, previews=watch(1) if watch else None, **settings, keep_size=not native
        )
    if judge:
        edits = [best_of(edits, source, ", ".join(instructions), captions, judge)]
        paths = outputs(output, name, [edits[0].seed])
    about = source_of(image, frame, native) | ({"mask": mask.name} if mask else {})
    for each, path in zip(edits, paths, strict=True):
        write(each.image, path, {**each.parameters, **about}, EDITED)
        if "blocked" in each.parameters:
            say(f"the model's safety checker blocked {path}, which is black; another seed or instruction may pass")


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
