"""Triplets of anybody: input, instruction and, where there are any, exact target, mask, captions and task.

They are read from every layout of `ip2p.pairs`, one by one; pictures are read and decoded when a triplet is loaded.
What a triplet lacks is told by name, so that the measures that need it count it and do not score it.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from ip2p.errors import DataError, ImageError
from ip2p.pairs.columns import Reading, TripletReading
from ip2p.pairs.read import stored_pairs
from ip2p.pairs.row_reader import RowReader
from ip2p.pairs.rows import SIDES, StoredPair
from ip2p.pairs.stored import Stored, read_stored
from ip2p.pictures.read import check_shape, decode_image

Lack = Literal[
    "no target", "target of another size", "no mask", "mask that cannot be read", "mask of another size",
    "mask without an edit", "no captions", "equal captions",
]  # fmt: skip
"""Inputs that some measures need and a triplet does not have."""
HALF = 128
ROW_HINT = "Mend the row or remove it; the others are measured without it"


class Pictures(NamedTuple):
    """The pictures of a triplet, all of one size.

    Attributes:
        source: picture before the edit, RGB.
        target: exact picture after it; None if there is none of the size of the source.
        mask: gray picture, white where the edit may change pixels; None if there is none of the size of the source.
        lacks: what the pictures lack.
    """

    source: Image.Image
    target: Image.Image | None
    mask: Image.Image | None
    lacks: tuple[Lack, ...]


@dataclass(frozen=True)
class Triplet:
    """A row of a set of triplets.

    Attributes:
        place: file and row, unique in the set.
        instruction: instruction of the edit.
        caption, edited_caption: captions before and after the edit; "" if they are not known.
        task: kind of edit; "" if it is not known.
        split: "train" or "test".
        fault: why the row cannot be used at all; "" if it can.
    """

    place: str
    instruction: str
    caption: str
    edited_caption: str
    task: str
    split: str
    fault: str
    _stored: Callable[[], StoredPair] = field(repr=False, compare=False)

    @property
    def lacks(self) -> tuple[Lack, ...]:
        """Inputs that its texts lack: without two captions that differ, the direction of an edit is undefined."""
        if not (self.caption and self.edited_caption):
            return ("no captions",)
        return ("equal captions",) if self.caption == self.edited_caption else ()

    def load(self) -> Pictures:
        """Decode the pictures.

        Raises:
            DataError: the row has a fault.
            ImageError: its source or its target cannot be read.
        """
        if self.fault:
            raise DataError(f"{self.place}: {self.fault}", ROW_HINT)
        stored = self._stored()
        source = self._decode(stored.source, "source")
        target = self._decode(stored.edited, "target") if stored.edited else None
        check_shape(source.size, f"{self.place}, the source")
        lacks: list[Lack] = []
        if target is None:
            lacks.append("no target")
        elif target.size != source.size:
            target, lacks = None, [*lacks, "target of another size"]
        mask, lack = self._load_mask(stored.mask, source.size)
        return Pictures(source, target, mask, (*lacks, lack) if lack else tuple(lacks))

    def hash_pictures(self) -> str:
        """Hash the stored bytes of its pictures, and why it cannot be used; a picture that is not there has none."""
        digest = hashlib.sha256(self.fault.encode(errors="replace"))
        try:
            stored = self._stored()
        except DataError:  # loading it will say why
            return digest.hexdigest()[:16]
        for side in SIDES:
            try:
                data = read_stored(getattr(stored, side), side)
            except ImageError:
                data = b""
            digest.update(hashlib.sha256(data).digest())
        return digest.hexdigest()[:16]

    def _decode(self, stored: Stored | None, side: str) -> Image.Image:
        name = f"{self.place}, the {side}"
        return decode_image(read_stored(stored, name), name, frame=0).convert("RGB")

    def _load_mask(self, stored: Stored | None, size: tuple[int, int]) -> tuple[Image.Image | None, Lack | None]:
        """Decode the mask; a mask that cannot be read is none."""
        if stored is None:
            return None, "no mask"
        try:
            name = f"{self.place}, the mask"
            mask = to_mask(decode_image(read_stored(stored, name), name, frame=0))
        except ImageError:
            return None, "mask that cannot be read"
        if mask.size != size:
            return None, "mask of another size"
        return (mask, None) if mask.getbbox() else (None, "mask without an edit")


def read_triplets(source: str | Path, reading: Reading | None = None) -> Iterator[Triplet]:
    """Read triplets one by one from a file or folder of any layout, from `save_to_disk`, or from the hub.

    A row without a target is one without pixel truth and no fault; so is one of captions before and after and a single
    column `image`, such as Emu Edit's, whose picture is the one to edit.

    Args:
        source: file, folder, or name of a data set on the hub.
        reading: names of columns, and an instruction for all.

    Raises:
        DataError: it does not exist, or has none of the known layouts.
    """
    reading = TripletReading(**dict(reading or Reading()))
    rows = RowReader(source, reading)
    for pair in stored_pairs(source, reading):
        fault = pair.fault or ("no source picture" if pair.source is None else "")
        fault = fault or ("" if pair.instruction else "no instruction")
        yield Triplet(
            pair.place,
            pair.instruction,
            pair.caption,
            pair.edited_caption,
            pair.kind,
            pair.split,
            fault,
            rows.release(pair),
        )


def to_mask(image: Image.Image) -> Image.Image:
    """Make a mask black and white, of which the white part may change.

    A picture with a hole, such as MagicBrush's, may change where it is transparent; all others where they are bright,
    or, if they were stored as truth values, where they are 1.
    """
    if "A" in image.getbands():
        hole = image.getchannel("A").point(lambda value: 0 if value >= HALF else 255)
        if hole.getbbox():
            return hole
    gray = image.convert("L")
    white = 1 if gray.getextrema()[1] == 1 else HALF
    return gray.point(lambda value: 255 if value >= white else 0)
