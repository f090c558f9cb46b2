"""Checks of the folder of one component before anything is built or read: its files, formats and size."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ip2p.errors import ModelError, reason
from ip2p.models.loading import DAMAGED_HINT
from ip2p.models.weight_files import PICKLE_SUFFIXES

FOREIGN_FILE = "adapter_config.json"
"""File with which transformers loads another model, named in it."""
QUANTIZATION = "quantization_config"
DEPTH = re.compile(r"layers|num_\w*blocks")
"""Keys of configs that count layers, each of which has weights."""
MAX_TRAIN_TIMESTEPS = 100_000
SCHEDULE_WORDS = {
    "prediction_type": ("epsilon", "v_prediction", "sample"), "timestep_spacing": ("leading", "trailing", "linspace"),
}  # fmt: skip
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


def require_files(folder: Path, what: str) -> None:
    """Check that a component has a folder, of its own files only.

    Raises:
        ModelError: it does not.
    """
    if not folder.is_dir():
        raise ModelError(f"cannot load {what}: it has no folder {folder.name}", DAMAGED_HINT)
    if (folder / FOREIGN_FILE).exists():
        raise ModelError(
            f"cannot load {what}: it is an adapter of another model ({FOREIGN_FILE})",
            f"Give a whole model, and LoRA weights apart; or delete {folder / FOREIGN_FILE}",
        )


def require_network(
    folder: Path,
    what: str,
    *,
    file: str,
    pickle_file: str,
    variant: str | None = None,
    allow_pickle: bool | None = None,
) -> bool:
    """Check the config and the files of a network, before it is built.

    Args:
        folder: folder of the network.
        what: name of the network in an error.
        file: name of its weights in .safetensors, without the suffix.
        pickle_file: name of its pickled weights.
        variant: which weights to read, such as non_ema; None for the usual ones.
        allow_pickle: whether weights may be pickled; None if the caller has no such option.

    Returns:
        Whether to look for its weights under their name in .safetensors.

    Raises:
        ModelError: the config is no object or wants quantization; weights are missing or pickled without leave; or
            they are fewer than the config has layers.
    """
    require_files(folder, what)
    config = read_object(folder / "config.json", what)
    if config.get(QUANTIZATION):
        raise ModelError(f"cannot load {what}: its weights are quantized", "Give a model in fp16 or fp32")
    if variant:
        name = f"{file}.{variant}.safetensors"
        if not (folder / name).is_file():
            raise ModelError(f"cannot load {what}: it has no {name}", "Leave out weights", arguments=["weights"])
        files, safetensors = [folder / name], True
    else:
        files, safetensors = _weight_files(folder, what, file, pickle_file, allow_pickle)
    if not any(each.suffix in PICKLE_SUFFIXES for each in files):
        require_size(config, sum(_count(each, what) for each in files), what)
    return safetensors


def require_size(config: dict[str, Any], tensors: int, what: str) -> None:
    """Check that a network has no more layers than weights, before minutes are spent on building it.

    Args:
        config: its config.
        tensors: number of tensors in its weights.
        what: name of the network in an error.

    Raises:
        ModelError: it has more.
    """
    layers = max(_layers(config), default=0)
    if layers > tensors:
        said = f"its config has {layers} layers, and its weights are {tensors} tensors"
        raise ModelError(f"cannot load {what}: {said}", DAMAGED_HINT)


def require_tokenizer(folder: Path, what: str) -> None:
    """Check that a tokenizer has a vocabulary, for want of which transformers makes an empty one.

    Raises:
        ModelError: it has none.
    """
    require_files(folder, what)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"cannot load {what}: it has no vocabulary, neither {' nor '.join(TOKENIZER_FILES)}", DAMAGED_HINT
        )


def require_schedule(folder: Path, what: str) -> None:
    """Check that a scheduler has a plausible number of timesteps, and words that are known.

    Raises:
        ModelError: it does not, or its config is no object.
    """
    require_files(folder, what)
    config = read_object(folder / "scheduler_config.json", what)
    for key, known in SCHEDULE_WORDS.items():
        if config.get(key, known[0]) not in known:
            raise ModelError(f"cannot load {what}: its {key} is {config[key]!r}", f"Give one of {', '.join(known)}")
    steps = config.get("num_train_timesteps", 1000)
    if type(steps) is not int or not 1 <= steps <= MAX_TRAIN_TIMESTEPS:
        raise ModelError(f"cannot load {what}: it has {steps!r} timesteps", DAMAGED_HINT)


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: the file is missing, or not one.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot load {what}: {path.name} is not readable ({reason(error)})", DAMAGED_HINT) from error
    if not isinstance(found, dict):
        raise ModelError(f"cannot load {what}: {path.name} is a {type(found).__name__}, not an object", DAMAGED_HINT)
    return found


def _weight_files(
    folder: Path, what: str, file: str, pickle_file: str, allow_pickle: bool | None
) -> tuple[list[Path], bool]:
    """Find the files of a network's weights, and whether they are under the name of .safetensors."""
    for name in (f"{file}.safetensors", pickle_file):
        files = [folder / name] if (folder / name).is_file() else []
        if (index := folder / f"{name}.index.json").is_file():  # diffusers reads it first, transformers last
            files += _shards(index, what)
        pickled = [each for each in files if each.suffix != ".safetensors"]
        if pickled and not allow_pickle:
            what = f"cannot load {what}: {pickled[0].name} is a pickle, not .safetensors"
            if allow_pickle is None:
                raise ModelError(what, "Give one in .safetensors")
            leave = "Give a model in .safetensors, or allow_pickle=True if you trust its source"
            raise ModelError(what, leave, arguments=["allow_pickle"])
        if files:
            return files, name != pickle_file
    others = sorted(each.name for each in folder.iterdir() if each.suffix == ".safetensors" and each.is_file())
    if others:
        raise ModelError(
            f"cannot load {what}: it has no {file}.safetensors, but another variant, {others[0]}",
            f"Rename that file to {file}.safetensors; its precision does not matter",
        )
    raise ModelError(
        f"cannot load {what}: it has no {file}.safetensors",
        "Give a folder with weights; some models of the hub have them in .bin or another variant only",
    )


def _shards(index: Path, what: str) -> list[Path]:
    """The files that an index names, all in the same folder."""
    files = read_object(index, what).get("weight_map")
    names = sorted(set(files.values())) if isinstance(files, dict) and set(map(type, files.values())) == {str} else []
    if not names:
        raise ModelError(f"cannot load {what}: {index.name} names no files", DAMAGED_HINT)
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise ModelError(f"cannot load {what}: {index.name} names {name!r}, which is not there", DAMAGED_HINT)
    return [index.parent / name for name in names]


def _count(path: Path, what: str) -> int:
    """Number of tensors in a .safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return len(file.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot load {what}: {path.name} is damaged ({reason(error)})", DAMAGED_HINT) from error


def _layers(value: Any, key: str = "") -> Iterator[int]:
    """Numbers of layers that a config declares, in every part of it."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _layers(each, str(name))
    elif isinstance(value, list):
        yield len(value)
        yield sum(layers for each in value for layers in _layers(each, key))
    elif type(value) is int and DEPTH.search(key):
        yield value
