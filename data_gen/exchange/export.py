"""Write pairs in the layouts that other trainers read: `ip2p dataset export`.

webdataset   tar files; a row is original_image.png, edited_image.png, edit_mask.png and json of one key
ai-toolkit   control/ and target/, instructions beside the targets, and datasets.yaml for its config
musubi       the same two folders, and dataset.toml
diffusers    parquet with the columns that train_instruct_pix2pix.py expects
magicbrush   parquet with the columns of MagicBrush; masks are transparent where something changes
folder       pictures and metadata.jsonl, an image folder of `datasets`
"""

import hashlib
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from datasets import Features, Value
from datasets import Image as Picture
from PIL import Image

from ip2p.data_gen.exchange.check import decode
from ip2p.data_gen.exchange.describe import (
    PATTERNS,
    describe_columns,
    describe_rows,
    read_card,
    readme,
    settings_files,
)
from ip2p.data_gen.pairs.edit_mask import edit_mask
from ip2p.data_gen.pairs.pack import write_splits
from ip2p.errors import DataError, ImageError
from ip2p.manifest import verify_dataset, write_documents, write_manifest
from ip2p.pairs.read import locate, read_pairs
from ip2p.pairs.rows import PairRow
from ip2p.pictures.read import open_guarded
from ip2p.shards import Contents, atomic_dir, fingerprint

