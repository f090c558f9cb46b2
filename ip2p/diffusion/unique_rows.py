"""Rows of a batch that are equal are predicted once, and rows that nobody needs not at all."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ip2p.conditioning import Conditioning
from ip2p.diffusion.guidance import UNetCall

SameAs = Callable[[int], Sequence[int | None]]
"""Function from the number of branches to, for each row of a batch, the first row that equals it at this point of the
run (itself if it is the first), or None if the row is not needed any more. A row equals others of its branch only."""


class SelectedText(NamedTuple):
    """Embedded texts, and some of their rows.

    Args:
        text: texts of all rows.
        rows: selected rows.
        selected: texts of these.
    """

    text: Conditioning
    rows: list[int]
    selected: Conditioning


class UniqueRows:
    """A UNet that computes one of several equal rows, and gives its prediction to all of them.

    Equal rows stay equal if their noise and guidance are equal. Rows that are not needed get zeros.

    Args:
        predict: UNet call.
        same_as: which rows are equal or not needed; it is asked at every call. A batch of the UNet has a row for each
            picture once or several times, branch by branch.

    Attributes:
        rows_each: number of UNet rows computed for each picture; those of equal pictures count for the first.
    """

    def __init__(self, predict: UNetCall, same_as: SameAs) -> None:
        self.predict, self.same_as = predict, same_as
        self.rows_each = [0] * len(same_as(1))
        self._texts: dict[int, SelectedText] = {}  # they keep the texts alive, so that no other one gets an id

    def __call__(self, x: Float[Tensor, "b c h w"], timestep: Tensor, text: Conditioning) -> Float[Tensor, "b k h w"]:
        """The predictions of all rows.

        Raises:
            ValueError: the batch does not consist of whole branches.
        """
        pictures = len(self.rows_each)
        branches, left = divmod(len(x), pictures)
        if left:
            raise ValueError(f"a batch of {len(x)} rows does not consist of branches of {pictures} rows")
        same_as = self.same_as(branches)
        rows = [row for row, first in enumerate(same_as) if row == first]
        for row in rows:
            self.rows_each[row % pictures] += 1
        if len(rows) == len(x):
            return self.predict(x, timestep, text)
        predicted = x.new_zeros(x.shape)  # of a text-to-image model, whose input and output have equal channels
        if rows:
            place = {row: number for number, row in enumerate(rows)}
            found = self.predict(x[rows], timestep, self._select(text, rows))
            needed = [row for row, first in enumerate(same_as) if first is not None]
            predicted[needed] = found[[place[first] for first in same_as if first is not None]].to(x.dtype)
        return predicted

    def _select(self, text: Conditioning, rows: list[int]) -> Conditioning:
        """Select rows of texts; the same object for the same rows, as the text cache compares by identity."""
        earlier = self._texts.get(id(text))
        if earlier is None or earlier.rows != rows:
            self._texts[id(text)] = SelectedText(text, rows, text[rows])
        return self._texts[id(text)].selected
