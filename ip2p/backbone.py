"""The parts of a latent diffusion model and what they do to pictures, texts and latents.

The only file that knows diffusers' and transformers' model classes. A model folder has diffusers' layout:
`model_index.json` and a folder for each part. Pictures are (b, 3, h, w) in [-1, 1]; latents (b, c, h/k, w/k) in fp32,
whatever the precision of the weights.
"""

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
import transformers
from diffusers import SchedulerMixin
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ip2p.errors import ModelError
from ip2p.names import BUNDLED_NAMES, bundled_path
from ip2p.seeding import randn
from ip2p.settings import Settings, read_settings
from ip2p.shards import atomic_dir

Kind = Literal["base", "editor", "any"]
PipelineClass = Literal["StableDiffusionPipeline", "StableDiffusionInstructPix2PixPipeline"]

INDEX = "model_index.json"
DAMAGED = "Download it again, or train it again"
KNOWN = f"Give {BUNDLED_NAMES[0]}, {BUNDLED_NAMES[1]}, a folder with {INDEX}, or a hub id such as owner/name"
CLASSES: dict[str, tuple[str, ...]] = {
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "unet": ("UNet2DConditionModel",),
}


@dataclass
class Backbone:
    """A text-to-image model, or an editor, in parts.

    Parts are of classes that type checkers cannot look into, hence Any.

    Args:
        vae: AutoencoderKL or AutoencoderTiny, between pictures and latents.
        text_encoder, tokenizer: CLIPTextModel and CLIPTokenizer, from texts to embeddings.
        unet: UNet2DConditionModel that predicts from c channels (a text-to-image model) or 2c (an editor).
        scheduler: as saved with the model; tells the noise schedule and what the UNet predicts.
        name: that it was loaded by.
        path: its folder.
        settings: how it is run unless told otherwise.
    """

    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: Any
    scheduler: Any
    name: str
    path: Path
    settings: Settings = field(default_factory=Settings)

    @property
    def latent_channels(self) -> int:
        """Channels c of a latent."""
        return int(self.vae.config.latent_channels)

    @property
    def downscale(self) -> int:
        """Pixels that one latent pixel stands for, along each side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def image_size(self) -> int:
        """Side of the pictures that it was made for, in pixels."""
        size = self.unet.config.sample_size
        return int(size if isinstance(size, int) else max(size)) * self.downscale

    @property
    def is_editor(self) -> bool:
        """Whether the UNet reads the latent of a picture beside the noisy one."""
        return int(self.unet.config.in_channels) == 2 * self.latent_channels

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return torch.device(self.unet.device)

    @property
    def dtype(self) -> torch.dtype:
        """Of the UNet's weights."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    def require(self, want: Kind) -> None:
        """Check that this is a text-to-image model ("base") or an editor.

        Raises:
            ModelError: it is another kind of model.
        """
        channels, latent = int(self.unet.config.in_channels), self.latent_channels
        if want == "editor" and not self.is_editor:
            raise ModelError(
                f"{self.name} is no editor: its UNet takes {channels} channels, not {2 * latent}",
                "Give an editor, such as storybook-editor, or make one of it with `ip2p finetune`",
            )
        if want == "base" and channels != latent:
            raise ModelError(
                f"{self.name} is no text-to-image model: its UNet takes {channels} channels, not {latent}",
                "Give a text-to-image model, such as storybook-base",
            )

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "b n"]:
        """Token ids, padded to the longest text that the encoder takes. What is beyond is cut off, with a warning."""
        longest = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        rows = []
        for text, ids in zip(texts, self.tokenizer(list(texts), verbose=False).input_ids, strict=True):
            if len(ids) > longest:
                lost = self.tokenizer.decode(ids[longest - 1 : -1]).strip()
                warnings.warn(f"text longer than {longest - 2} tokens; not read: {lost!r} of {text!r}", stacklevel=2)
                ids = [*ids[: longest - 1], ids[-1]]
            rows.append(ids + [self.tokenizer.pad_token_id] * (longest - len(ids)))
        return torch.tensor(rows, dtype=torch.long).reshape(len(rows), longest)

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "b n d"]:
        """Embeddings that condition the UNet; no text is the empty one."""
        embeddings: Tensor = self.text_encoder(self.tokenize(texts).to(self.device))[0]
        return embeddings.float()

    def encode_condition(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c i j"]:
        """Latents that an editor reads beside the noisy ones: the posterior's mode, not scaled."""
        return self._posterior(x)[0]

    def target_posterior(
        self, x: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c i j"], Float[Tensor, "b c i j"]]:
        """Mean and standard deviation of the latents that diffusion works on, scaled: (z - shift) * scale.

        The deviation is zero where the autoencoder has no posterior.
        """
        mean, std = self._posterior(x)
        return (mean - self._shift) * self._scale, std * self._scale

    def encode_target(
        self, x: Float[Tensor, "b 3 h w"], generators: Sequence[torch.Generator] | None = None
    ) -> Float[Tensor, "b c i j"]:
        """Scaled latents, sampled from the posterior with a generator for each row; its mean without generators."""
        mean, std = self.target_posterior(x)
        if generators is None or not std.any():
            return mean
        return mean + std * randn(tuple(mean.shape[1:]), generators, device=mean.device)

    def decode(self, latents: Float[Tensor, "b c i j"]) -> Float[Tensor, "b 3 h w"]:
        """Pictures in [-1, 1] of scaled latents."""
        unscaled = (latents / self._scale + self._shift).to(self.vae.dtype)
        pictures: Tensor = self.vae.decode(unscaled, return_dict=False)[0]
        return pictures.float().clamp(-1, 1)

    def predict(
        self, x: Float[Tensor, "b c h w"], timestep: Tensor, text: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b k h w"]:
        """What the UNet predicts for latents scaled by the scheduler, an editor's with the condition behind them."""
        prediction: Tensor = self.unet(
            x.to(self.dtype), timestep, encoder_hidden_states=text.to(self.dtype), return_dict=False
        )[0]
        return prediction.float()

    @property
    def _scale(self) -> float:
        return float(self.vae.config.scaling_factor)

    @property
    def _shift(self) -> float:
        return float(getattr(self.vae.config, "shift_factor", None) or 0.0)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the autoencoder's latents, as it gives them."""
        encoded = self.vae.encode(x.to(self.vae.dtype))
        if not hasattr(encoded, "latent_dist"):
            return encoded.latents.float(), torch.zeros_like(encoded.latents, dtype=torch.float32)
        return encoded.latent_dist.mode().float(), encoded.latent_dist.std.float()


def load_backbone(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    want: Kind = "any",
) -> Backbone:
    """Load a model, ready to compute, without gradients.

    Args:
        name: bundled, a folder, or a hub id; only safetensors are read, and no code of the model's.
        device, dtype: to compute on and in.
        want: "base" for a text-to-image model, "editor" for an editor.

    Raises:
        ModelError: it is not there, of another kind, or damaged.
    """
    path = _folder(name)
    classes = _classes(path)
    try:
        with _quiet():
            parts = {part: _load(path, part, classes[part], dtype) for part in (*CLASSES, "scheduler")}
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the model {name} ({_one_line(error)})", DAMAGED) from error
    for part in ("vae", "text_encoder", "unet"):
        parts[part] = parts[part].to(device).eval().requires_grad_(False)
    backbone = Backbone(**parts, name=str(name), path=path, settings=read_settings(path))
    backbone.require(want)
    return backbone


def save_backbone(
    backbone: Backbone,
    folder: Path,
    *,
    pipeline_class: PipelineClass,
    dtype: torch.dtype = torch.float16,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a model folder that `load_backbone` and the pipelines of diffusers load; whole, or not at all.

    Args:
        backbone: stays as it is.
        folder: replaced if there.
        pipeline_class: of diffusers, that the folder is for.
        dtype: of the weights on disk.
        extra: texts of more files by name, such as "README.md".
    """
    parts = {part: getattr(backbone, part) for part in (*CLASSES, "scheduler")}
    index: dict[str, Any] = {"_class_name": pipeline_class, "_diffusers_version": version("diffusers")}
    for part, value in parts.items():
        index[part] = ["transformers" if part in ("text_encoder", "tokenizer") else "diffusers", type(value).__name__]
    index |= {part: [None, None] for part in ("safety_checker", "feature_extractor", "image_encoder")}
    index["requires_safety_checker"] = False
    with atomic_dir(folder) as temporary:
        with _quiet():
            for part, value in parts.items():
                _save(value, temporary / part, dtype)
        (temporary / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        for file, text in (extra or {}).items():
            (temporary / file).write_text(text)


def _folder(name: str | Path) -> Path:
    """Where a model lies, after a download if it is on the hub."""
    if str(name) in BUNDLED_NAMES:
        return bundled_path(str(name))
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelError(f"{name} is a file, not a model folder", f"Give a folder with {INDEX}, in diffusers' layout")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise ModelError(f"there is no model {name}", KNOWN)
    wanted = [INDEX, "ip2p.json", *(f"{part}/*" for part in (*CLASSES, "scheduler"))]
    try:
        downloaded = snapshot_download(
            name, allow_patterns=wanted, ignore_patterns=["*.bin", "*.fp16.*", "*.non_ema.*", "*.msgpack", "*.onnx"]
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"there is no folder {name}, and it cannot be fetched from the hub ({type(error).__name__})",
            "Check the name and the network, or give a folder; bundled are storybook-editor and storybook-base",
        ) from error
    return Path(downloaded)


def _classes(path: Path) -> dict[str, str]:
    """Class of each part of a model folder, checked against those that we load."""
    try:
        index = json.loads((path / INDEX).read_text())
        classes = {part: str(index[part][1]) for part in (*CLASSES, "scheduler") if index.get(part)}
    except FileNotFoundError:
        raise ModelError(f"the folder {path} has no {INDEX}", KNOWN) from None
    except (OSError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path / INDEX} is not readable ({_one_line(error)})", DAMAGED) from error
    for part, known in CLASSES.items():
        if classes.get(part) not in known or f"{part}_2" in index:
            found = f"{classes.get(part)} as its {part}" if f"{part}_2" not in index else f"two of {part}"
            raise ModelError(f"the model {path} has {found}", "Give a model of the Stable Diffusion 1 or 2 family")
    scheduler = getattr(diffusers, classes.get("scheduler", ""), None)
    if not (isinstance(scheduler, type) and issubclass(scheduler, SchedulerMixin)):
        raise ModelError(f"the model {path} has {classes.get('scheduler')} as its scheduler", "Give another model")
    return classes


def _load(path: Path, part: str, name: str, dtype: torch.dtype) -> Any:
    """One part of a model, with all of its weights."""
    folder = path / part
    if not folder.is_dir():
        raise OSError(f"it has no folder {part}")
    if part == "tokenizer":
        return CLIPTokenizer.from_pretrained(folder)
    if part == "scheduler":
        return getattr(diffusers, name).from_pretrained(folder)
    library = transformers if part == "text_encoder" else diffusers
    module, info = getattr(library, name).from_pretrained(
        folder, dtype=dtype, use_safetensors=True, output_loading_info=True, local_files_only=True
    )
    if info["missing_keys"]:
        raise ValueError(f"{part} lacks {len(info['missing_keys'])} weights, such as {sorted(info['missing_keys'])[0]}")
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of a blink, and no warnings about settings that a class wrote itself."""
    logs = (diffusers.utils.logging, transformers.utils.logging)
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, verbosity, bars in before:
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()


def _save(part: Any, folder: Path, dtype: torch.dtype) -> None:
    """One part of a model; weights are rounded on the way, so that the model in memory keeps its own."""
    if not hasattr(part, "state_dict"):
        part.save_pretrained(folder)
        return
    weights = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in part.state_dict().items()
    }
    if isinstance(part, CLIPTextModel):
        part.save_pretrained(folder, state_dict=weights)
    else:
        part.save_config(folder)
        config = json.loads((folder / "config.json").read_text())
        config.pop("_name_or_path", None)  # where the weights once lay is nobody's business
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
