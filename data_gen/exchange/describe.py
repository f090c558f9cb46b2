"""Card of an exported data set, and the settings that a trainer reads it with."""

import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from datasets import Features, Value

from ip2p.data_gen.report.croissant import RecordSet, croissant
from ip2p.pairs.read import locate
from ip2p.plurals import counted
from ip2p.shards import Contents

PATTERNS = {
    "webdataset": "{}-*.tar", "diffusers": "data/{}-*.parquet", "magicbrush": "data/{}-*.parquet", "folder": "{}/**",
}  # fmt: skip
"""Patterns of the files of a split, in the layouts that `datasets` reads."""
WORDS = {
    "webdataset": "Tar files of WebDataset. `load_dataset` reads them, and `webdataset` does.",
    "ai-toolkit": "Paste `datasets.yaml` into the config of ai-toolkit; its paths are where this folder was written. "
    "The layout has no place for captions, kinds and provenance, nor for `inverse_of`: inverse pairs are not marked.",
    "musubi": "Give `dataset.toml` to musubi-tuner by `--dataset_config`; it has the paths that this folder had. "
    "The layout has no place for captions, kinds and provenance, nor for `inverse_of`: inverse pairs are not marked.",
    "diffusers": "Give this folder to `train_instruct_pix2pix.py` of diffusers by `--dataset_name`; it expects these "
    "names of columns.",
    "magicbrush": "The columns of MagicBrush; mask_img is source_img, transparent where something changes. "
    "They have no place for captions, kinds and provenance, nor for `inverse_of`: inverse pairs are not marked.",
    "folder": "Pictures, and a metadata.jsonl for each split; `load_dataset` reads it as an image folder.",
}
"""Ways to use each layout."""
OF_A_LAYOUT = ("Use", "Columns")
"""Sections of a card that are about the layout of its data set, and not about its pairs."""


def readme(layout: str, source: Path, files: Mapping[str, Contents], columns: Iterable[str], count: int) -> str:
    """Return the card: a header for the hub, how the layout is used, and what the source says of its own origin.

    Args:
        layout: layout of the data set.
        source: data set that was exported.
        files: what each file holds, by its path inside the folder.
        columns: names of the columns, or of what stands for them in the layout.
        count: number of pairs.
    """
    header, body = read_card(source)
    kept: dict[str, object] = {key: header[key] for key in ("license", "license_name", "license_link") if key in header}
    kept |= {"task_categories": ["image-to-image"], "tags": ["instruct-pix2pix", "ip2p"]}
    if layout in PATTERNS:
        data = [{"split": name, "path": PATTERNS[layout].format(name)} for name in splits_of(files)]
        kept["configs"] = [{"config_name": "default", "data_files": data}]
    described = ", and croissant.json describes them (Croissant 1.0)" if layout in PATTERNS else ""
    own = f"""# {counted(count, "edit")} in the layout {layout}

{WORDS[layout]} manifest.json has the size and hash of every file{described}.

## Columns

{", ".join(columns)}."""
    told = "The data set that this was made from has no card: its origin and licence are **unknown**."
    if body:
        told = f"As the card of the data set says that this was made from:\n\n{origin_of(body)}"
    return f"---\n{yaml.safe_dump(kept, sort_keys=False)}---\n{own}\n\n## Source\n\n{told}".rstrip() + "\n"


def origin_of(body: str) -> str:
    """Return what a card says of the origin of its pairs, without the sections about its own layout."""
    sections = re.split(r"^(?=## )", body.strip(), flags=re.MULTILINE)
    kept = [each for each in sections if each.partition("\n")[0].removeprefix("## ").strip() not in OF_A_LAYOUT]
    texts = re.split(r"^(?=```)", "".join(kept), flags=re.MULTILINE)  # every other one is code
    texts[::2] = [re.sub(r"^(?=#{1,5} )", "#", text, flags=re.MULTILINE) for text in texts[::2]]
    return "".join(texts).strip()


