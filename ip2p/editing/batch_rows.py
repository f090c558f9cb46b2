"""The rows of a batch: `edits.jsonl` line by line, each checked by itself, so that a bad one stops no other."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from ip2p.errors import ConfigError, DataError, Ip2pError, one_line
from ip2p.pictures.parameters import slug
from ip2p.seeding import derive_seed
from ip2p.settings import PRESETS, EditSettings, with_preset
from ip2p.shards import fingerprint

RESULTS_NAME = "results"
MAX_LINE_BYTES = 1_000_000
"""Bytes of a line."""

Text = Annotated[str, Field(pattern=r"\S")]


class BatchRow(BaseModel):
    """One line: a picture, what to do with it, and how. Names of files are relative to the file of rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    image: str = Field(min_length=1, description="the name of a picture")
    instruction: Text | None = Field(default=None, description='a text such as "make it winter"')
    instructions: list[Text] | None = Field(
        default=None, min_length=1, description="a list of texts, one edit after the other"
    )
    mask: str | None = Field(default=None, min_length=1, description="the name of a mask")
    output: str | None = Field(default=None, min_length=1, description="the name of a picture to write")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="a whole number from 0")
    samples: int = Field(default=1, ge=1, le=64, description="a whole number from 1 to 64")
    negative_prompt: str | None = Field(default=None, description="a text of what the picture should not show")
    preset: str | None = Field(default=None, description=f"one of {', '.join(PRESETS)}")
    _settings: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_form(self) -> "BatchRow":
        if (self.instruction is None) == (self.instructions is None):
            raise ValueError("it has to have an instruction, or instructions for several edits, and not both")
        return self

    @property
    def sequence(self) -> tuple[str, ...]:
        """What to do, in order."""
        return (self.instruction,) if self.instruction else tuple(self.instructions or ())

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `Editor.edit` that the row gives: sampling settings, also by its preset, and negative prompt."""
        negative = {"negative_prompt": self.negative_prompt} if self.negative_prompt else {}
        return with_preset(EditSettings, self.preset, self._settings) | negative

    @property
    def contents(self) -> dict[str, Any]:
        """Everything that the row gives, by key."""
        return self.model_dump(exclude_none=True) | self._settings

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "BatchRow":
        """A row from the object of its line.

        Raises:
            ValidationError: a value that is no sampling setting is missing, not known, or of another kind.
            ConfigError: a sampling setting is out of range, or there is no such preset.
        """
        given = {name: value for name, value in values.items() if name in EditSettings.model_fields}
        row = cls.model_validate({name: value for name, value in values.items() if name not in given})
        row._settings.update({name: value for name, value in given.items() if value is not None})
        EditSettings.model_validate(row._settings, strict=True)
        EditSettings().replace(**with_preset(EditSettings, row.preset, row._settings))
        return row


ROW_KEYS = (*BatchRow.model_fields, *EditSettings.model_fields)


class PlannedEdit(NamedTuple):
    """One picture to make.

    Args:
        id: of its contents; equal lines have ids of their own.
        line: number in the file of rows, from 1.
        row: None where the line is not one.
        seed: given, or made of the id.
        output: within the folder of results; empty where the row has none that may be written.
        error: why it cannot be made, in one line; empty if nothing is known against it.
    """

    id: str
    line: int
    row: BatchRow | None
    seed: int
    output: str
    error: str


def read_batch_file(path: Path, defaults: dict[str, Any]) -> Iterator[PlannedEdit]:
    """Edits of a file of rows, sample by sample. Lines that make no sense are edits with an error.

    Args:
        path: JSON lines; empty ones are passed over.
        defaults: settings of the rows that do not have their own, and the model's name.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    known: dict[str, int] = {}
    written: dict[str, int] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield from _plan_line(line, number, defaults, known, written)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror})", "Give a file of JSON lines") from error


