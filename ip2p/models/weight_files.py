"""Files of weights by name: .safetensors, and pickles with leave, weights only."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ip2p.errors import ModelError, reason
from ip2p.models.loading import DAMAGED_HINT

PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")


def read_weights(path: Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """Read a file of weights by name.

    Args:
        path: path of a .safetensors file, or of a pickled one.
        allow_pickle: whether to read a pickled one; only tensors and plain containers are loaded, and no code is run.

    Raises:
        ModelError: the file has another format, is pickled without allow_pickle, has more than weights, or is damaged.
    """
    require_format(path, allow_pickle=allow_pickle)
    pickled = path.suffix in PICKLE_SUFFIXES
    try:
        found = torch.load(path, map_location="cpu", weights_only=True) if pickled else load_file(path)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} has more than weights", "Give a .safetensors file of the model") from error
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({reason(error)})", DAMAGED_HINT) from error
    while isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds a {type(found).__name__}, not weights by name", "Give a file of weights")
    return found


def read_header(path: Path) -> dict[str, str]:
    """Read the texts in the header of a .safetensors file; a pickle has none.

    Raises:
        ModelError: the file is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({reason(error)})", DAMAGED_HINT) from error


def require_readable(path: Path, *, allow_pickle: bool = False) -> None:
    """Check that a file exists, has a format that may be read, and a whole header.

    Raises:
        ModelError: the file is missing, damaged, or of another format.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}", "Check the name")
    require_format(path, allow_pickle=allow_pickle)
    read_header(path)


def require_format(path: Path, *, allow_pickle: bool) -> None:
    """Check by its name that a file of weights may be read.

    Raises:
        ModelError: the file has another format, or is pickled without allow_pickle.
    """
    pickled = path.suffix in PICKLE_SUFFIXES
    if not pickled and path.suffix != ".safetensors":
        raise ModelError(f"{path} is a {path.suffix or 'nameless'} file, not .safetensors", "Give a .safetensors file")
    if pickled and not allow_pickle:
        raise ModelError(
            f"{path} is a pickle, not .safetensors",
            "Give a .safetensors file, or allow_pickle=True if you trust its source",
            arguments=["allow_pickle"],
        )