def describe_columns(layout: str, folder: Path, files: Iterable[str]) -> dict[str, Any]:
    """Return the columns of an exported data set as `datasets` describes them; of tar files and folders, what stands
    for columns in them."""
    if layout in ("ai-toolkit", "musubi"):
        return dict.fromkeys(("control/*: source pictures", "target/*: edited pictures", "target/*.txt: instructions"))
    first = folder / next(iter(files))
    if first.suffix == ".parquet":
        return dict(Features.from_arrow_schema(pq.read_schema(first)))
    if layout == "folder":
        first = folder / next(each for each in files if each.endswith("metadata.jsonl"))
        return dict.fromkeys(json.loads(first.read_text().partition("\n")[0]), Value("string"))
    with tarfile.open(first) as archive:
        names = [member.name.partition(".")[2] for member in archive.getmembers()]
    return dict.fromkeys(names)


def describe_rows(
    layout: str, files: Mapping[str, Contents], columns: Mapping[str, Any], *, name: str, license: str
) -> str:
    """Return the Croissant metadata of an exported data set.

    Args:
        layout: layout of the data set.
        files: what each file holds, by its path inside the folder.
        columns: columns of its rows.
        name: name of the data set.
        license: its licence.
    """
    patterns = {"folder": "{}/metadata.jsonl"} | {each: PATTERNS[each] for each in ("diffusers", "magicbrush")}
    pattern = patterns.get(layout, "")
    return croissant(
        name, description=f"Edits in the layout {layout}: picture, instruction, edited picture.", license=license,
        files=files,
        record_sets=[RecordSet(each, pattern.format(each), columns) for each in splits_of(files) if pattern],
    )  # fmt: skip


def settings_files(layout: str, folder: Path, files: Iterable[str], size: tuple[int, int]) -> dict[str, str]:
    """Return the files of settings with which a trainer reads the data set, by name.

    Args:
        layout: layout of the data set.
        folder: absolute path of the data set.
        files: paths of the files inside the folder.
        size: largest width and height of the pictures.
    """
    splits = [name for name in splits_of(files) if name == "train"] or splits_of(files)
    if layout == "ai-toolkit":
        entries = [
            {
                "folder_path": str(folder / split / "target"), "control_path": str(folder / split / "control"),
                "caption_ext": "txt", "resolution": [max(size)],
            }
            for split in splits
        ]  # fmt: skip
        return {"datasets.yaml": yaml.safe_dump({"datasets": entries}, sort_keys=False, allow_unicode=True)}
    if layout == "musubi":
        general = f'[general]\nresolution = [{size[0]}, {size[1]}]\ncaption_extension = ".txt"\nbatch_size = 1\n'
        general += "enable_bucket = true\nbucket_no_upscale = true\n"
        entries_text = [
            f"\n[[datasets]]\nimage_directory = {_toml(folder / split / 'target')}\n"
            f"control_directory = {_toml(folder / split / 'control')}\n"
            f"cache_directory = {_toml(folder / split / 'cache')}\n"
            for split in splits
        ]
        return {"dataset.toml": general + "".join(entries_text)}
    return {}


def read_card(source: Path) -> tuple[dict[str, object], str]:
    """Read the header and the text of a data set's card; both empty if it has none that is readable."""
    try:
        text = (locate(source) / "README.md").read_text()
        if not text.startswith("---\n"):
            return {}, text
        header, _, body = text[4:].partition("\n---\n")
        values = yaml.safe_load(header)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}, ""
    return values if isinstance(values, dict) else {}, body


def splits_of(files: Iterable[str]) -> list[str]:
    """Return the splits that a data set has, by the paths of its files."""
    names = {path.removeprefix("data/").replace("/", "-").partition("-")[0] for path in files}
    return [name for name in ("train", "dev", "test") if name in names]


def _toml(path: Path) -> str:
    """Quote a path as a string of TOML."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
