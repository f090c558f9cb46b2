"""Single-file checkpoints: a whole model in the original layout, as ComfyUI and diffusers' `from_single_file` read it.

Such a file has weights only. Configs, tokenizers and the noise schedule come from a given folder or hub id; or from the
file's header, where `write_single_file` puts them; or from the hub model of the same architecture that diffusers names.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    create_diffusers_clip_model_from_ldm,
    fetch_diffusers_config,
)
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor, nn

from ip2p.errors import ModelError, one_line
from ip2p.models.folder import (
    COMPONENTS,
    HEADER_KEY,
    INDEX_FILE,
    NETWORKS,
    SAFETY_COMPONENTS,
    component_names,
    fetch,
    read_component,
    read_index,
)
from ip2p.models.key_names import CONV_IN, to_original
from ip2p.models.loading import quiet, refuse_missing
from ip2p.models.weight_files import DAMAGED_HINT, read_header, read_weights
from ip2p.settings import SETTINGS_FILE
from ip2p.shards import atomic_file

CONVERTERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "unet": convert_ldm_unet_checkpoint,
    "vae": convert_ldm_vae_checkpoint,
}
CONFIG_HINT = "a model folder of the same family, whose configs and tokenizer are read and whose weights are not"


def read_checkpoint(path: Path, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a file by name; see `read_weights`."""
    found = read_weights(path, allow_pickle=allow_pickle)
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


@contextmanager
def open_configs(path: Path, checkpoint: Mapping[str, Tensor], config: str | Path | None) -> Iterator[Path]:
    """Context manager with a folder of the configs and tokenizers of a single file; it may be temporary.

    Args:
        path: path of the file.
        checkpoint: tensors of the file; their shapes determine the hub model.
        config: folder or hub id to use instead; None for the header or the hub.

    Raises:
        ModelError: there are no configs.
    """
    if config is not None and Path(config).is_dir():
        yield Path(config)
        return
    own = read_header(path).get(HEADER_KEY) if config is None else None
    if own is not None:
        with tempfile.TemporaryDirectory() as folder:
            _unpack(own, Path(folder), path)
            yield Path(folder)
        return
    hub_id = str(config or fetch_diffusers_config(dict(checkpoint))["pretrained_model_name_or_path"])
    try:
        yield fetch(hub_id, ["*.json", "*.txt"])
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} has weights only, and configs and tokenizer of {hub_id} cannot be fetched from the hub "
            f"({type(error).__name__})",
            f"Give config=FOLDER, {CONFIG_HINT}",
            arguments=["config"],
        ) from error


def read_single_file(checkpoint: Mapping[str, Tensor], configs: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Make all components of a model except a safety checker, for which the original layout has no place.

    Args:
        checkpoint: tensors by their original key names.
        configs: folder with configs and tokenizers.
        dtype: data type of the networks.

    Raises:
        ModelError: the weights are of another family than the configs.
        OSError, ValueError, KeyError, RuntimeError: a weight or config is missing, or of another shape.
    """
    index = read_index(configs)
    if CONV_IN not in checkpoint:
        raise ValueError(f"it has no {CONV_IN}, so it is not a whole model in the original layout")
    if index["vae"] != "AutoencoderKL":
        raise ValueError(f"its configs are of an {index['vae']}, which has no place in the original layout")
    components: dict[str, Any] = {}
    with quiet():
        for name in component_names(index, safety=False):
            if name in NETWORKS:
                components[name] = _read_network(name, index[name], checkpoint, configs, dtype)
            else:
                components[name] = read_component(configs, name, index[name], dtype)
    return components


def write_single_file(components: Mapping[str, Any], configs: Path, target: Path, *, dtype: torch.dtype) -> None:
    """Write a model into one .safetensors file in the original layout, with configs and tokenizers in its header.

    Args:
        components: components by name.
        configs: folder with the configs and tokenizers.
        target: path of the file, written atomically; replaced if it exists.
        dtype: data type of the weights in the file.

    Raises:
        ModelError: the original layout has no place for a component of the model.
    """
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in to_original(components).items()}
    files = sorted(file for kind in ("json", "txt") for file in configs.rglob(f"*.{kind}"))
    names = {file.relative_to(configs).as_posix(): file for file in files}
    kept = {name: file.read_text() for name, file in names.items() if _is_config_file(name)}
    with atomic_file(target) as temporary:
        save_file(weights, temporary, metadata={"format": "pt", HEADER_KEY: json.dumps(kept)})


def _read_network(
    component: str, name: str, checkpoint: Mapping[str, Tensor], configs: Path, dtype: torch.dtype
) -> nn.Module:
    """Make one network, and check that no weights are missing."""
    module: Any
    if component in CONVERTERS:
        loader = getattr(diffusers, name)
        config = loader.load_config(str(configs / component))
        if component == "unet":  # an editor takes more channels than the text-to-image model whose config may be given
            config = config | {"in_channels": checkpoint[CONV_IN].shape[1]}
        with init_empty_weights():
            module = loader.from_config(config)
        # Not by from_single_file, which does not report missing weights.
        module.load_state_dict(CONVERTERS[component](dict(checkpoint), config), strict=False, assign=True)
    else:
        module = create_diffusers_clip_model_from_ldm(
            getattr(transformers, name),
            dict(checkpoint),
            subfolder=component,
            config=str(configs),
            local_files_only=True,
        )
    refuse_missing((key for key, value in module.state_dict().items() if value.is_meta), component)
    assert isinstance(module, nn.Module)
    return module.to(dtype)


def _unpack(configs: str, folder: Path, path: Path) -> None:
    """Write the configs in a header into a folder, and refuse names that lead out of it."""
    try:
        files = {str(name): str(text) for name, text in json.loads(configs).items()}
    except (ValueError, AttributeError) as error:
        raise ModelError(f"the header of {path} is not readable ({one_line(error)})", DAMAGED_HINT) from error
    for name, text in files.items():
        if not _is_config_file(name):
            raise ModelError(f"the header of {path} names a file {name!r}", "Do not trust this file")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def _is_config_file(name: str) -> bool:
    """Whether a name is that of a config or tokenizer file in a model folder."""
    folder, _, file = name.rpartition("/")
    if not folder:
        return file in (INDEX_FILE, SETTINGS_FILE)
    safe = all(letter.isalnum() or letter in "._-" for letter in file) and not file.startswith(".")
    return folder in COMPONENTS and folder not in SAFETY_COMPONENTS and safe and file.endswith((".json", ".txt"))
