"""Commands of single pictures: edit, generate and inspect."""

from collections.abc import Callable, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ip2p.cli.help import Context, GroupedCommand
from ip2p.cli.lazy import make_app
from ip2p.cli.options import (
    BUNDLED_EDITOR,
    PHOTO_EDITOR,
    Frame,
    ModelChoice,
    Negative,
    Output,
    Samples,
    Seed,
    choose_base,
    choose_editor,
    compose,
    editing_options,
    generation_options,
    refuse_empty,
    refuse_unused,
    say,
)
from ip2p.cli.outputs import Result, output_paths, plan_parameters, require_free, require_same, sample_seeds, write
from ip2p.errors import ConfigError, InstructionError

if TYPE_CHECKING:
    from PIL.Image import Image

    from ip2p.diffusion.previews import Previews
    from ip2p.editing.editor import Edited

BUNDLED_CLIP = "storybook-clip-a"
NOTHING_CHANGED, ALL_CHANGED = 0.005, 0.98
"""Shares of changed pixels below and above which an edit gets a hint."""
FEW_STEPS = 5

app = make_app()


@app.command(cls=GroupedCommand)
@compose(editor=choose_editor, settings=editing_options)
def edit(
    context: Context,
    image: Annotated[Path, typer.Argument(help="Picture file: PNG, JPEG, WebP, TIFF, AVIF or another common format.")],
    instructions: Annotated[
        list[str],
        typer.Argument(metavar="INSTRUCTION...", help='Such as "make it winter"; several are applied in sequence.'),
    ],
    output: Output = None,
    seed: Seed = None,
    samples: Samples = 1,
    mask: Annotated[
        Path | None,
        typer.Option(help="Picture of the same size: white is edited, black stays.", rich_help_panel="Picture"),
    ] = None,
    keep_best: Annotated[
        bool,
        typer.Option(
            "--keep-best",
            help="Write only the best of the samples, chosen by CLIP's directional similarity.",
            rich_help_panel="Edit",
        ),
    ] = False,
    clip: Annotated[
        str | None,
        typer.Option(help="CLIP for --keep-best: bundled name, folder or hub id.", rich_help_panel="Edit"),
    ] = None,
    caption: Annotated[
        str | None, typer.Option(help="What the picture shows, for --keep-best.", rich_help_panel="Edit")
    ] = None,
    edited_caption: Annotated[
        str | None, typer.Option(help="What the result should show, for --keep-best.", rich_help_panel="Edit")
    ] = None,
    frame: Frame = None,
    native: Annotated[
        bool,
        typer.Option(
            "--native", help="Leave the result at the size that the model works at.", rich_help_panel="Output"
        ),
    ] = False,
    save_progress: Annotated[
        bool,
        typer.Option("--save-progress", help="Write intermediate pictures, too.", rich_help_panel="Output"),
    ] = False,
    every: Annotated[
        int,
        typer.Option(
            "--progress-every", min=1, help="Denoising steps between intermediate pictures.", rich_help_panel="Output"
        ),
    ] = 5,
    negative_prompt: Negative = None,
    *,
    editor: ModelChoice,
    settings: dict[str, Any],
) -> None:
    """Edit a picture by one instruction, or by several in sequence."""
    for instruction in instructions:
        refuse_empty(instruction, "instruction", "make it winter")
    refuse_unused(context, keep_best, "without --keep-best", "clip", "caption", "edited_caption")
    refuse_unused(context, save_progress, "without --save-progress", "every")
    if native and len(instructions) > 1:
        raise ConfigError(
            "--native is for one instruction", "Leave it out: edits in sequence are made at the picture's own size"
        )
    judge = choose_clip(editor.model, clip, samples) if keep_best else None
    captions = pair_captions(caption, edited_caption)
    from ip2p.editing.masks import open_mask
    from ip2p.pictures.parameters import describe_source, slug
    from ip2p.pictures.read import open_image
    from ip2p.pictures.write import EDITED

    source = open_image(image, frame)
    masks = open_mask(mask, source.size) if mask else None
    seeds = sample_seeds(seed, samples)
    name = f"{image.stem}-{slug(' '.join(instructions))}"
    paths = output_paths(output, name, seeds)
    about = describe_source(image, mask=mask, frame=frame, native=native)
    asked = {"turns": instructions, "input_sha256": about["input_sha256"]}
    reads = [image, *filter(None, [mask])]
    for path, drawn in zip(paths, seeds, strict=True):
        require_free(path, asked | {"seed": drawn}, reads)
    if judge:
        (best,) = output_paths(output, name, seeds[:1])
        require_free(best, asked, reads)
    if editor.model == BUNDLED_EDITOR:
        say(f"the bundled editor draws storybook scenes; for photos use --model {PHOTO_EDITOR}")
    loaded = editor.load_editor()
    several = len(instructions) > 1
    planned = plan_parameters(loaded.backbone, settings) | about | {"instruction": instructions[-1]}
    planned |= {"negative_prompt": negative_prompt} if negative_prompt else {}
    turns = {"turns": instructions, "keep_unchanged": planned.get("keep_unchanged", True)} if several else {}
    for path, drawn in zip(paths, seeds, strict=True):
        require_same(path, planned | turns | {"seed": drawn})
    if judge:
        require_same(best, planned | turns, ignored=["seed"])
    previews, on_edit = None, None
    if save_progress:
        previews, on_edit = progress_writer(paths, seeds, instructions, every, reads, planned)
    settings |= {"seeds": seeds, "masks": masks, "negative_prompt": negative_prompt, "measure_change": True}
    if several:
        from ip2p.editing.sequence import edit_in_sequence

        edits = edit_in_sequence(loaded, source, instructions, previews=previews, on_edit=on_edit, **settings)
    else:
        edits = loaded.edit(
            source, instructions, previews=previews(1) if previews else None, **settings, keep_size=not native
        )
    if judge:
        edits = [choose_best(edits, source, ", ".join(instructions), captions, judge)]
        paths = output_paths(output, name, [edits[0].seed])
    replaced = ["seed"] if judge else []  # the best of other samples is the same result
    write(
        [
            Result(each.image, path, {**each.parameters, **about}, *describe_change(each), ignored=replaced)
            for each, path in zip(edits, paths, strict=True)
        ],
        EDITED,
    )


