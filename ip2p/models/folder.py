"""Model folders in diffusers' layout: `model_index.json`, and a folder for each component."""

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import SchedulerMixin
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from ip2p.errors import ConfigError, ModelError, reason
from ip2p.models.bundled import BUNDLED_NAMES, PROGRESS_FILE, RECORD_FILE, bundled_path
from ip2p.models.checkpoint import WeightsChoice
from ip2p.models.folder_checks import require_files, require_network, require_schedule, require_tokenizer
from ip2p.models.loading import DAMAGED_HINT, explain, load_whole, quiet
from ip2p.settings import SETTINGS_FILE

INDEX_FILE = "model_index.json"
NAME_HINT = (
    f"Give {BUNDLED_NAMES[0]}, {BUNDLED_NAMES[1]}, a folder with {INDEX_FILE}, a .safetensors file, "
    "or a hub id such as owner/name"
)
REQUIRED_COMPONENTS: dict[str, tuple[str, ...]] = {
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "unet": ("UNet2DConditionModel",),
}
SDXL_COMPONENTS: dict[str, tuple[str, ...]] = {
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer_2": REQUIRED_COMPONENTS["tokenizer"],
}
SAFETY_COMPONENTS: dict[str, tuple[str, ...]] = {
    "safety_checker": ("StableDiffusionSafetyChecker",),
    "feature_extractor": ("CLIPImageProcessor", "CLIPFeatureExtractor", "CLIPImageProcessorPil"),
}
COMPONENTS = (*REQUIRED_COMPONENTS, *SDXL_COMPONENTS, *SAFETY_COMPONENTS, "scheduler")
MODEL_FILES = (INDEX_FILE, SETTINGS_FILE, "README.md", RECORD_FILE, PROGRESS_FILE)
HEADER_KEY = "ip2p"
"""Key of the configs and tokenizers in the header of a single file."""
PART_FILE = re.compile(
    r"(?:diffusion_pytorch_)?model(?:\.\w+)?(?:-\d{5}-of-\d{5})?\.safetensors(?:\.index(?:\.\w+)?\.json)?"
    r"|(?:config|scheduler_config|preprocessor_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)"
    r"\.json|merges\.txt"
)
"""Names of the files of a component."""
RAW_VARIANT = "non_ema"
"""Name in files of a UNet's weights beside the moving average."""
NETWORKS = ("vae", "text_encoder", "text_encoder_2", "unet", "safety_checker")
FROM_TRANSFORMERS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "feature_extractor")


def locate(name: str | Path, *, raw: bool = False) -> Path:
    """Locate the folder or single file of a model, downloading it if it is on the hub.

    Args:
        name: bundled name, folder, single file or hub id.
        raw: whether to download the UNet's weights beside the moving average, too.

    Raises:
        ModelError: there is no such model.
    """
    if str(name) in BUNDLED_NAMES:
        return bundled_path(str(name))
    path = Path(name)
    if path.exists():
        return path
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise ModelError(f"there is no model {name}", NAME_HINT)
    try:
        return fetch(name, [INDEX_FILE, "ip2p.json", *(f"{each}/*" for each in COMPONENTS)], raw=raw)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"there is no folder {name}, and it cannot be fetched from the hub ({type(error).__name__})",
            "Check the name and the network, or give a folder; bundled are storybook-editor and storybook-base",
        ) from error


def fetch(hub_id: str, patterns: list[str], *, raw: bool = False) -> Path:
    """Fetch the matching files of a model from the hub or its cache; weights as safetensors in full precision.

    Raises:
        OSError, ValueError, HfHubHTTPError: there is no such model, or the hub is not reachable.
    """
    ignored = ["*.bin", "*.fp16.*", "*.msgpack", "*.onnx", "*.onnx_data", *([] if raw else [f"*.{RAW_VARIANT}.*"])]
    return Path(snapshot_download(hub_id, allow_patterns=patterns, ignore_patterns=ignored))


