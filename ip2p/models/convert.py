"""Convert a model between a folder in diffusers' layout and a single file in the original layout."""

from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ip2p.errors import ConfigError
from ip2p.models.backbone import load_backbone, save_backbone
from ip2p.models.folder import COMPONENTS, locate, require_replaceable
from ip2p.models.key_names import CONV_IN
from ip2p.models.single_file import open_configs, read_checkpoint, write_single_file
from ip2p.models.weight_files import PICKLE_SUFFIXES


def convert(
    source: str | Path,
    target: Path,
    *,
    dtype: torch.dtype | None = None,
    config: str | Path | None = None,
    allow_pickle: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a model in the other layout, or in the same one with another data type.

    A single file has no safety checker, for which the original layout has no place. With the same data type,
    the weights are equal to the bit.

    Args:
        source: bundled name, folder, single file or hub id.
        target: path of a .safetensors file, or of a folder; a model that ip2p wrote there is replaced.
        dtype: data type of the weights written; that of the source's UNet if None.
        config: folder or hub id with the configs and tokenizer of the model's family, for a single file.
        allow_pickle: whether to read a pickled source, weights only.
        overwrite: whether to replace a model that another program wrote, too.

    Raises:
        ModelError: the source is missing, damaged, or has a component that the original layout has no place for.
        ConfigError: the target overlaps the source, or is something else than a model that may be replaced.
    """
    path = locate(source)
    require_replaceable(target, path, overwrite=overwrite)
    if target.suffix != ".safetensors" and (target.suffix in PICKLE_SUFFIXES or target.is_file()):
        raise ConfigError(f"cannot write {target}: single files are written as .safetensors", "Give such a name")
    backbone = load_backbone(source, config=config, allow_pickle=allow_pickle)
    dtype = dtype or _stored_dtype(path, allow_pickle)
    if target.suffix != ".safetensors":
        extra = {} if not (path / "ip2p.json").is_file() else {"ip2p.json": (path / "ip2p.json").read_text()}
        save_backbone(backbone, target, pipeline_class=backbone.pipeline_class, dtype=dtype, extra=extra)
        return
    checkpoint = read_checkpoint(path, allow_pickle=allow_pickle) if path.is_file() else {}
    with open_configs(path, checkpoint, config) if path.is_file() else nullcontext(path) as configs:
        components = {name: getattr(backbone, name, None) for name in COMPONENTS}
        write_single_file(components, configs, target, dtype=dtype)


def _stored_dtype(path: Path, allow_pickle: bool) -> torch.dtype:
    """Data type on disk of the UNet's first weight."""
    if path.suffix in PICKLE_SUFFIXES:
        return read_checkpoint(path, allow_pickle=allow_pickle)[CONV_IN].dtype
    file = path if path.is_file() else sorted((path / "unet").glob("*.safetensors"))[0]
    with safe_open(file, framework="pt") as weights:
        tensor: Tensor = weights.get_tensor(CONV_IN if path.is_file() else next(iter(weights.keys())))
        return tensor.dtype