@app.command(cls=GroupedCommand)
@compose(model=choose_base, settings=generation_options)
def generate(
    caption: Annotated[str, typer.Argument(help='Such as "a red barn by a lake in summer".')],
    output: Output = None,
    seed: Seed = None,
    samples: Samples = 1,
    negative_prompt: Negative = None,
    *,
    model: ModelChoice,
    settings: dict[str, Any],
) -> None:
    """Draw a picture from a caption."""
    refuse_empty(caption, "caption", "a red barn by a lake in summer")
    if "strength" in settings:
        raise ConfigError("strength would do nothing: there is no picture to begin with", "Leave it out")
    seeds = sample_seeds(seed, samples)
    from ip2p.pictures.parameters import slug

    paths = output_paths(output, slug(caption), seeds)
    for path, each in zip(paths, seeds, strict=True):
        require_free(path, {"caption": caption, "seed": each})
    from ip2p.editing.generation import generate as draw
    from ip2p.pictures.write import GENERATED

    backbone = model.load("base")
    from ip2p.models.inference import record_parameters

    used = record_parameters(backbone, backbone.settings.replace(**settings))
    unused = {"strength"} | ({"reuse"} if backbone.compiled else set())  # a compiled UNet reuses no features
    used = {name: value for name, value in used.items() if name not in unused}
    negative = {"negative_prompt": negative_prompt} if negative_prompt else {}
    for path, each in zip(paths, seeds, strict=True):
        require_same(path, {"caption": caption, "seed": each, **used, **negative})
    pictures = draw(backbone, [caption] * samples, seeds=seeds, negative_prompt=negative_prompt, **settings)
    others = negative | ({"together": samples} if samples > 1 else {})
    write(
        [
            Result(picture, path, {"caption": caption, "seed": each, **used, **others})
            for picture, path, each in zip(pictures, paths, seeds, strict=True)
        ],
        GENERATED,
    )


@app.command()
def inspect(picture: Annotated[Path, typer.Argument(help="PNG, JPEG or WebP file.")]) -> None:
    """Show how a picture was made, and the command that makes it again."""
    from ip2p.pictures.parameters import FILE_KEYS, command, printable
    from ip2p.pictures.write import WRITE_FORMATS, read_parameters

    parameters = read_parameters(picture)
    for name, value in parameters.items():
        print(f"{printable(name)}: {printable(value)}")
    suffix = picture.suffix if picture.suffix.lower() in WRITE_FORMATS else ".png"
    again = command(parameters, f"{picture.stem}-again{suffix}")
    if again is None:
        return
    print(f"\n{again}")
    if changed := [parameters[key] for key in FILE_KEYS if _is_changed(parameters, key)]:
        have = "have" if changed[1:] else "has"
        them = "them" if changed[1:] else "it"
        say(f"{' and '.join(map(printable, changed))} {have} changed since it was made from {them}")
    if missing := [parameters[key] for key in FILE_KEYS if key in parameters and not Path(parameters[key]).is_file()]:
        say(f"the command needs {' and '.join(map(printable, missing))} in the folder where it is run")
    if "together" in parameters:
        say("it was drawn together with others; drawn alone, some of its values may differ by one level of 255")


def _is_changed(parameters: Mapping[str, Any], key: str) -> bool:
    """Whether the file that a parameter names is here with other contents than the recorded hash says."""
    path, digest = Path(str(parameters.get(key, ""))), parameters.get(f"{key}_sha256")
    if not path.is_file() or digest is None:
        return False
    from ip2p.shards import hash_file

    return bool(hash_file(path) != digest)


