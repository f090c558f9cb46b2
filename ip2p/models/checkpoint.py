"""Checkpoints in the original layout: which of their weights are taken, their names, and what they say of sampling."""

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from ip2p.errors import ModelError
from ip2p.models.key_names import UNET
from ip2p.models.weight_files import read_header, read_weights

WeightsChoice = Literal["ema", "raw"]
EMA = "model_ema."
EMA_STATE = ("decay", "num_updates")
WORDS = re.compile(
    r"diffusion_model|input_blocks|output_blocks|middle_block|time_embed|label_emb|transformer_blocks|in_layers|"
    r"out_layers|emb_layers|skip_connection|attn[12]|to_out|to_[qkv]|ff|net|proj_in|proj_out|proj|norm[123]?|op|conv|"
    r"out|weight|bias|\d+"
)
"""Words of the original names of a UNet's weights, longer ones first."""
TWO_NUMBERS = ("input_blocks", "output_blocks", "label_emb")
"""Words that are followed by two numbers, the second of one digit."""
HARMLESS = re.compile(
    r"betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus_\w+|posterior_\w+|lvlb_weights|logvar|scale_factor|global_step|"
    r"v_pred|ztsnr|denoiser\..+|model_ema\.(decay|num_updates)|embedding_manager\..+|"
    r"first_stage_model\.(loss|model_ema)\..+|.+\.position_ids|.+\.logit_scale|"
    r"cond_stage_model\.(.+\.)?text_projection(\.weight)?|conditioner\.embedders\.0\.(.+\.)?text_projection(\.weight)?|"
    r"(cond_stage_model|conditioner\.embedders\.\d)\.model\.visual\..+"
)
"""Keys of what is computed from configs, of training, and of halves of CLIP that a text encoder does not have."""
V_PREDICTION, ZERO_SNR, EDM = "v_pred", "ztsnr", ("edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")
"""Keys that tell ComfyUI what the UNet predicts and on which noise schedule; they have no numbers."""
HEADER_PREDICTION = "modelspec.prediction_type"
SCHEDULE_TOLERANCE = 2e-3
"""Difference of two noise schedules in half precision."""


class Checkpoint(NamedTuple):
    """The weights of a single file by their original key names.

    Args:
        tensors: tensors by name; those of the UNet are the chosen ones.
        weights: which were chosen, if the file has both or only averaged ones: "ema" or "raw".
    """

    tensors: dict[str, Tensor]
    weights: WeightsChoice | None


def read_checkpoint(path: Path, *, weights: WeightsChoice | None = None, allow_pickle: bool = False) -> Checkpoint:
    """Read the tensors of a file under today's names; a moving average (EMA) of the UNet's weights if there is one.

    Args:
        path: path of the file.
        weights: "ema" for the moving average, "raw" for the weights beside it.
        allow_pickle: whether to read a pickled file, weights only.

    Raises:
        ModelError: the file is not readable, see `read_weights`; or it does not have these weights.
    """
    found = read_weights(path, allow_pickle=allow_pickle)
    tensors = _rename({str(name): value for name, value in found.items() if isinstance(value, Tensor)})
    averaged = {key for key in tensors if key.startswith(EMA) and key.removeprefix(EMA) not in EMA_STATE}
    raw = [key for key in tensors if key.startswith(UNET)]
    if not averaged:
        require_choice(weights, (), path)
        return Checkpoint(tensors, None)
    require_choice(weights, ("ema", "raw") if raw else ("ema",), path)
    if weights == "raw":
        return Checkpoint({key: value for key, value in tensors.items() if key not in averaged}, "raw")
    names = {flatten(key): key for key in raw} if raw else {key: restore_dots(key) for key in averaged}
    if lacking := names.keys() - averaged:
        raise ModelError(
            f"the moving average in {path} lacks {len(lacking)} weights of the UNet, such as {names[min(lacking)]}",
            "Give weights=raw for those beside it", arguments=["weights"],
        )  # fmt: skip
    others = {key: value for key, value in tensors.items() if key not in names and key not in raw}
    return Checkpoint(others | {names[key]: tensors[key] for key in names}, "ema")


def require_choice(weights: WeightsChoice | None, there: Iterable[WeightsChoice], path: Path) -> None:
    """Check that a model has the weights that are asked for.

    Raises:
        ModelError: it does not, or there is nothing to choose from.
    """
    if weights is None or weights in (known := tuple(there)):
        return
    what = "has a moving average (EMA) only" if known else "has one kind of weights, and does not say which"
    raise ModelError(f"{path} {what}", "Leave out weights", arguments=["weights"])


