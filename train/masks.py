"""Masks of what edits change, from the column `edit_mask` of packed pairs, cropped and mirrored as their pictures."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from datasets import Image as Picture
from jaxtyping import Float
from torch import Tensor

from ip2p.errors import DataError, ImageError
from ip2p.pairs.stored import read_stored
from ip2p.pictures.read import decode_image
from ip2p.train.batches import Augmentation, augment

MASK_COLUMN = "edit_mask"


class Masks:
    """Gives the masks of pairs as shares of changed pixels in each latent pixel.

    Args:
        pairs: one split of a data set, with or without a column `edit_mask`: 255 where an edit changes a picture, 0
            elsewhere.
        downscale: side of a latent pixel, in pixels.
    """

    def __init__(self, pairs: Dataset, *, downscale: int) -> None:
        self.downscale = downscale
        self.stored: Dataset | None = None
        if MASK_COLUMN in pairs.column_names:
            stored = pairs.select_columns([MASK_COLUMN])
            plain = isinstance(stored.features[MASK_COLUMN], Picture)
            self.stored = stored.cast_column(MASK_COLUMN, Picture(decode=False)) if plain else stored

    def at(
        self,
        rows: Sequence[int],
        augmentations: Sequence[Augmentation],
        shapes: Sequence[tuple[int, int]],
        instead: Float[Tensor, "b 1 h w"],
    ) -> Float[Tensor, "b 1 h w"]:
        """Return the share of changed pixels, 0 to 1, in each latent pixel of these rows.

        Args:
            rows: rows of the data set.
            augmentations: how the pictures of each were cropped and mirrored.
            shapes: width and height of the crop of each.
            instead: what rows without a mask have in its place.
        """
        if self.stored is None:
            return instead
        found = []
        for row, augmentation, shape, other in zip(rows, augmentations, shapes, instead, strict=True):
            stored = self.stored[row][MASK_COLUMN]
            found.append(other if stored is None else self._mask(stored, row, augmentation, shape).to(other))
        return torch.stack(found)

    def _mask(
        self, stored: dict[str, Any], row: int, augmentation: Augmentation, shape: tuple[int, int]
    ) -> Float[Tensor, "1 h w"]:
        """Read a mask; a latent pixel has the mean of its pixels."""
        name = f"{MASK_COLUMN} of row {row}"
        try:
            mask = decode_image(read_stored(stored, name), name, frame=0).convert("L")
        except ImageError as error:
            raise DataError(
                f"cannot read it: {error.what}", "Build the data set again, or set changed_weight=0"
            ) from error
        mask = augment(mask, shape, augmentation)
        shares = torch.frombuffer(bytearray(mask.tobytes()), dtype=torch.uint8).float().reshape(1, *shape[::-1])
        return torch.nn.functional.avg_pool2d(shares / 255, self.downscale)
