"""What an exported data set says about itself: its card, and the settings that a trainer reads it with."""

from collections.abc import Iterable
from pathlib import Path

import yaml

from ip2p.data_folders import BUILD_FILE

PATTERNS = {
    "webdataset": "{}-*.tar", "diffusers": "data/{}-*.parquet", "magicbrush": "data/{}-*.parquet", "folder": "{}/**",
}  # fmt: skip
"""Patterns of the files of a split, in the layouts that `datasets` reads."""
WORDS = {
    "webdataset": "Tar files of WebDataset. `load_dataset` reads them, and `webdataset` does.",
    "ai-toolkit": "Paste `datasets.yaml` into the config of ai-toolkit; its paths are where this folder was written.",
    "musubi": "Give `dataset.toml` to musubi-tuner by `--dataset_config`; it has the paths that this folder had.",
    "diffusers": "Give this folder to `train_instruct_pix2pix.py` of diffusers by `--dataset_name`; it expects these "
    "names of columns.",
    "magicbrush": "The columns of MagicBrush; mask_img is source_img, transparent where something changes.",
    "folder": "Pictures, and a metadata.jsonl for each split; `load_dataset` reads it as an image folder.",
}
"""How each layout is used."""


def readme(layout: str, source: Path, files: Iterable[str]) -> str:
    """Return the card: a header for the hub, how the layout is used, and the card of the source if it has one.

    Args:
        layout: layout of the data set.
        source: data set that was exported.
        files: paths of the files inside the folder.
    """
    header, body = read_card(source)
    kept: dict[str, object] = {key: header[key] for key in ("license", "license_name", "license_link") if key in header}
    kept |= {"task_categories": ["image-to-image"], "tags": ["instruct-pix2pix", "ip2p"]}
    if layout in PATTERNS:
        data = [{"split": name, "path": PATTERNS[layout].format(name)} for name in splits_of(files)]
        kept["configs"] = [{"config_name": "default", "data_files": data}]
    own = f"# Edits in the layout {layout}\n\n{WORDS[layout]} manifest.json has the size and hash of every file."
    told = body or "The data set that this was made from has no card: its origin and licence are **unknown**."
    return f"---\n{yaml.safe_dump(kept, sort_keys=False)}---\n{own}\n\n{told.lstrip()}".rstrip() + "\n"


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
    folder = source / "packed" if (source / BUILD_FILE).exists() else source
    try:
        text = (folder / "README.md").read_text()
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
