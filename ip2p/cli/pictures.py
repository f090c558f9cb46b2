"""Commands that make pictures."""

from pathlib import Path
from typing import Annotated

import typer

from ip2p.cli.options import (
    BUNDLED_BASE,
    BUNDLED_EDITOR,
    FOR_PHOTOS,
    AllowPickle,
    ModelConfig,
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
    model: Annotated[
        str, typer.Option(help="Bundled name, folder, .safetensors file or hub id of an editor.")
    ] = BUNDLED_EDITOR,
    scheduler: Scheduler = None,
    resolution: Resolution = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the picture should not show.")] = None,
    lora: Annotated[list[str] | None, typer.Option(metavar="FILE[:SCALE]", help="LoRA weights to add.")] = None,
    embedding: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A word by textual inversion.")] = None,
    config: ModelConfig = None,
    allow_pickle: AllowPickle = False,
    safety_checker: Annotated[bool, typer.Option(help="Use the one that the model brings, if it brings one.")] = True,
    cpu_offload: Annotated[bool, typer.Option("--cpu-offload", help="Less GPU memory, slower.")] = False,
    vae_tiling: Annotated[bool, typer.Option("--vae-tiling", help="Less memory for large pictures.")] = False,
) -> None:
    """Edit a picture as an instruction says."""
    refuse_empty(instruction, "instruction", "make it winter")
    from ip2p.images import EDITED, open_image

    source = open_image(image)
    seeds = counted(seed, samples)
    paths = outputs(output, f"{image.stem}-{slug(instruction)}", seeds)
    if image.resolve() in [path.resolve() for path in paths]:
        raise ImageError(f"the edit would overwrite {image}", "Give another name with -o")
    if model == BUNDLED_EDITOR:
        say(f"the bundled editor draws storybook scenes; for photos use --model {FOR_PHOTOS}")
    from ip2p.adapters import Lora
    from ip2p.editor import Editor

    editor = Editor.from_pretrained(
        model, loras=[Lora.parse(text) for text in lora or ()], embeddings=embedding or (), config=config,
        allow_pickle=allow_pickle, safety_checker=safety_checker, cpu_offload=cpu_offload, vae_tiling=vae_tiling,
    )  # fmt: skip
    edits = editor.edit(
        source, instruction, negative_prompt=negative_prompt, text_scale=text_scale, image_scale=image_scale,
        steps=steps, seeds=seeds, scheduler=scheduler, resolution=resolution,
    )  # fmt: skip
    for each, path in zip(edits, paths, strict=True):
        write(each.image, path, each.parameters, EDITED)
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
    from ip2p.images import GENERATED

    backbone = load_backbone(model, device=best_device(), want="base")
    settings = backbone.settings.replaced(scale=scale, steps=steps, scheduler=scheduler, resolution=resolution)
    used = settings.model_dump(include={"scale", "steps", "scheduler", "resolution"})
    pictures = draw(backbone, [caption] * samples, seeds=seeds, **used)
    for picture, path, each in zip(pictures, paths, seeds, strict=True):
        write(picture, path, {"caption": caption, "seed": each, **used, "model": model}, GENERATED)
