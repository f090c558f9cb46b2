"""Convert a model between a folder in diffusers' layout and a single file in the original layout."""

from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ip2p.errors import ConfigError
from ip2p.models.backbone import load_backbone, save_backbone
from ip2p.models.checkpoint import WeightsChoice, read_checkpoint
from ip2p.models.folder import COMPONENTS, locate, require_replaceable
from ip2p.models.key_names import CONV_IN
from ip2p.models.single_file import open_configs, write_single_file
from ip2p.models.weight_files import PICKLE_SUFFIXES, read_weights


def convert(
    source: str | Path,
    target: Path,
    *,
    dtype: torch.dtype | None = None,
    config: str | Path | None = None,
    weights: WeightsChoice | None = None,
    allow_pickle: bool = False,
    overwrite: bool = False,
) -> WeightsChoice | None:
    """Write a model in the other layout, or in the same one with another data type.

    A single file has no safety checker, for which the original layout has no place. With the same data type,
    the weights are equal to the bit.

    Args:
        source: bundled name, folder, single file or hub id.
        target: path of a .safetensors file, or of a folder; a model that ip2p wrote there is replaced.
        dtype: data type of the weights written; that of the source's UNet if None.
        config: folder or hub id with the configs and tokenizer of the model's family, for a single file.
        weights: "ema" or "raw", see LoadingOptions of `ip2p.models.backbone`.
        allow_pickle: whether to read a pickled source, weights only.
        overwrite: whether to replace a model that another program wrote, too.

    Returns:
        Which of the source's weights were written, if it has several.

    Raises:
        ModelError: the source is missing, damaged, or has a component that the original layout has no place for.
        ConfigError: the target overlaps the source, or is something else than a model that may be replaced.
    """
    path = locate(source, raw=weights == "raw")
    require_replaceable(target, path, overwrite=overwrite)
    if target.suffix != ".safetensors" and (target.suffix in PICKLE_SUFFIXES or target.is_file()):
        raise ConfigError(f"cannot write {target}: single files are written as .safetensors", "Give such a name")
    backbone = load_backbone(source, config=config, weights=weights, allow_pickle=allow_pickle)
    checkpoint = read_checkpoint(path, allow_pickle=allow_pickle).tensors if path.is_file() else {}
    dtype = dtype or (checkpoint[CONV_IN].dtype if checkpoint else _stored_dtype(path / "unet", allow_pickle))
    if target.suffix != ".safetensors":
        extra = {} if not (path / "ip2p.json").is_file() else {"ip2p.json": (path / "ip2p.json").read_text()}
        save_backbone(backbone, target, pipeline_class=backbone.pipeline_class, dtype=dtype, extra=extra)
        return backbone.weights
    with open_configs(path, checkpoint, config) if path.is_file() else nullcontext(path) as configs:
        components = {name: getattr(backbone, name, None) for name in COMPONENTS}
        write_single_file(components, configs, target, dtype=dtype)
    return backbone.weights


def _stored_dtype(folder: Path, allow_pickle: bool) -> torch.dtype:
    """Data type on disk of a network's weights."""
    files = sorted(each for each in folder.iterdir() if each.suffix in (".safetensors", *PICKLE_SUFFIXES))
    if files[0].suffix != ".safetensors":
        first: Tensor = next(iter(read_weights(files[0], allow_pickle=allow_pickle).values()))
        return first.dtype
    with safe_open(files[0], framework="pt") as weights:
        tensor: Tensor = weights.get_tensor(next(iter(weights.keys())))
        return tensor.dtype
