"""Rows of the stages on disk: their columns, and conversion to and from records."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
from datasets import Features
from datasets import Image as Picture
from PIL import Image

from ip2p.data_gen.build_folder import BuildFolder
from ip2p.data_gen.config import TriplesConfig
from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import decode_image
from ip2p.records import NOT_SEEN_WHOLE, Candidate, Caption, Record, Triple
from ip2p.shards import read_shard

_COLUMNS: dict[Any, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), float | None: pa.float64()}


def schema_of(record: type[Record], **more: pa.DataType) -> pa.Schema:
    """Return the columns of a record's fields and further ones; fields that are not numbers become text, as in JSON."""
    fields = {name: _COLUMNS.get(field.annotation, pa.string()) for name, field in record.model_fields.items()}
    return pa.schema(fields | more)


CAPTION_SCHEMA = schema_of(Caption)
CHAIN_COLUMNS, LONG_COLUMNS = ("chain", "turn"), ("long_instruction",)
"""Columns of triples that only builds with chains or with long instructions have."""
DRAWING_COLUMNS = {"unet_rows": pa.int64(), "early": pa.string(), "stored": pa.bool_()}
"""UNet rows of a candidate, what its early estimate said, and whether its pictures are stored."""
JUDGED_SCHEMA = schema_of(Candidate, **DRAWING_COLUMNS)
"""Columns of candidates without pictures."""
CANDIDATE_SCHEMA = pa.schema([field for field in JUDGED_SCHEMA if not field.name.startswith("judge_")])
"""Columns of candidates that no judge was asked about."""
PICTURES = ("original_image", "edited_image")
CANDIDATE_FEATURES = Features(Features.from_arrow_schema(CANDIDATE_SCHEMA) | {name: Picture() for name in PICTURES})
"""Columns of candidates with both pictures."""


@dataclass(frozen=True)
class FilteredShard:
    """A filtered shard.

    Attributes:
        triples: all triples, refused ones too.
        candidates: all candidates, refused ones too.
        unet_rows: UNet rows of all candidates.
        not_stored: ids of the candidates whose pictures are not stored.
        verdicts: what the early estimate of each candidate said, by id: "hopeful", "hopeless", or "" without one.
    """

    triples: list[Triple]
    candidates: list[Candidate]
    unet_rows: int
    verdicts: dict[str, str] = field(default_factory=dict)
    not_stored: frozenset[str] = frozenset()

    @cached_property
    def by_id(self) -> dict[str, Triple]:
        """Triples by id."""
        return triples_by_id(self.triples)

    @cached_property
    def kept(self) -> dict[str, Candidate]:
        """Kept candidates by id."""
        return {each.id: each for each in self.candidates if each.status == "ok"}

    @property
    def seen(self) -> list[Candidate]:
        """Candidates of which whole pictures are stored, and no safety checker objected."""
        seen = (each for each in self.candidates if each.reason not in NOT_SEEN_WHOLE)
        return [each for each in seen if each.id not in self.not_stored]

    def kind(self, candidate: Candidate) -> str:
        """Return the kind of edit of a candidate."""
        return self.by_id[candidate.triple_id].kind


def triple_schema(settings: TriplesConfig) -> pa.Schema:
    """Return the columns of triples that are written with these settings."""
    unused = (CHAIN_COLUMNS if settings.turns == 1 else ()) + (() if settings.long_form else LONG_COLUMNS)
    return pa.schema([field for field in schema_of(Triple) if field.name not in unused])


def triples_by_id(triples: Sequence[Triple]) -> dict[str, Triple]:
    """Return triples by id; a triple wins over its refused repetitions, which have the same id."""
    return {triple.id: triple for triple in reversed(triples)}


def to_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Convert records to rows."""
    return [record.model_dump(mode="json") for record in records]


def to_candidate(row: Mapping[str, Any]) -> Candidate:
    """Convert a row, which may be one without scores, to a candidate, ignoring further columns."""
    return Candidate.model_validate({name: row[name] for name in Candidate.model_fields if name in row})


def read_triples(build_folder: BuildFolder, index: int) -> list[Triple]:
    """Read all triples of a shard, refused ones too."""
    return [Triple.model_validate(row) for row in read_shard(build_folder.stage_folder("triples"), index)]


def read_filtered(build_folder: BuildFolder, index: int) -> FilteredShard:
    """Read a filtered shard."""
    found = list(read_shard(build_folder.stage_folder("filtered"), index))
    unet_rows = sum(row["unet_rows"] for row in found)
    verdicts = {row["id"]: row.get("early") or "" for row in found}  # earlier versions have none
    not_stored = frozenset(row["id"] for row in found if row.get("stored") is False)
    triples, candidates = read_triples(build_folder, index), [to_candidate(row) for row in found]
    return FilteredShard(triples, candidates, unet_rows, verdicts, not_stored)


def read_pictures(build_folder: BuildFolder, index: int, wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows with pictures of the candidates of a shard whose ids are in `wanted`."""
    if wanted:
        yield from (row for row in read_shard(build_folder.stage_folder("candidates"), index) if row["id"] in wanted)


def to_png(image: Image.Image) -> dict[str, Any]:
    """Encode a picture as PNG for storage; equal pictures give equal bytes."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def from_png(stored: Mapping[str, Any]) -> Image.Image:
    """Decode a stored picture, as `ip2p edit` opens a file."""
    return to_rgb(decode_image(stored["bytes"], "a stored picture"))
