"""Grids: one edit at many pairs of text and image guidance scales, all from one seed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from ip2p.editing.editor import BLOCKED_NOTE, Editor
from ip2p.editing.requests import resize
from ip2p.errors import ConfigError
from ip2p.pictures.color import to_rgb
from ip2p.pictures.contact_sheet import contact_sheet

TEXT_SCALES = (0.5, 1.0, 2.0, 4.0, 7.5)
SCALES = ("text_scale", "image_scale")
IMAGE_SCALES = (0.5, 1.0, 1.5, 2.5)
MAX_CELLS = 100


class ScaleGrid(NamedTuple):
    """A sheet of one edit at many pairs of scales.

    Args:
        sheet: sheet of all pictures.
        parameters: all parameters needed to draw it again, by name.
        blocked: number of pictures that the model's safety checker blocked; they are black.
    """

    sheet: Image.Image
    parameters: dict[str, Any]
    blocked: int


def scale_grid(
    editor: Editor,
    image: Image.Image,
    instruction: str,
    *,
    text_scales: Sequence[float] = TEXT_SCALES,
    image_scales: Sequence[float] = IMAGE_SCALES,
    seed: int,
    negative_prompt: str | None = None,
    **options: Any,
) -> ScaleGrid:
    """Draw an edit at every pair of scales: text scale to the right, image scale downwards, the picture at the left.

    Args:
        editor: editor that draws.
        image: picture of any size; the sheet shows it at the model's working size.
        instruction: instruction of the edit.
        text_scales: text guidance scales s_T of the columns.
        image_scales: image guidance scales s_I of the rows.
        seed, negative_prompt: seed and negative prompt of every cell.
        options: sampling settings of `Editor.edit`, without the two scales.

    Raises:
        InstructionError, ConfigError: see `Editor.edit`.
        ConfigError: there are no scales, or too many.
    """
    cells = len(text_scales) * len(image_scales)
    if not 1 <= cells <= MAX_CELLS:
        raise ConfigError(
            f"a grid of {cells} pictures",
            f"Give 1 to {MAX_CELLS} by text_scales and image_scales",
            arguments=["text_scales", "image_scales"],
        )
    if given := set(SCALES) & options.keys():
        raise ConfigError(
            f"a grid has no single {min(given)}",
            "Give text_scales and image_scales",
            arguments=["text_scales", "image_scales"],
        )
    for text_scale in text_scales:  # all scales are checked before the first picture is drawn
        editor.backbone.settings.replace(text_scale=text_scale)
    for image_scale in image_scales:
        editor.backbone.settings.replace(image_scale=image_scale)
    edits = [
        [
            editor.edit_one(
                image, instruction, text_scale=text_scale, image_scale=image_scale, seed=seed, keep_size=False,
                negative_prompt=negative_prompt, **options,
            )
            for text_scale in text_scales
        ]
        for image_scale in image_scales
    ]  # fmt: skip
    source = resize(to_rgb(image), edits[0][0].image.size)
    blank = Image.new("RGB", source.size, "white")
    sheet = contact_sheet(
        [[blank if number else source, *(edit.image for edit in row)] for number, row in enumerate(edits)],
        [f"image scale {scale:g}" for scale in image_scales],
        [f"the picture, and its edits: {instruction}", *(f"text scale {scale:g}" for scale in text_scales)],
    )
    shared = {name: value for name, value in edits[0][0].parameters.items() if name not in (*SCALES, "blocked")}
    blocked = sum(edit.blocked for row in edits for edit in row)
    parameters = shared | {"text_scales": list(text_scales), "image_scales": list(image_scales)}
    if blocked:
        parameters["blocked"] = f"{blocked} of {cells} {BLOCKED_NOTE}"
    return ScaleGrid(sheet, parameters, blocked)
