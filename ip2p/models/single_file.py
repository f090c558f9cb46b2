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
    convert_open_clip_checkpoint,
    fetch_diffusers_config,
)
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor, nn

from ip2p.errors import ModelError, reason
from ip2p.models.checkpoint import adapt_scheduler, require_known, schedule_keys
from ip2p.models.folder import (
    COMPONENTS,
    HEADER_KEY,
    INDEX_FILE,
    NAME_HINT,
    NETWORKS,
    SAFETY_COMPONENTS,
    component_names,
    fetch,
    read_component,
    read_index,
)
from ip2p.models.folder_checks import read_object, require_size
from ip2p.models.key_names import CLIP, CONV_IN, FIRST_XL, OPEN_CLIP, SECOND_XL, to_original
from ip2p.models.loading import ATTENTION, DAMAGED_HINT, explain, quiet, refuse_missing
from ip2p.models.weight_files import read_header
from ip2p.settings import SETTINGS_FILE
from ip2p.shards import atomic_file

CONVERTERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "unet": convert_ldm_unet_checkpoint,
    "vae": convert_ldm_vae_checkpoint,
}
CONFIG_HINT = "a model folder of the same family, whose configs and tokenizer are read and whose weights are not"


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


def read_single_file(path: Path, checkpoint: Mapping[str, Tensor], configs: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Make all components of a model except a safety checker, for which the original layout has no place.

    Args:
        path: path of the file.
        checkpoint: tensors of the file by their original key names.
        configs: folder with configs and tokenizers.
        dtype: data type of the networks.

    Raises:
        ModelError: the weights are of another family than the configs, a weight or config is missing, or one of the
            weights has no place.
    """
    index = read_index(configs)
    if CONV_IN not in checkpoint:
        raise ModelError(f"{path} has no {CONV_IN}, so it is not a whole model in the original layout", NAME_HINT)
    if index["vae"] != "AutoencoderKL":
        raise ModelError(
            f"the configs for {path} are of an {index['vae']}, which has no place in the original layout",
            f"Give config=FOLDER, {CONFIG_HINT}", arguments=["config"],
        )  # fmt: skip
    components: dict[str, Any] = {}
    for name in component_names(index, safety=False):
        with quiet(), explain(f"the {name} of {path}"):
            if name in NETWORKS:
                require_size(
                    read_object(configs / name / "config.json", name), len(checkpoint), f"the {name} of {path}"
                )
                components[name] = _read_network(name, index[name], checkpoint, configs, dtype)
            else:
                components[name] = read_component(configs, name, index[name], dtype, what=f"the {name} of {path}")
    components["scheduler"] = adapt_scheduler(path, checkpoint, components["scheduler"])
    text_encoder = components["text_encoder"]
    unread = f"{OPEN_CLIP}transformer.resblocks.{text_encoder.config.num_hidden_layers}."  # SD 2 leaves out the last
    require_known(checkpoint, to_original(components), (unread,), path)
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
    weights |= schedule_keys(components["scheduler"])
    files = sorted(file for kind in ("json", "txt") for file in configs.rglob(f"*.{kind}"))
    names = {file.relative_to(configs).as_posix(): file for file in files}
    kept = {name: file.read_text() for name, file in names.items() if _is_config_file(name)}
    scheduler = components["scheduler"]  # it follows what a single file says, and its config may not
    index = read_object(configs / INDEX_FILE, str(configs)) | {"scheduler": ["diffusers", type(scheduler).__name__]}
    kept |= {INDEX_FILE: json.dumps(index), f"scheduler/{scheduler.config_name}": scheduler.to_json_string()}
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
        config = getattr(transformers, name).config_class.from_pretrained(configs / component)
        with init_empty_weights():
            module = getattr(transformers, name)._from_config(config, attn_implementation=ATTENTION)
        module.load_state_dict(_clip_weights(component, module, checkpoint), strict=False, assign=True)
    refuse_missing(key for key, value in module.state_dict().items() if value.is_meta)
    assert isinstance(module, nn.Module)
    return module.to(dtype)


def _clip_weights(component: str, module: Any, checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Find the weights of a text encoder, and convert OpenCLIP's."""
    second = component == "text_encoder_2"
    open_clip = SECOND_XL if second else OPEN_CLIP
    if f"{open_clip}token_embedding.weight" in checkpoint:
        found = convert_open_clip_checkpoint(module, dict(checkpoint), prefix=open_clip)
    else:
        prefix = FIRST_XL if any(key.startswith(FIRST_XL) for key in checkpoint) else CLIP
        names = ((key, f"text_model.{key.removeprefix(prefix)}") for key in checkpoint if key.startswith(prefix))
        found = {name: checkpoint[key] for key, name in names}
    inner = hasattr(module, "text_model")
    return {key if inner else key.removeprefix("text_model."): value for key, value in found.items()}


def _unpack(configs: str, folder: Path, path: Path) -> None:
    """Write the configs in a header into a folder, and refuse names that lead out of it."""
    try:
        files = {str(name): str(text) for name, text in json.loads(configs).items()}
    except (ValueError, AttributeError) as error:
        raise ModelError(f"the header of {path} is not readable ({reason(error)})", DAMAGED_HINT) from error
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