def read_index(path: Path) -> dict[str, Any]:
    """Read `model_index.json` of a model folder, and check its classes.

    Raises:
        ModelError: the file is missing or not readable, or the model is of another family.
    """
    if not (path / INDEX_FILE).exists():
        raise ModelError(f"the folder {path} has no {INDEX_FILE}", NAME_HINT)
    try:
        index = json.loads((path / INDEX_FILE).read_text())
        classes = {name: str(index[name][1]) for name in COMPONENTS if (index.get(name) or [None])[0]}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path / INDEX_FILE} is not readable ({reason(error)})", DAMAGED_HINT) from error
    known_classes = REQUIRED_COMPONENTS | (SDXL_COMPONENTS if classes.keys() & SDXL_COMPONENTS.keys() else {})
    known_classes |= {name: known for name, known in SAFETY_COMPONENTS.items() if name in classes}
    for component, known in known_classes.items():
        if classes.get(component) not in known:
            raise ModelError(
                f"the model {path} has {classes.get(component)} as its {component}, not {known[0]}",
                "Give a model of the Stable Diffusion 1, 2 or XL family",
            )
    scheduler = getattr(diffusers, classes.get("scheduler", ""), None)
    if not (isinstance(scheduler, type) and issubclass(scheduler, SchedulerMixin)):
        raise ModelError(f"the model {path} has {classes.get('scheduler')} as its scheduler", "Give another model")
    return {**index, **{name: None for name in COMPONENTS}, **classes}


def read_folder(
    path: Path, dtype: torch.dtype, *, safety_checker: bool = True, raw: bool = False, allow_pickle: bool = False
) -> dict[str, Any]:
    """Read all components of a model folder by name, and check that no weights are missing.

    Args:
        path: model folder.
        dtype: data type of the networks.
        safety_checker: whether to read the safety checker, if there is one.
        raw: whether to read the UNet's weights beside the moving average.
        allow_pickle: whether weights may be pickled; only tensors are loaded, and no code is run.

    Raises:
        ModelError: the model is of another family, or the folder is damaged.
    """
    index = read_index(path)
    return {
        component: read_component(
            path, component, index[component], dtype, what=f"the {component} of the model {path}",
            variant=RAW_VARIANT if raw and component == "unet" else None, allow_pickle=allow_pickle,
        )
        for component in component_names(index, safety=safety_checker)
    }  # fmt: skip


def read_scheduler(path: Path) -> Any:
    """Read the scheduler of a model folder, and nothing else.

    Raises:
        ModelError: the model is of another family, or the folder is damaged.
    """
    what = f"the scheduler of the model {path}"
    return read_component(path, "scheduler", read_index(path)["scheduler"], torch.float32, what=what)


def component_names(index: Mapping[str, Any], *, safety: bool) -> list[str]:
    """Names of the components in an index; the safety checker and its feature extractor both, or neither."""
    safety = safety and all(index[name] for name in SAFETY_COMPONENTS)
    return [name for name in COMPONENTS if index[name] and (safety or name not in SAFETY_COMPONENTS)]


def read_component(
    path: Path,
    component: str,
    name: str,
    dtype: torch.dtype,
    *,
    what: str,
    variant: str | None = None,
    allow_pickle: bool = False,
) -> Any:
    """Read one component of a model folder, of a class that `read_index` has checked.

    Args:
        path: model folder.
        component: name of the component.
        name: name of its class.
        dtype: data type of a network.
        what: name of the component in an error.
        variant, allow_pickle: which weights to read, see `require_network`.

    Raises:
        ModelError: it is damaged.
    """
    folder = path / component
    with quiet(), explain(what):
        if component.startswith("tokenizer"):
            require_tokenizer(folder, what)
            return CLIPTokenizer.from_pretrained(folder)
        if component == "scheduler":
            require_schedule(folder, what)
            return getattr(diffusers, name).from_pretrained(folder)
        if component == "feature_extractor":
            require_files(folder, what)
            return CLIPImageProcessorPil.from_pretrained(folder)
        ours = component in (*FROM_TRANSFORMERS, "safety_checker")
        names = ("model", "pytorch_model.bin") if ours else ("diffusion_pytorch_model", "diffusion_pytorch_model.bin")
        options: dict[str, Any] = {
            "use_safetensors": require_network(
                folder, what, file=names[0], pickle_file=names[1], variant=variant, allow_pickle=allow_pickle
            )
        }
        loader: Any
        if component == "safety_checker":
            loader, options["attn_implementation"] = StableDiffusionSafetyChecker, "eager"
        else:
            loader = getattr(transformers if ours else diffusers, name)
        options |= {"variant": variant} if variant else {}
        return load_whole(loader, folder, dtype=dtype, local_files_only=True, **options)


