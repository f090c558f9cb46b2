"""Rows of a batch file, read and checked line by line, so that an invalid one does not stop the others."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from ip2p.errors import ConfigError, DataError, Ip2pError, one_line
from ip2p.pictures.parameters import slug
from ip2p.pictures.read import MAX_BYTES
from ip2p.pictures.write import WRITE_FORMATS
from ip2p.seeding import derive_seed
from ip2p.settings import PRESETS, EditSettings, with_preset
from ip2p.shards import fingerprint, hash_file

RESULTS_NAME = "results"
MAX_LINE_BYTES = 1_000_000
"""Limit of the bytes of a line."""
MAX_NAME_BYTES = 255
"""Limit of the bytes of a name, which most file systems have."""

Text = Annotated[str, Field(pattern=r"\S")]


class BatchRow(BaseModel):
    """One row: a picture, its instructions and its settings. File names are relative to the batch file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    image: str = Field(min_length=1, description="the name of a picture")
    instruction: Text | None = Field(default=None, description='a text such as "make it winter"')
    instructions: list[Text] | None = Field(
        default=None, min_length=1, description="a list of texts, one edit after the other"
    )
    mask: str | None = Field(default=None, min_length=1, description="the name of a mask")
    frame: int | None = Field(default=None, ge=0, description="a frame of an animation, or page of a TIFF, from 0")
    output: str | None = Field(
        default=None, min_length=1, description="the name of a picture to write: PNG, JPEG or WebP"
    )
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
        """The instructions, in order."""
        return (self.instruction,) if self.instruction else tuple(self.instructions or ())

    def inherited(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that the row starts from: the defaults, and what their preset sets if the row has none."""
        given = {name: value for name, value in defaults.items() if name != "preset"}
        return with_preset(EditSettings, None if self.preset else defaults.get("preset"), given)

    def options(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of `Editor.edit`: the row's settings, preset and negative prompt, and defaults for the rest."""
        negative = {} if self.negative_prompt is None else {"negative_prompt": self.negative_prompt}
        return self.inherited(defaults) | with_preset(EditSettings, self.preset, self._settings) | negative

    @property
    def contents(self) -> dict[str, Any]:
        """All values of the row by key."""
        return self.model_dump(exclude_none=True) | self._settings

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "BatchRow":
        """Make a row from the JSON object of its line.

        Raises:
            ValidationError: a value other than a sampling setting is missing, unknown, or of another type.
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
        id: id derived from the contents and, for equal lines, their count.
        line: number of the line in the batch file, from 1.
        row: row of the line; None if the line is invalid.
        seed: given seed, or one derived from the id.
        output: path within the folder of results; empty if the line is invalid.
        error: reason why it cannot be made, in one line; empty if there is none.
    """

    id: str
    line: int
    row: BatchRow | None
    seed: int
    output: str
    error: str


def read_batch_file(path: Path, defaults: dict[str, Any], weights: str = "") -> Iterator[PlannedEdit]:
    """Plan the edits of a batch file, sample by sample. An invalid line gives an edit with an error.

    Args:
        path: path of a file of JSON lines; empty ones are skipped.
        defaults: settings of rows without their own, perhaps a preset, and the model's name.
        weights: fingerprint of the model's files. The ids of edits depend on it, and on the contents of pictures and
            masks, so that a result is known to be stale when one of them has changed.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    known: dict[str, int] = {}
    written: dict[str, int] = {}
    digest = cache(_digest)

    def contents(row: BatchRow) -> list[str]:
        return [digest(path.parent / name) for name in (row.image, row.mask) if name]

    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield from _plan_line(line, number, defaults, known, written, lambda row: contents(row) + [weights])
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror})", "Give a file of JSON lines") from error


def _plan_line(
    line: bytes, number: int, defaults: dict[str, Any], known: dict[str, int], written: dict[str, int],
    contents: Callable[[BatchRow], list[str]],
) -> Iterator[PlannedEdit]:  # fmt: skip
    """Plan the edits of one line; `known` counts equal lines, `written` has the line of each output."""
    try:
        row = _parse_row(line, number)
        if row.output:
            _refuse_outside(row.output)
    except Ip2pError as error:
        key = fingerprint({"line": line.hex()})
        known[key] = known.get(key, 0) + 1
        yield PlannedEdit(f"{key}-{known[key]}", number, None, 0, "", str(error))
        return
    key = fingerprint(row.inherited(defaults) | row.contents)
    known[key] = known.get(key, 0) + 1
    now = fingerprint({"row": key, "files": contents(row)})
    for sample in range(row.samples):
        name = f"{now}-{known[key]}-{sample}"
        first = derive_seed(0, "edits", f"{key}-{known[key]}") % 2**32 if row.seed is None else row.seed
        seed = (first + sample) % 2**63
        output, error_line = _output_name(row, seed, name), ""
        if any(len(part.encode()) > MAX_NAME_BYTES for part in PurePosixPath(output).parts):
            error_line = (
                f"the output {output[:80]}... has a name of more than {MAX_NAME_BYTES} bytes. Give a shorter name"
            )
            output = ""
        elif output.lower() in written:
            error_line = f"{output} is the output of line {written[output.lower()]} too. Give each a name of its own"
        if output:
            written.setdefault(output.lower(), number)
        yield PlannedEdit(name, number, row, seed, output, error_line)


def _digest(path: Path) -> str:
    """Hash the contents of a file; an empty string if it cannot be read, which fails later, when it is opened."""
    try:
        return hash_file(path) if path.is_file() and path.stat().st_size <= MAX_BYTES else ""
    except (OSError, ValueError):
        return ""


def _parse_row(line: bytes, number: int) -> BatchRow:
    """Parse and check a row.

    Raises:
        DataError: the line is no JSON object, or has unknown keys or invalid values.
    """
    if len(line) > MAX_LINE_BYTES:
        raise DataError(f"line {number} has {len(line)} bytes, more than {MAX_LINE_BYTES}", "Give a row of one edit")
    try:
        values = json.loads(line, object_pairs_hook=lambda pairs: _to_object(pairs, number))
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError(f"line {number} has half of a character, such as \\ud83d alone", "Write it in UTF-8") from None
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


def _to_object(pairs: list[tuple[str, Any]], number: int) -> dict[str, Any]:
    """Make an object of JSON.

    Raises:
        DataError: a key is there twice.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"line {number} has the key {twice!r} twice", "Leave out one of them")
    return values


