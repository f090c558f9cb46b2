"""Results on disk, a shard for each method and batch, so that a run that was killed goes on where it was."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from PIL import Image

from ip2p.evaluation.measures import Figures
from ip2p.shards import is_shard_done, read_shard, write_shard

SCHEMA = pa.schema(
    [
        ("sample", pa.string()), ("kind", pa.string()), ("fault", pa.string()), ("figures", pa.string()),
        ("read", pa.string()), ("lacks", pa.list_(pa.string())), ("rows", pa.float64()), ("picture", pa.binary()),
    ]
)  # fmt: skip
QUALITY = 92


class Result(NamedTuple):
    """Result of a method on one sample.

    Attributes:
        sample: name of the sample.
        kind: kind of edit.
        fault: why there is no picture, or nothing to measure; empty if there is.
        figures: figures by name.
        read: attributes as the judge reads them.
        lacks: why some figures are not there, in words.
        rows: UNet rows that the picture took, the mean over its batch.
        picture: edited picture as JPEG; None where it is not kept.
    """

    sample: str
    kind: str
    fault: str = ""
    figures: Figures = {}  # noqa: RUF012  (a default that nobody changes)
    read: dict[str, str] = {}  # noqa: RUF012
    lacks: Sequence[str] = ()
    rows: float = 0.0
    picture: bytes | None = None


class ResultFolder:
    """The results of an evaluation.

    Args:
        folder: folder of the parts, one folder in it for each method.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_done(self, method: str, batch: int, mark: str) -> bool:
        """Whether a batch of a method is finished, with these samples and settings.

        Args:
            method: slug of the method.
            batch: number of the batch.
            mark: fingerprint of the samples and of all that their results depend on.
        """
        return is_shard_done(self.folder / method, batch, mark)

    def write(self, method: str, batch: int, results: Sequence[Result], mark: str) -> None:
        """Write the results of a batch, in place of older ones."""
        rows = [
            each._asdict() | {"figures": json.dumps(each.figures), "read": json.dumps(each.read)} for each in results
        ]
        write_shard(self.folder / method, batch, rows, schema=SCHEMA, config=mark)

    def read(self, method: str, batches: Sequence[int]) -> list[Result]:
        """Read the results of batches of a method, in order.

        Raises:
            DataError: one is missing or damaged.
        """
        return [
            Result(**row | {"figures": json.loads(row["figures"]), "read": json.loads(row["read"])})
            for batch in batches for row in read_shard(self.folder / method, batch)
        ]  # fmt: skip


def encode_picture(image: Image.Image) -> bytes:
    """Encode a picture as JPEG, for pages."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