def weights_choices(path: Path) -> tuple[WeightsChoice, ...]:
    """List the choices of weights of the UNet in a model folder: moving average and raw, if it has both."""
    return ("ema", "raw") if (path / "unet" / f"diffusion_pytorch_model.{RAW_VARIANT}.safetensors").is_file() else ()


def write_folder(folder: Path, components: Mapping[str, Any], index: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Write the components of a model and its index into an existing folder.

    Args:
        folder: empty folder.
        components: components by name; None for those that the model does not have.
        index: entries of `model_index.json` besides the classes of the components.
        dtype: data type of the weights on disk.
    """
    entries: dict[str, Any] = {"_diffusers_version": version("diffusers"), **index}
    with quiet():
        for component, value in components.items():
            library = "transformers" if component in FROM_TRANSFORMERS else "diffusers"
            library = "stable_diffusion" if component == "safety_checker" else library
            entries[component] = [None, None] if value is None else [library, _class_name(value)]
            if value is not None:
                _write_component(value, folder / component, dtype)
    (folder / INDEX_FILE).write_text(json.dumps(entries, indent=2) + "\n")


def _class_name(component: Any) -> str:
    """Class name of a component that other versions of transformers know too."""
    return type(component).__name__.removesuffix("Pil")


def _write_component(component: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write one component of a model; weights are rounded in the file, not in memory."""
    if not hasattr(component, "state_dict"):
        component.save_pretrained(folder)
        return
    weights = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in component.state_dict().items()
    }
    if isinstance(component, transformers.PreTrainedModel):
        component.save_pretrained(folder, state_dict=weights)
    else:
        component.save_config(folder)
        config = json.loads((folder / "config.json").read_text())
        config.pop("_name_or_path", None)  # a path on the machine that trained it
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def require_replaceable(target: Path, source: Path | None = None, *, overwrite: bool = False) -> None:
    """Check that a model may be written to a path: nothing is there, or a model of ip2p's and nothing else.

    Args:
        target: model folder or single file to write.
        source: model that is read for it, of which nothing may be replaced.
        overwrite: whether a model that another program wrote may be replaced, too.

    Raises:
        ConfigError: the target is, holds or lies in the source; or it is not a model, or has a user's files in it.
    """
    where = target.resolve()
    if source is not None and source.exists():
        read = source.resolve()
        if where == read or where in read.parents or read in where.parents:
            raise ConfigError(f"{target} would replace {source}, or a part of it", "Give another target")
    if target.is_symlink():
        raise ConfigError(f"{target} is a link", "Give the name of a file or folder")
    if not target.exists():
        return
    if target.is_file():
        own, what = _is_own_file(target), f"{target} is there and was not written by ip2p"
    elif target.is_dir():
        foreign = next((each for each in sorted(target.rglob("*")) if not _is_part(each, target)), None)
        if foreign is not None:
            raise ConfigError(
                f"{target} has other files than a model's, such as {foreign.relative_to(target)}",
                "Give another target, or move it away",
            )
        own = (target / SETTINGS_FILE).is_file() or not any(target.iterdir())
        what = f"{target} is a model that ip2p did not write"
    else:
        raise ConfigError(f"{target} is a device", "Give the name of a file or folder")
    if not own and not overwrite:
        raise ConfigError(what, "Give another target, or give overwrite=True", arguments=["overwrite"])


def _is_own_file(path: Path) -> bool:
    """Whether a single file has the header that ip2p writes."""
    try:
        with safe_open(path, framework="pt") as weights:
            return HEADER_KEY in (weights.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _is_part(path: Path, folder: Path) -> bool:
    """Whether a file or folder belongs to a model folder in diffusers' layout."""
    if path.is_symlink():
        return False
    part, *inside = path.relative_to(folder).parts
    if not inside:
        return part in MODEL_FILES if path.is_file() else part in COMPONENTS
    return path.is_file() and len(inside) == 1 and PART_FILE.fullmatch(path.name) is not None
