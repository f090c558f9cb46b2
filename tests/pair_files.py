"""Pairs in every layout that is read, written without code of ip2p."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as Picture
from PIL import Image

TEXTS = ("make it winter", "add a rainbow", "turn it blue", "make it night")
Row = tuple[bytes, bytes, str]


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    """Encode a picture."""
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def make_rows(count: int = 20, size: tuple[int, int] = (32, 32)) -> list[Row]:
    """Make pairs of pictures of different brightness."""
    rows = []
    for number in range(count):
        before = Image.linear_gradient("L").resize(size).convert("RGB")
        before.paste((255 * number // count, 90, 30), (0, 0, 10, 10))
        rows.append((encode(before), encode(before.point(lambda value: value // 2 + 100)), TEXTS[number % 4]))
    return rows


ROWS = make_rows()


def table(names: tuple[str, str, str], rows: list[Row]) -> Dataset:
    """Make a data set with columns of these names: before, after, instruction."""
    features = Features({names[0]: Picture(), names[1]: Picture(), names[2]: Value("string")})
    values = [dict(zip(names, ({"bytes": a}, {"bytes": b}, text), strict=True)) for a, b, text in rows]
    return Dataset.from_list(values, features=features)


def write_files(folder: Path, rows: list[Row], before: str, after: str) -> None:
    """Write the pictures of rows as files; {} stands for the number of the row."""
    for number, (first, second, _) in enumerate(rows):
        for pattern, data in ((before, first), (after, second)):
            path = folder / pattern.format(f"{number:03d}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def parquet(*names: str) -> Callable[[Path], Path]:
    """Return what writes a folder of parquet with columns of these names."""

    def write(folder: Path) -> Path:
        table((names[0], names[1], names[2]), ROWS).to_parquet(folder / "train-00000.parquet")
        return folder

    return write


def one_parquet(folder: Path) -> Path:
    """Write one parquet file."""
    return parquet("original_image", "edited_image", "edit_prompt")(folder) / "train-00000.parquet"


def saved(folder: Path) -> Path:
    """Write a folder of save_to_disk."""
    table(("input_image", "edited_image", "edit_prompt"), ROWS).save_to_disk(folder / "saved")
    return folder / "saved"


def saved_splits(folder: Path) -> Path:
    """Write a folder of save_to_disk with a split."""
    names = ("input_image", "edited_image", "edit_prompt")
    DatasetDict({"train": table(names, ROWS[:-1]), "test": table(names, ROWS[-1:])}).save_to_disk(folder / "saved")
    return folder / "saved"


def image_folder(folder: Path) -> Path:
    """Write an image folder with metadata.jsonl."""
    write_files(folder, ROWS, "{}-a.png", "{}-b.png")
    names = ({"input_image_file_name": f"{n:03d}-a.png", "file_name": f"{n:03d}-b.png"} for n in range(len(ROWS)))
    lines = [json.dumps(each | {"edit_prompt": row[2]}) for each, row in zip(names, ROWS, strict=True)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def one_csv(folder: Path) -> Path:
    """Write one CSV with names of picture files."""
    write_files(folder, ROWS, "pictures/{}-a.png", "pictures/{}-b.png")
    with (folder / "my_pairs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["source_img", "target_img", "instruction"])
        writer.writerows((f"pictures/{n:03d}-a.png", f"pictures/{n:03d}-b.png", row[2]) for n, row in enumerate(ROWS))
    return folder / "my_pairs.csv"


def edits_csv(*columns: str) -> Callable[[Path], Path]:
    """Return what writes before/ after/ edits.csv, with a column of the names of both pictures, or with one of each."""

    def write(folder: Path) -> Path:
        write_files(folder, ROWS, "before/{}.png", "after/{}.png")
        with (folder / "edits.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([*columns, "edit"])
            writer.writerows([*[f"{n:03d}.png"] * len(columns), row[2]] for n, row in enumerate(ROWS))
        return folder

    return write


def two_folders(folder: Path) -> Path:
    """Write ai-toolkit's folders."""
    write_files(folder, ROWS, "control/{}.png", "target/{}.png")
    for number, row in enumerate(ROWS):
        (folder / f"target/{number:03d}.txt").write_text(f"{row[2]}\n")
    return folder


def authors_tree(folder: Path) -> Path:
    """Write the tree of the paper's authors; a seed that seeds.json does not list is not one of the set."""
    seeds = []
    for number, (before, after, text) in enumerate(ROWS):
        place = folder / f"{number:07d}"
        place.mkdir()
        (place / "prompt.json").write_text(json.dumps({"caption": f"a {number}", "edit": text, "output": "c"}))
        for seed in (5, 77):
            (place / f"{seed}_0.jpg").write_bytes(before)
            (place / f"{seed}_1.jpg").write_bytes(after)
        seeds.append([place.name, ["77"]])
    (folder / "seeds.json").write_text(json.dumps(seeds))
    return folder


def web_dataset(folder: Path, *, masks: bool = False) -> Path:
    """Write a tar file of WebDataset; with masks of edits of the whole picture, if asked."""
    white = {"mask.png": encode(Image.new("L", (32, 32), 255))} if masks else {}
    with tarfile.open(folder / "train-000000.tar", "w") as archive:
        for number, (before, after, text) in enumerate(ROWS):
            fields = {"input.png": before, "edited.png": after, "txt": text.encode()} | white
            for field, data in fields.items():
                member = tarfile.TarInfo(f"{number:05d}.{field}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return folder


LAYOUTS: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "instructpix2pix": (parquet("original_image", "edited_image", "edit_prompt"), []),
    "magicbrush": (parquet("source_img", "target_img", "instruction"), []),
    "diffusers": (parquet("input_image", "edited_image", "edit_prompt"), []),
    "named columns": (parquet("a", "b", "c"), ["columns.original=a", "columns.edited=b", "columns.instruction=c"]),
    "one parquet": (one_parquet, []),
    "save_to_disk": (saved, []),
    "save_to_disk of splits": (saved_splits, []),
    "image folder": (image_folder, []),
    "one csv": (one_csv, []),
    "edits.csv of one name": (edits_csv("file"), []),
    "edits.csv of two names": (edits_csv("before", "after"), []),
    "two folders": (two_folders, []),
    "webdataset": (web_dataset, []),
    "seeds.json": (authors_tree, []),
}
