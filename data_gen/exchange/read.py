"""Read pairs of pictures from the layouts in which people keep them, row by row.

    parquet            columns of pictures, by any of the names below
    *.jsonl, *.csv     columns with names of picture files
    *.tar              WebDataset: members of one key are a row
    control/, target/  pictures of the same name in two folders, and instructions in text files beside them
    prompt.json        folders as InstructPix2Pix's authors wrote them: {seed}_0.jpg, {seed}_1.jpg

What is wrong with a row is told in the row, so that the others can be read.
"""

import csv
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ip2p.builds import BUILD_FILE, PACKED_FOLDER
from ip2p.data_gen.pairs.preferences import PREFERENCES
from ip2p.errors import DataError, one_line
from ip2p.manifest import MANIFEST_FILE, find_faults, read_manifest

NAMES: dict[str, tuple[str, ...]] = {
    "source": (
        "original_image", "input_image", "source_image", "source_img", "src_img", "image_before", "before", "original",
        "control", "source", "input", "0", "image",
    ),
    "edited": (
        "edited_image", "target_image", "target_img", "output_image", "edited_img", "tgt_img", "image_after", "after",
        "edited", "target", "output", "image", "1", "file_name",
    ),
    "instruction": ("edit_prompt", "instruction", "edit_instruction", "edit", "prompt", "txt", "text", "caption"),
    "caption": ("original_prompt", "input_prompt", "input_caption", "source_caption", "original_caption"),
    "edited_caption": ("edited_prompt", "output_prompt", "output_caption", "target_caption", "edited_caption"),
    "mask": ("edit_mask", "mask_img", "mask_image", "mask"),
    "id": ("id", "img_id", "key"),
    "kind": ("kind", "edit_type", "task"),
    "provenance": ("provenance",),
}  # fmt: skip
"""Names of the columns of each field, the more certain ones first."""
ENDINGS = ("_file_name", "_file", "_path")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SPLIT = re.compile(r"(?:^|[/_.-])(train|test|dev|validation|val)(?=[/_.-]|$)")
ROWS_AT_ONCE = 64
END_OF_TAR = 1024
"""Zero bytes at the end of every whole tar file."""
LAYOUT_HINT = (
    "Give a folder or file of parquet, JSONL, CSV or tar, or folders control/ and target/ with pictures of the same "
    "names; `hf download --repo-type dataset` brings one from the hub"
)


@dataclass(frozen=True)
class PairRow:
    """A pair as it was read.

    Attributes:
        place: file and row.
        source, edited, mask: bytes of the pictures; None if there is none.
        instruction, caption, edited_caption, kind, id, provenance: texts; "" if there is none.
        split: "train" or "test".
        fault: what is wrong, if the row cannot be read.
    """

    place: str
    source: bytes | None = None
    edited: bytes | None = None
    mask: bytes | None = None
    instruction: str = ""
    caption: str = ""
    edited_caption: str = ""
    kind: str = ""
    id: str = ""
    provenance: str = ""
    split: str = "train"
    fault: str = ""


def pairs_folder(path: Path) -> Path:
    """Return the packed data set of the folder of a build, and any other path as it is."""
    return path / PACKED_FOLDER if (path / BUILD_FILE).exists() else path


def read_pairs(path: Path) -> Iterator[PairRow]:
    """Read all pairs of a file or folder, which is compared with its manifest first, if it has one.

    Raises:
        DataError: it does not exist, or has none of the known layouts.
    """
    path = pairs_folder(path)
    if not path.exists():
        raise DataError(f"there are no pairs at {path}", LAYOUT_HINT)
    root = path if path.is_dir() else path.parent
    manifest = read_manifest(root)
    for fault in find_faults(root, manifest) if manifest else ():
        yield PairRow(MANIFEST_FILE, fault=fault.what)
    for patterns, read in LAYOUTS:
        files = [path] if path.is_file() else sorted({each for pattern in patterns for each in path.rglob(pattern)})
        files = [each for each in files if any(each.match(pattern) for pattern in patterns)]
        if files:
            for file in files:
                if PREFERENCES in file.relative_to(root).parts[:-1]:
                    continue  # pairs of pairs
                for row in read(root, file):
                    split = SPLIT.search(file.relative_to(root).as_posix())
                    yield replace(row, split="train" if not split or split[1] == "train" else "test")
            return
    raise DataError(f"{path} has pairs in no layout that is known", LAYOUT_HINT)


def _read_parquet(root: Path, file: Path) -> Iterator[PairRow]:
    name, number = file.relative_to(root), 0
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as table:
            for batch in table.iter_batches(ROWS_AT_ONCE):
                for values in batch.to_pylist():
                    yield _to_row(values, f"{name}, row {number}", lambda each: _read_file(root, file.parent, each))
                    number += 1
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        yield PairRow(f"{name}, row {number}", fault=f"the file cannot be read from here on ({one_line(error)})")


def _read_metadata(root: Path, file: Path) -> Iterator[PairRow]:
    name, number = file.relative_to(root), 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows: Iterable[Any] = csv.DictReader(stream) if file.suffix == ".csv" else stream
            for number, row in enumerate(rows):
                place = f"{name}, row {number}"
                try:
                    values = row if isinstance(row, dict) else json.loads(row)
                    if not isinstance(values, dict):
                        raise ValueError("it is no JSON object")
                except ValueError as error:
                    yield PairRow(place, fault=f"not readable ({one_line(error)})")
                else:
                    yield _to_row(values, place, lambda each: _read_file(root, file.parent, each))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        yield PairRow(f"{name}, row {number}", fault=f"the file cannot be read from here on ({one_line(error)})")