def flatten(key: str) -> str:
    """The name of a UNet's weight in the moving average, which has no dots."""
    return EMA + key.removeprefix("model.").replace(".", "")


def restore_dots(key: str) -> str:
    """The original name of a weight of a moving average; the same key if it is none of a UNet's."""
    words = WORDS.findall(flat := key.removeprefix(EMA))
    if "".join(words) != flat:
        return key
    pairs = zip(["", *words], words, strict=False)
    return "model." + ".".join(f"{word[:-1]}.{word[-1]}" if before in TWO_NUMBERS else word for before, word in pairs)


def _rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename keys of older programs: CLIP without text_model, and one text encoder where SDXL has two."""
    xl = any(key.startswith("conditioner.embedders.1.") for key in tensors)

    def rename(key: str) -> str:
        name = key if xl else re.sub(r"^conditioner\.embedders\.0\.", "cond_stage_model.", key)
        return re.sub(
            r"^(cond_stage_model|conditioner\.embedders\.0)\.transformer\.(?=embeddings\.|encoder\.|final_layer_norm\.)",
            r"\1.transformer.text_model.",
            name,
        )

    return {rename(key): value for key, value in tensors.items()}


def require_known(tensors: Iterable[str], known: Iterable[str], harmless: tuple[str, ...], path: Path) -> None:
    """Check that all weights of a file are of the model that was made of it.

    Args:
        tensors: keys of the file.
        known: keys of the model.
        harmless: beginnings of keys that the model may leave out.
        path: path of the file.

    Raises:
        ModelError: the file has others.
    """
    others = sorted(set(tensors) - set(known))
    others = [key for key in others if not HARMLESS.fullmatch(key) and not key.startswith(harmless or ("\0",))]
    if others:
        raise ModelError(
            f"{path} has {len(others)} weights that the model has no place for, such as {others[0]}",
            "Give config=FOLDER of a model of the same family, or another file", arguments=["config"],
        )  # fmt: skip


def adapt_scheduler(path: Path, tensors: Mapping[str, Tensor], scheduler: Any) -> Any:
    """Make a scheduler with the prediction type and noise schedule that a file says it has.

    Args:
        path: path of the file.
        tensors: tensors of the file.
        scheduler: scheduler of its configs, which counts where the file says nothing.

    Returns:
        The same scheduler, or another one.

    Raises:
        ModelError: the file has a noise schedule that no sampler here knows.
    """
    if edm := [key for key in EDM if key in tensors]:
        raise ModelError(
            f"{path} was trained on the noise levels of EDM (it has {edm[0]}), which ip2p does not sample",
            "Give a model with the noise schedule of Stable Diffusion",
        )
    said: dict[str, Any] = {}
    prediction = {"v": "v_prediction", "epsilon": "epsilon"}.get(read_header(path).get(HEADER_PREDICTION, ""))
    if V_PREDICTION in tensors or prediction:
        said["prediction_type"] = "v_prediction" if V_PREDICTION in tensors else prediction
    alphas, own = tensors.get("alphas_cumprod"), getattr(scheduler, "alphas_cumprod", None)
    if alphas is not None and own is not None and not scheduler.config.get("rescale_betas_zero_snr"):
        alphas = alphas.double()
        if alphas.shape != own.shape or (alphas - own).abs().max() > SCHEDULE_TOLERANCE:
            betas = 1 - alphas / torch.cat([torch.ones(1, dtype=alphas.dtype), alphas[:-1]])
            said |= {"trained_betas": betas.tolist(), "num_train_timesteps": len(betas)}
    if ZERO_SNR in tensors and not scheduler.config.get("rescale_betas_zero_snr"):
        said |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if not said:
        return scheduler
    takes = inspect.signature(type(scheduler)).parameters
    kind: Any = type(scheduler) if said.keys() <= takes.keys() else EulerDiscreteScheduler
    return kind.from_config({**scheduler.config, **said})


def schedule_keys(scheduler: Any) -> dict[str, Tensor]:
    """The keys that say what `adapt_scheduler` reads, for a file to be written."""
    config = scheduler.config
    said = {V_PREDICTION: config.get("prediction_type") == "v_prediction"}
    said |= {ZERO_SNR: bool(config.get("rescale_betas_zero_snr"))}
    return {key: torch.zeros(0) for key, true in said.items() if true}
