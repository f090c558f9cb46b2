"""Between the two shapes of a model: a folder in diffusers' layout, and one file in the original layout."""

from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ip2p.errors import ConfigError
from ip2p.models.backbone import load_backbone, save_backbone
from ip2p.models.folder import COMPONENTS, locate, require_replaceable
from ip2p.models.key_names import CONV_IN
from ip2p.models.single_file import PICKLE_SUFFIXES, open_configs, read_checkpoint, write_single_file


def convert(
    source: str | Path,
    target: Path,
    *,
    dtype: torch.dtype | None = None,
    config: str | Path | None = None,
    allow_pickle: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a model in the other shape, or in the same one with other numbers.

    The file holds what the original layout has a place for, so no safety checker. Where the numbers stay of one kind,
    the weights are the same to the last bit.

    Args:
        source: bundled name, folder, single file or hub id.
        target: a .safetensors file, or a folder; a model that ip2p wrote there is replaced.
        dtype: of the weights written; as the source's UNet has them if None.
        config: for a single file, a folder or hub id with the configs and tokenizer of its family.
        allow_pickle: read a pickled source, weights only.
        overwrite: replace a model that another program wrote, too.

    Raises:
        ModelError: the source is not there, damaged, or has a component that the original layout has no place for.
        ConfigError: the target overlaps the source, or is something else than a model that may be replaced.
    """
    path = locate(source)
    require_replaceable(target, path, overwrite=overwrite)
    if target.suffix != ".safetensors" and (target.suffix in PICKLE_SUFFIXES or target.is_file()):
        raise ConfigError(f"cannot write {target}: single files are written as .safetensors", "Give such a name")
    backbone = load_backbone(source, config=config, allow_pickle=allow_pickle)
    dtype = dtype or _dtype(path, allow_pickle)
    if target.suffix != ".safetensors":
        extra = {} if not (path / "ip2p.json").is_file() else {"ip2p.json": (path / "ip2p.json").read_text()}
        save_backbone(backbone, target, pipeline_class=backbone.pipeline_class, dtype=dtype, extra=extra)
        return
    checkpoint = read_checkpoint(path, allow_pickle=allow_pickle) if path.is_file() else {}
    with open_configs(path, checkpoint, config) if path.is_file() else nullcontext(path) as configs:
        components = {name: getattr(backbone, name, None) for name in COMPONENTS}
        write_single_file(components, configs, target, dtype=dtype)


def _dtype(path: Path, allow_pickle: bool) -> torch.dtype:
    """Of the UNet's first weight as it lies on disk."""
    if path.suffix in PICKLE_SUFFIXES:
        return read_checkpoint(path, allow_pickle=allow_pickle)[CONV_IN].dtype
    file = path if path.is_file() else sorted((path / "unet").glob("*.safetensors"))[0]
    with safe_open(file, framework="pt") as weights:
        tensor: Tensor = weights.get_tensor(CONV_IN if path.is_file() else next(iter(weights.keys())))
        return tensor.dtype
