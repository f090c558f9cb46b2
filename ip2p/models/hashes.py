"""Hashes that tell whether two models are the same, whatever they are called: of their files, and of their weights."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from ip2p.models.folder import locate
from ip2p.shards import hash_file


def fingerprint_model(name: str | Path) -> str:
    """Hash the names and contents of a model's files.

    Args:
        name: bundled name, folder, single file or hub id.

    Raises:
        ModelError: there is no such model.
    """
    path = locate(name)
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path.parent)}:{hash_file(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def hash_weights(module: nn.Module) -> str:
    """Hash the names, types, shapes and values of a module's weights: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