def _read_tar(root: Path, file: Path) -> Iterator[PairRow]:
    """Read members in order; those of one row follow each other and have the same name up to the first dot."""
    name, key, values = file.relative_to(root), "", dict[str, Any]()
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                folder, _, base = member.name.rpartition("/")
                stem, _, field = base.partition(".")
                if f"{folder}/{stem}" != key and values:
                    yield _to_row(values, f"{name}, {key.lstrip('/')}", lambda each: None)
                    values = {}
                key = f"{folder}/{stem}"
                stream = archive.extractfile(member) if member.isfile() else None
                values |= _member(field, stream.read()) if stream else {}
    except (OSError, tarfile.TarError, ValueError) as error:
        yield PairRow(f"{name}, {key.lstrip('/')}", fault=f"the file cannot be read from here on ({one_line(error)})")
        return
    if values:
        yield _to_row(values, f"{name}, {key.lstrip('/')}", lambda each: None)
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - END_OF_TAR))
        if any(stream.read()):
            yield PairRow(f"{name}, end", fault="the file is cut off: rows may be missing")


def _member(field: str, data: bytes) -> dict[str, Any]:
    """Return the values in a member of a tar file, by the ending of its name."""
    stem, _, ending = field.rpartition(".")
    if ending == "json":
        found = json.loads(data)
        return found if isinstance(found, dict) else {}
    if f".{ending}" in PICTURES:
        return {stem or "image": data}
    return {field: data.decode("utf-8", "replace").strip()}


def _read_two_folders(root: Path, folder: Path) -> Iterator[PairRow]:
    """Read the pictures of one folder with those of the same names in the folder beside it."""
    targets = next((folder.parent / name for name in TARGETS if (folder.parent / name).is_dir()), None)
    if not folder.is_dir() or targets is None:
        return
    stems = {each.stem for side in (folder, targets) for each in side.iterdir() if each.suffix.lower() in PICTURES}
    for stem in sorted(stems):
        text = targets / f"{stem}.txt"
        values = {
            "source": _picture_named(folder, stem), "edited": _picture_named(targets, stem), "id": stem,
            "instruction": text.read_text(errors="replace").strip() if text.is_file() else "",
        }  # fmt: skip
        yield _to_row(values, f"{targets.relative_to(root)}, {stem}", lambda each: _read_file(root, root, each))


def _read_authors(root: Path, file: Path) -> Iterator[PairRow]:
    """Read a folder of the authors of InstructPix2Pix: one prompt, and two pictures for each seed."""
    try:
        prompt = json.loads(file.read_text())
        texts = {name: prompt[key] for key, name in AUTHORS.items() if key in prompt}
    except (OSError, ValueError, TypeError) as error:
        yield PairRow(str(file.relative_to(root)), fault=f"not readable ({one_line(error)})")
        return
    for first in sorted(file.parent.glob("*_0.jpg")):
        values = texts | {"source": str(first), "edited": str(first.with_name(f"{first.stem[:-1]}1.jpg"))}
        yield _to_row(values, str(first.relative_to(root)), lambda each: _read_file(root, root, each))


TARGETS = ("target", "targets", "edited", "images", "output", "after")
AUTHORS = {"caption": "original_prompt", "input": "original_prompt", "edit": "edit_prompt", "output": "edited_prompt"}
"""Names of columns for the keys of prompt.json."""
LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[Path, Path], Iterator[PairRow]]], ...] = (
    (("*.parquet",), _read_parquet),
    (("*.tar",), _read_tar),
    (("prompt.json",), _read_authors),
    (("*.jsonl", "*.csv"), _read_metadata),
    (("control", "controls", "source", "input", "original", "before"), _read_two_folders),
)
"""Which files or folders belong to a layout, and what reads one of them."""


def _picture_named(folder: Path, stem: str) -> str | None:
    found = (folder / f"{stem}{ending}" for ending in PICTURES)
    return next((str(path) for path in found if path.is_file()), None)


def _read_file(root: Path, folder: Path, name: str) -> bytes | None:
    """Read a picture file that a row names; None if it is not there, or outside of the data set."""
    path = (folder / name).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        return None
    return path.read_bytes()


def _to_row(values: Mapping[str, Any], place: str, read: Callable[[str], bytes | None]) -> PairRow:
    """Find the fields of a row by the names of its columns, and read the pictures that it names."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        short = str(name).lower()
        for ending in ENDINGS:
            short = short.removesuffix(ending) or short
        plain.setdefault(short, value)
    found: dict[str, Any] = {}
    for field, names in NAMES.items():
        value = next((plain[name] for name in names if plain.get(name) is not None), None)
        if field not in ("source", "edited", "mask"):
            found[field] = str(value).strip() if value is not None else ""
        elif value is not None:
            found[field] = _picture(value, read)
    faults = [f"no {side} picture" for side in ("source", "edited") if not found.get(side)]
    return PairRow(place, **found, fault=" and ".join(faults))


def _picture(value: Any, read: Callable[[str], bytes | None]) -> bytes | None:
    """Return the bytes of a picture: given as bytes, as {bytes, path}, or as the name of a file."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    return read(value) if isinstance(value, str) and value else None