def _plan_line(
    line: bytes, number: int, defaults: dict[str, Any], known: dict[str, int], written: dict[str, int]
) -> Iterator[PlannedEdit]:
    """Edits of one line, `known` counting lines of equal contents and `written` telling the line of each output."""
    try:
        row = _parse_row(line, number)
        if row.output:
            _refuse_outside(row.output)
    except Ip2pError as error:
        key = fingerprint({"line": line.hex()})
        known[key] = known.get(key, 0) + 1
        yield PlannedEdit(f"{key}-{known[key]}", number, None, 0, "", str(error))
        return
    key = fingerprint(defaults | row.contents)
    known[key] = known.get(key, 0) + 1
    for sample in range(row.samples):
        name = f"{key}-{known[key]}-{sample}"
        first = derive_seed(0, "edits", f"{key}-{known[key]}") % 2**32 if row.seed is None else row.seed
        seed = (first + sample) % 2**63
        output, error_line = _output_name(row, seed, name), ""
        if output.lower() in written:
            error_line = f"{output} is the output of line {written[output.lower()]} too. Give each a name of its own"
        written.setdefault(output.lower(), number)
        yield PlannedEdit(name, number, row, seed, output, error_line)


def _parse_row(line: bytes, number: int) -> BatchRow:
    """A checked row.

    Raises:
        DataError: the line is no JSON object, or has unknown or impossible values.
    """
    if len(line) > MAX_LINE_BYTES:
        raise DataError(f"line {number} has {len(line)} bytes, more than {MAX_LINE_BYTES}", "Give a row of one edit")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"line {number} is not JSON ({one_line(error, 120)})", 'Write {"image": ..., "instruction": ...}'
        ) from None
    if not isinstance(values, dict):
        raise DataError(f"line {number} is no object", 'Write {"image": ..., "instruction": ...}')
    try:
        return BatchRow.parse(values)
    except ConfigError as error:
        raise DataError(f"line {number}: {error.what}", error.fix) from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise _explain_fault(number, str(fault["loc"][0]) if fault["loc"] else "", fault["type"], fault) from None


def _explain_fault(number: int, name: str, kind: str, fault: Any) -> DataError:
    """What is wrong with a row, and what it should be."""
    if not name:
        return DataError(f"line {number}: {fault['msg'].removeprefix('Value error, ')}", "Give one of them")
    if kind == "extra_forbidden":
        return DataError(f"line {number} has an unknown key {name!r}", f"Known are {', '.join(ROW_KEYS)}")
    should = BatchRow.model_fields[name].description
    if kind == "missing":
        return DataError(f"line {number} has no {name}", f"Give {should}")
    got = repr(fault["input"])
    return DataError(f"line {number}: {name}={got[:80]} cannot be used", f"Give {should}")


def _refuse_outside(output: str) -> None:
    """Outputs lie in the folder of results.

    Raises:
        ConfigError: the name leads out of it, is one of our own, or not of a PNG.
    """
    path = PurePosixPath(output.replace("\\", "/"))
    if not path.name:
        raise ConfigError(f"the output {output!r} is no name of a file", "Give a name that ends in .png")
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in output:
        raise ConfigError(f"the output {output!r} lies outside of the folder of results", "Give a name within it")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"the output {output!r} is no PNG", "Give a name that ends in .png")
    if len(path.parts) == 1 and path.stem.lower() == RESULTS_NAME:
        raise ConfigError(f"the output {output!r} is the sheet of all results", "Give another name")


def _output_name(row: BatchRow, seed: int, name: str) -> str:
    """Where an edit goes: as told, with the seed where there are samples; else named by picture, words and contents."""
    if row.output:
        path = PurePosixPath(row.output)
        return str(path if row.samples == 1 else path.with_stem(f"{path.stem}-{seed}"))
    key, again, sample = name.split("-")
    apart = "" if (again, sample) == ("1", "0") else f"-{again}-{sample}"
    return f"{slug(Path(row.image).stem)}-{slug(' '.join(row.sequence))}-{key[:8]}{apart}.png"
