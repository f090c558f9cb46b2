"""Edits in sequence: several instructions, each applied to the last result; only changed pixels are replaced.

The autoencoder changes every pixel a little, and so does sampling; over several edits this would add up. So the pixels
that an edit has not changed (`changes.py`) are kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from ip2p.diffusion.previews import Previews
from ip2p.editing.editor import BLOCKED_NOTE, Edited, Editor
from ip2p.editing.requests import Images, Masks, Seeds, Texts, plan_requests
from ip2p.errors import InstructionError
from ip2p.pictures.color import with_alpha
from ip2p.seeding import derive_seed

OnEdit = Callable[[int, list[Image.Image]], None]
"""Callback that receives the number of an edit, from 1, and the pictures after it."""


def edit_in_sequence(
    editor: Editor,
    images: Images,
    instructions: Sequence[str],
    *,
    seeds: Seeds = None,
    samples: int | None = None,
    masks: Masks = None,
    negative_prompt: Texts | None = None,
    keep_unchanged: bool | None = None,
    previews: Callable[[int], Previews] | None = None,
    on_edit: OnEdit | None = None,
    **settings: Any,
) -> list[Edited]:
    """Edit pictures by several instructions, one after the other, at full size.

    Args:
        editor: editor to use.
        images: one or more images, all edited by the same instructions.
        instructions: instructions in order, at least one. The first edit uses the seed, as in `Editor.edit`; each of
            the others a seed derived from it.
        seeds, samples, masks, negative_prompt: see `Editor.edit`; a mask and a negative prompt apply to all edits.
        keep_unchanged: whether to keep pixels that an edit did not change, to the bit; None takes the model's own
            setting, and true if it has none.
        previews: function from the number of an edit, from 1, to its previews.
        on_edit: callback after each edit.
        settings: other arguments of `Editor.edit`.

    Returns:
        Pictures after the last edit, image by image, and within these sample by sample.

    Raises:
        InstructionError, ImageError, ConfigError: see `Editor.edit`.
    """
    instructions = [instructions] if isinstance(instructions, str) else instructions
    if not instructions:
        raise InstructionError("there is no instruction", 'Give one or more, such as "make it winter"')
    if keep_unchanged is None:
        own: Any = settings.get("settings") or editor.backbone.settings
        keep_unchanged = own.keep_unchanged is not False
    for text in instructions:
        # All edits are checked before the first begins.
        requests = plan_requests(images, text, seeds, samples, masks=masks, negative_prompts=negative_prompt)
        seeds = [request.seed for request in requests]
        samples = len(requests) // (1 if isinstance(images, Image.Image) else len(images))
    pictures, taken = [request.image for request in requests], [0] * len(requests)
    changed: list[tuple[float, ...]] = [()] * len(requests)
    blocked: list[list[int]] = [[] for _ in requests]
    for number, text in enumerate(instructions, 1):
        edits = editor.edit(
            pictures, text, seeds=[_edit_seed(request.seed, number) for request in requests],
            masks=[request.mask for request in requests], keep_unchanged=keep_unchanged,
            negative_prompt=[request.negative_prompt for request in requests],
            previews=previews(number) if previews else None, **settings,
        )  # fmt: skip
        taken = [before + edit.unet_rows for before, edit in zip(taken, edits, strict=True)]
        for place, edit in enumerate(edits):
            changed[place] += edit.changed
            blocked[place] += [number] if edit.blocked else []
            pictures[place] = edit.image
        if on_edit:
            on_edit(number, list(pictures))
    several = len(instructions) > 1
    shared: dict[str, Any] = {"turns": list(instructions)} if several else {}  # the key in files
    results = []
    for place, (request, edit) in enumerate(zip(requests, edits, strict=True)):
        parameters = edit.parameters | shared | {"seed": request.seed}
        if changed[place]:
            parameters["changed"] = [round(share, 4) for share in changed[place]]
        if several and blocked[place]:
            numbers = ", ".join(map(str, blocked[place]))
            parameters["blocked"] = f"{BLOCKED_NOTE}, at edit {numbers} of {len(instructions)}"
        image = with_alpha(pictures[place], request.alpha)
        results.append(Edited(image, request.seed, parameters, taken[place], changed[place]))
    return results


def _edit_seed(seed: int, number: int) -> int:
    return seed if number == 1 else derive_seed(seed, "turn", "", number)