def describe_change(edit: "Edited") -> tuple[str, str]:
    """Say what share of the pixels was changed, and what to do if it is none or all of them, or if it was blocked."""
    if edit.blocked:
        return "", f"the model's safety checker blocked it {edit.parameters['blocked'].partition(', ')[2]}".rstrip()
    shares = ", then ".join(f"{share:.0%}" for share in edit.changed)
    said, few = f"{shares} of the pixels changed", int(edit.parameters.get("steps", 20)) < FEW_STEPS
    if few and (min(edit.changed) < NOTHING_CHANGED or max(edit.changed) > ALL_CHANGED):
        return said, f"{edit.parameters['steps']} denoising steps are few: give more --steps"
    if min(edit.changed) < NOTHING_CHANGED:
        return said, "almost nothing changed: raise --text-scale, or lower --image-scale, or try another --seed"
    if max(edit.changed) > ALL_CHANGED:
        return said, "almost everything changed: if that is too much, raise --image-scale, or lower --text-scale"
    return said, ""


def choose_clip(model: str, clip: str | None, samples: int) -> str:
    """Choose the CLIP that ranks samples: as given, or the bundled one for the bundled editor.

    Raises:
        ConfigError: there are fewer than two samples, or no CLIP is known for the model.
    """
    if samples < 2:
        raise ConfigError("--keep-best has one sample to choose from", "Give --samples 2 or more")
    if clip is None and model != BUNDLED_EDITOR:
        raise ConfigError(
            f"--keep-best has no CLIP to judge pictures of {model} by",
            f"Give --clip openai/clip-vit-large-patch14 for photos, or {BUNDLED_CLIP} for storybook scenes",
        )
    return clip or BUNDLED_CLIP


def pair_captions(caption: str | None, edited_caption: str | None) -> tuple[str, str] | None:
    """Pair the captions before and after the edit; None if not given.

    Raises:
        InstructionError: one is missing or empty, or both are equal.
    """
    if caption is None and edited_caption is None:
        return None
    if not (caption or "").strip() or not (edited_caption or "").strip():
        raise InstructionError("one of --caption and --edited-caption is missing", "Give both, or none")
    assert caption and edited_caption
    if caption.split() == edited_caption.split():
        raise InstructionError(f"both captions are {caption!r}", "Say in the edited one what is different")
    return caption, edited_caption


def choose_best(
    edits: "Sequence[Edited]", source: "Image", instruction: str, captions: tuple[str, str] | None, clip: str
) -> "Edited":
    """Choose the edit with the best directional similarity, and print the scores of all."""
    from ip2p.measuring.clip import ClipScorer
    from ip2p.measuring.ranking import best_index, direction_scores

    scorer = ClipScorer.from_pretrained(clip)
    edits = [edit for edit in edits if not edit.blocked] or edits
    scores = direction_scores(scorer, source, [edit.image for edit in edits], instruction, captions)
    kept = best_index(scores)
    by = "the direction from caption to edited caption" if captions else "the instruction as direction"
    say(f"keeping the best of {len(edits)} by {clip}, {by}")
    if not captions:
        say("captions are more reliable than the instruction: give --caption and --edited-caption if you can")
    for place, (edit, score) in enumerate(zip(edits, scores, strict=True)):
        say(f"seed {edit.seed}: {score:+.3f}{'  kept' if place == kept else ''}")
    return edits[kept]


def progress_writer(
    paths: Sequence[Path],
    seeds: Sequence[int],
    texts: Sequence[str],
    every: int,
    reads: Sequence[Path],
    planned: Mapping[str, Any],
) -> "tuple[Callable[[int], Previews], Callable[[int, list[Image]], None]]":
    """Make callbacks that write the preview of every n-th step, and the picture after each edit but the last.

    Args:
        paths, seeds: path and seed of each result.
        texts: instructions in order.
        every: denoising steps from one preview to the next.
        reads: files that the command reads.
        planned: parameters that all pictures of the command have.

    Raises:
        ImageError: another file is in the way.
    """
    from ip2p.diffusion.previews import Previews
    from ip2p.pictures.write import EDITED

    def name(path: Path, number: int) -> str:
        return path.stem if len(texts) == 1 else f"{path.stem}-turn{number}"

    for path, seed in zip(paths, seeds, strict=True):  # files in the way are found before anything is drawn
        for number, text in enumerate(texts, 1):
            after = [path.with_stem(name(path, number))] if number < len(texts) else []
            on_the_way = path.parent.glob(f"{escape(name(path, number))}-step*{escape(path.suffix)}")
            for target in (*after, *on_the_way):
                made = {**planned, "instruction": text, "seed": seed}
                require_free(target, {"instruction": text, "seed": seed}, reads)
                require_same(target, made, ignored=["step", "turn"])

    def previews(number: int) -> Previews:
        def show(place: int, step: int, picture: "Image") -> None:
            path, parameters = paths[place], {"instruction": texts[number - 1], "seed": seeds[place], "step": step}
            path = path.with_stem(f"{name(path, number)}-step{step:03d}")
            write([Result(picture, path, {**planned, **parameters})], EDITED)

        return Previews(every, show)

    def on_edit(number: int, pictures: "list[Image]") -> None:
        for path, seed, picture in zip(paths, seeds, pictures, strict=True):
            if number < len(texts):
                parameters = {**planned, "instruction": texts[number - 1], "seed": seed, "turn": number}
                write([Result(picture, path.with_stem(name(path, number)), parameters)], EDITED)

    return previews, on_edit
