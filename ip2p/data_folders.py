"""Folders of data sets as `datasets.load_dataset` takes them, whatever characters are in their paths."""

import glob
from pathlib import Path
from typing import Any

PREFERENCES = "preferences"
"""Name of the configuration of preference pairs, and of its folder in a packed data set."""


def dataset_arguments(source: str | Path, subset: str | None = None) -> dict[str, Any]:
    """Arguments by which `datasets.load_dataset` opens a folder, or a data set on the hub.

    A path with brackets or stars is a pattern to datasets, which finds nothing there, or another folder's files; so
    those of such a folder are named, split by split.

    Args:
        source: folder, or name of a data set on the hub.
        subset: name of a subset; None for the only one.

    Raises:
        ValueError: the folder's card names several subsets, and not this one.
        OSError: the folder is not readable.
    """
    folder = Path(source).resolve()
    if not folder.is_dir():
        return {"path": str(source), "name": subset}
    # In full, for the name of a folder may be that of a format.
    arguments: dict[str, Any] = {"path": str(folder), "name": subset}
    if not glob.has_magic(str(folder)):
        return arguments
    base = glob.escape(folder.as_posix())
    files = {
        split: [f"{base}/{pattern}" for pattern in each] for split, each in _patterns(folder, base, subset).items()
    }
    return arguments | {"data_files": files}


def file_arguments(file: Path) -> dict[str, Any]:
    """Arguments by which `datasets.load_dataset` opens one parquet file, as its only split."""
    return {"path": "parquet", "data_files": {"train": glob.escape(str(file.resolve()))}}


def _patterns(folder: Path, base: str, subset: str | None) -> dict[str, list[str]]:
    """Patterns of the files of each split: those of the folder's card, or else by their names."""
    from datasets.data_files import get_data_patterns, sanitize_patterns
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    card = folder / "README.md"
    configs = MetadataConfigs.from_dataset_card_data(DatasetCard.load(card).data) if card.is_file() else {}
    name = subset or (next(iter(configs)) if len(configs) == 1 else "default")
    if configs and name not in configs:
        raise ValueError(f"no subset {name}; there are {', '.join(configs)}")
    patterns = configs[name].get("data_files") if configs else None
    found = sanitize_patterns(patterns) if patterns else get_data_patterns(base)
    return {str(split): list(each) for split, each in found.items()}