Layout = Literal["webdataset", "ai-toolkit", "musubi", "diffusers", "magicbrush", "folder"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
ROWS_IN_FILE = 500
"""Rows of a tar or parquet file."""
ENDINGS = {"PNG": "png", "JPEG": "jpg"}
"""Formats that every trainer reads, with the ending of their files; pictures of others become PNG."""
CHECK_HINT = "Find all such rows by `ip2p dataset check`, and mend or remove them"


class ExportRow(NamedTuple):
    """A pair to write: pictures as PNG or JPEG, and texts by name of the column."""

    key: str
    split: str
    size: tuple[int, int]
    pictures: dict[str, bytes]
    texts: dict[str, str]

    def file(self, name: str) -> str:
        """Return the ending of the file of a picture."""
        return _format(self.pictures[name])[1]


Write = Callable[[Path, Iterator[ExportRow]], dict[str, Contents]]
"""Function that writes rows into a folder, and returns what each file holds."""


def export_pairs(source: Path, target: Path, layout: Layout) -> int:
    """Write all pairs of a data set in another layout, with a manifest and a card; returns their number.

    Args:
        source: data set in any layout that `read_pairs` knows.
        target: folder to write, which does not exist yet.
        layout: layout to write.

    Raises:
        DataError: the target exists, the source is damaged or of an earlier filter, has no pairs, or a row of it cannot
            be read.
    """
    if target.exists():
        raise DataError(f"{target} exists", "Give a folder that does not exist yet")
    if locate(source).is_dir():
        verify_dataset(locate(source))
    sizes: list[tuple[int, int]] = []
    with atomic_dir(target) as temporary:
        files = WRITERS[layout](temporary, _export_rows(source, sizes))
        if not sizes:
            raise DataError(f"there is no pair in {source}", "Give a data set with pairs")
        config = fingerprint({"layout": layout, "files": {name: each.sha256 for name, each in files.items()}})
        columns = describe_columns(layout, temporary, files)
        write_documents(temporary, settings_files(layout, target.absolute(), files, max(sizes)))  # to be edited
        documents = {"README.md": readme(layout, source, files, columns, len(sizes))}
        if layout in PATTERNS:
            license = str(read_card(source)[0].get("license", "unknown"))
            documents["croissant.json"] = describe_rows(
                layout, files, columns, name=f"ip2p-edits-{config}", license=license
            )
        write_manifest(temporary, files, config, write_documents(temporary, documents))
    return len(sizes)


def _export_rows(source: Path, sizes: list[tuple[int, int]]) -> Iterator[ExportRow]:
    """Read rows and bring their pictures into formats that every trainer reads; sizes of the pictures are appended."""
    for number, row in enumerate(read_pairs(source)):
        if row.fault or not (row.source and row.edited):
            raise DataError(f"{row.place}: {row.fault or 'no source picture'}", CHECK_HINT)
        try:
            before, after = (decode(data, f"a picture of {row.place}") for data in (row.source, row.edited))
            pictures = {"original_image": _plain(row.source), "edited_image": _plain(row.edited)}
        except ImageError as error:
            raise DataError(error.what, CHECK_HINT) from error
        if row.mask:
            pictures["edit_mask"] = row.mask
        elif before.size == after.size:
            pictures["edit_mask"] = _encode(edit_mask(before, after))
        sizes.append(after.size)
        yield ExportRow(f"{number:07d}", row.split, after.size, pictures, _texts(row))


def _texts(row: PairRow) -> dict[str, str]:
    """Return the texts of a row by the names of our own columns; only those that there are, but the instruction."""
    texts = {
        "edit_prompt": " ".join(row.instruction.split()), "original_prompt": row.caption,
        "edited_prompt": row.edited_caption, "id": row.id, "kind": row.kind, "inverse_of": row.inverse_of,
        "provenance": row.provenance,
    }  # fmt: skip
    always = {"edit_prompt", "inverse_of"} if row.id else {"edit_prompt"}  # few rows have an inverse, all its column
    return {name: text for name, text in texts.items() if text or name in always}


def _write_tars(folder: Path, rows: Iterator[ExportRow]) -> dict[str, Contents]:
    waiting: defaultdict[str, list[ExportRow]] = defaultdict(list)
    files: dict[str, Contents] = {}
    written: defaultdict[str, int] = defaultdict(int)

    def flush(split: str) -> None:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for row in waiting[split]:
                members = {f"{name}.{row.file(name)}": data for name, data in row.pictures.items()}
                members["json"] = json.dumps(row.texts, ensure_ascii=False).encode()
                for field, data in members.items():
                    member = tarfile.TarInfo(f"{row.key}.{field}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        name = f"{split}-{written[split]:06d}.tar"
        files[name] = _put(folder / name, stream.getvalue(), rows=len(waiting.pop(split)))
        written[split] += 1

    for row in rows:
        waiting[row.split].append(row)
        if len(waiting[row.split]) == ROWS_IN_FILE:
            flush(row.split)
    for split in list(waiting):
        flush(split)
    return files


def _write_two_folders(folder: Path, rows: Iterator[ExportRow]) -> dict[str, Contents]:
    files: dict[str, Contents] = {}
    for row in rows:
        contents = {
            f"control/{row.key}.{row.file('original_image')}": row.pictures["original_image"],
            f"target/{row.key}.{row.file('edited_image')}": row.pictures["edited_image"],
            f"target/{row.key}.txt": f"{row.texts['edit_prompt']}\n".encode(),
        }
        for name, data in contents.items():
            path = f"{row.split}/{name}"
            files[path] = _put(folder / path, data, rows=int(name.endswith(".txt")))
    return files


def _write_folder(folder: Path, rows: Iterator[ExportRow]) -> dict[str, Contents]:
    files: dict[str, Contents] = {}
    lines: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        names = {}
        for column, data in row.pictures.items():
            names[f"{column}_file_name"] = f"{row.key}-{column}.{row.file(column)}"
            path = f"{row.split}/{names[f'{column}_file_name']}"
            files[path] = _put(folder / path, data)
        lines[row.split].append(json.dumps(names | row.texts, ensure_ascii=False))
    for split, texts in lines.items():
        path = f"{split}/metadata.jsonl"
        files[path] = _put(folder / path, "".join(f"{text}\n" for text in texts).encode(), rows=len(texts))
    return files


def _write_diffusers(folder: Path, rows: Iterator[ExportRow]) -> dict[str, Contents]:
    columns = ("original_prompt", "edited_prompt", "id", "kind", "inverse_of", "provenance")
    features = {"input_image": Picture(), "edit_prompt": Value("string"), "edited_image": Picture()}
    features |= {"edit_mask": Picture()} | {name: Value("string") for name in columns}

    def convert(row: ExportRow) -> Mapping[str, Any]:
        return {
            "input_image": row.pictures["original_image"], "edited_image": row.pictures["edited_image"],
            "edit_mask": row.pictures.get("edit_mask"), **{name: row.texts.get(name, "") for name in columns},
            "edit_prompt": row.texts["edit_prompt"],
        }  # fmt: skip

    converted = ((row.split, _store(convert(row))) for row in rows)
    return write_splits(folder, converted, Features(features), shard_rows=ROWS_IN_FILE, config="")


def _write_magicbrush(folder: Path, rows: Iterator[ExportRow]) -> dict[str, Contents]:
    features = Features(
        {
            "img_id": Value("string"),
            "turn_index": Value("int32"),
            "source_img": Picture(),
            "mask_img": Picture(),
            "instruction": Value("string"),
            "target_img": Picture(),
        }  # fmt: skip
    )

    def convert(row: ExportRow) -> Mapping[str, Any]:
        return {
            "img_id": row.texts.get("id", row.key), "turn_index": 1, "source_img": row.pictures["original_image"],
            "mask_img": _cut_out(row), "instruction": row.texts["edit_prompt"],
            "target_img": row.pictures["edited_image"],
        }  # fmt: skip

    splits = {"train": "train", "test": "dev"}
    converted = ((splits[row.split], _store(convert(row))) for row in rows)
    return write_splits(folder, converted, features, shard_rows=ROWS_IN_FILE, config="")


WRITERS: dict[Layout, Write] = {
    "webdataset": _write_tars,
    "ai-toolkit": _write_two_folders,
    "musubi": _write_two_folders,
    "diffusers": _write_diffusers,
    "magicbrush": _write_magicbrush,
    "folder": _write_folder,
}


def _store(row: Mapping[str, Any]) -> dict[str, Any]:
    """Wrap the pictures of a row as `datasets` stores them."""
    return {name: {"bytes": value, "path": None} if isinstance(value, bytes) else value for name, value in row.items()}


def _cut_out(row: ExportRow) -> bytes | None:
    """Make the source picture transparent where the edit changes it."""
    if "edit_mask" not in row.pictures:
        return None
    source = decode(row.pictures["original_image"], row.key)
    with open_guarded(row.pictures["edit_mask"], row.key) as stored:
        mask = stored.convert("L").resize(source.size)
    source.putalpha(mask.point(lambda value: 255 - value))
    return _encode(source)


def _put(path: Path, data: bytes, *, rows: int = 0) -> Contents:
    """Write a file of a folder that is not there yet under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return Contents(rows=rows, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _plain(data: bytes) -> bytes:
    """Return PNG and JPEG as they are, with their marks, and other formats as PNG."""
    return data if _format(data)[0] in ENDINGS else _encode(decode(data, "a picture"))


def _format(data: bytes) -> tuple[str, str]:
    """Return the format of a picture, and the ending of its files."""
    with open_guarded(data, "a picture") as image:
        kind = str(image.format)
    return kind, ENDINGS.get(kind, "")


def _encode(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