def _explain_fault(number: int, name: str, kind: str, fault: Any) -> DataError:
    """Describe the error of a row, with its fix."""
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
    """Refuse an output outside of the folder of results.

    Raises:
        ConfigError: the name leads out of the folder, is that of the results, or not of a picture that can be written.
    """
    path = PurePosixPath(output.replace("\\", "/"))
    if not path.name:
        raise ConfigError(f"the output {output!r} is no name of a file", "Give a name that ends in .png")
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in output:
        raise ConfigError(f"the output {output!r} is outside of the folder of results", "Give a name within it")
    if path.suffix.lower() not in WRITE_FORMATS:
        raise ConfigError(
            f"the output {output!r} is no PNG, JPEG or WebP", f"Give a name that ends in {', '.join(WRITE_FORMATS)}"
        )
    if len(path.parts) == 1 and path.stem.lower() == RESULTS_NAME:
        raise ConfigError(f"the output {output!r} is the sheet of all results", "Give another name")
    if len(path.parts) > 1 and path.parts[0].lower() in (f"{RESULTS_NAME}.png", f"{RESULTS_NAME}.jsonl"):
        raise ConfigError(f"the output {output!r} is in the place of the results", "Give another name")


def _output_name(row: BatchRow, seed: int, name: str) -> str:
    """Name the output of an edit: as given, with the seed if there are samples; else by picture, text and contents."""
    if row.output:
        path = PurePosixPath(row.output)
        return str(path if row.samples == 1 else path.with_stem(f"{path.stem}-{seed}"))
    key, again, sample = name.split("-")
    apart = "" if (again, sample) == ("1", "0") else f"-{again}-{sample}"
    return f"{slug(Path(row.image).stem)}-{slug(' '.join(row.sequence))}-{key[:8]}{apart}.png"
