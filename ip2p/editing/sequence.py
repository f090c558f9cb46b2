"""Edits in sequence: several instructions, each applied to the last result; only changed pixels are replaced.

The autoencoder changes every pixel a little, and so does sampling; over several edits this adds up. So an edit is
compared with its own input after a round trip through the autoencoder: where both are equal within the autoencoder's
error, the edit has changed nothing, and the input's pixels are kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ip2p.diffusion.previews import Previews
from ip2p.editing.editor import Edited, Editor
from ip2p.editing.masks import paste
from ip2p.editing.requests import Images, Masks, Seeds, plan_requests, resize
from ip2p.errors import InstructionError
from ip2p.models.backbone import Backbone
from ip2p.pictures.color import with_alpha
from ip2p.pictures.tensors import to_tensor
from ip2p.seeding import derive_seed

ERROR_FACTOR = 2.0
"""Differences up to this multiple of the autoencoder's median error are ignored; measured in docs/decisions.md."""
MIN_ERROR = 1 / 127.5
"""Lower bound of the autoencoder's error: one gray level of 256."""

OnEdit = Callable[[int, list[Image.Image]], None]
"""Callback that receives the number of an edit, from 1, and the pictures after it."""


@torch.no_grad()
def edit_in_sequence(
    editor: Editor,
    images: Images,
    instructions: Sequence[str],
    *,
    seeds: Seeds = None,
    samples: int | None = None,
    masks: Masks = None,
    keep_unchanged: bool = True,
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
        seeds, samples, masks: see `Editor.edit`; a mask applies to all edits.
        keep_unchanged: whether to keep pixels that an edit did not change, to the bit.
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
    for text in instructions:
        # All edits are checked before the first begins.
        requests = plan_requests(images, text, seeds, samples, masks=masks)
        seeds = [request.seed for request in requests]
        samples = len(requests) // (1 if isinstance(images, Image.Image) else len(images))
    pictures, taken = [request.image for request in requests], [0] * len(requests)
    for number, text in enumerate(instructions, 1):
        edits = editor.edit(
            pictures, text, seeds=[_edit_seed(request.seed, number) for request in requests],
            masks=[request.mask for request in requests], keep_size=False,
            previews=previews(number) if previews else None, **settings,
        )  # fmt: skip
        taken = [before + edit.unet_rows for before, edit in zip(taken, edits, strict=True)]
        for place, (request, edit) in enumerate(zip(requests, edits, strict=True)):
            before, made = pictures[place], resize(edit.image, request.image.size)
            if keep_unchanged:
                made = paste(made, before, change_mask(editor.backbone, before, edit.image))
            pictures[place] = paste(made, before, request.mask)
        if on_edit:
            on_edit(number, list(pictures))
    shared: dict[str, Any] = {"turns": list(instructions)} if len(instructions) > 1 else {}  # the key in files
    shared["keep_unchanged"] = keep_unchanged
    return [
        Edited(with_alpha(image, request.alpha), request.seed, edit.parameters | shared | {"seed": request.seed}, rows)
        for image, request, edit, rows in zip(pictures, requests, edits, taken, strict=True)
    ]


def change_mask(backbone: Backbone, before: Image.Image, edit: Image.Image) -> Image.Image:
    """Compute the mask of the pixels that an edit has changed, of the picture's size: 255 if changed, 0 if not.

    Args:
        backbone: model whose autoencoder decoded the edit.
        before: picture before the edit, of any size.
        edit: edited picture at the model's working size.
    """
    source = to_tensor([resize(before, edit.size)]).to(backbone.device)
    round_trip = backbone.decode(backbone.encode_target(source))
    share = change_per_pixel(source, round_trip, to_tensor([edit]).to(backbone.device), cell=backbone.downscale)
    mask = Image.fromarray(share[0, 0].mul(255).round().to("cpu", torch.uint8).numpy())
    return mask.resize(before.size, Image.Resampling.BILINEAR)


def change_per_pixel(
    source: Float[Tensor, "b 3 h w"], round_trip: Float[Tensor, "b 3 h w"], edit: Float[Tensor, "b 3 h w"], *, cell: int
) -> Float[Tensor, "b 1 h w"]:
    """Compute how much an edit has changed each pixel, from 0 to 1.

    With d the mean difference of edit and round trip around a pixel, and m the median over the picture of the mean
    difference of round trip and source: 0 up to d = f m, 1 from d = 2 f m, linear between; f is ERROR_FACTOR.

    Args:
        source: pictures in [-1, 1], shape (b, 3, h, w).
        round_trip: same pictures, encoded and decoded.
        edit: edited pictures, decoded by the same autoencoder.
        cell: side in pixels of the square to average over, that of a latent pixel.
    """
    error = _local_mean((round_trip - source).abs(), cell).flatten(1).median(1).values
    threshold = ERROR_FACTOR * error.clamp_min(MIN_ERROR).view(-1, 1, 1, 1)
    return ((_local_mean((edit - round_trip).abs(), cell) - threshold) / threshold).clamp(0, 1)


def _local_mean(x: Float[Tensor, "b 3 h w"], cell: int) -> Float[Tensor, "b 1 h w"]:
    """Average over all channels and the square around each pixel."""
    return F.avg_pool2d(x.mean(1, keepdim=True), 2 * (cell // 2) + 1, 1, cell // 2, count_include_pad=False)


def _edit_seed(seed: int, number: int) -> int:
    return seed if number == 1 else derive_seed(seed, "turn", "", number)
