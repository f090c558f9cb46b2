"""Latent diffusion models: their components, and how these encode, predict and decode.

Supported are Stable Diffusion 1, 2 and XL, text-to-image models and editors, and storybook's, which have the same
classes. Pictures have shape (b, 3, h, w) in [-1, 1]; latents (b, c, h/k, w/k) in fp32 for every precision of weights.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from ip2p.conditioning import Conditioning, embed_xl
from ip2p.errors import ConfigError, ModelError
from ip2p.models.checkpoint import WeightsChoice, read_checkpoint, require_choice
from ip2p.models.family import SIZE_NUMBERS, require_one_family, require_scale, require_vocabulary
from ip2p.models.folder import (
    COMPONENTS,
    SAFETY_COMPONENTS,
    SDXL_COMPONENTS,
    locate,
    read_folder,
    read_index,
    weights_choices,
    write_folder,
)
from ip2p.models.loading import explain
from ip2p.models.safety import SafetyChecker
from ip2p.models.single_file import open_configs, read_single_file
from ip2p.models.tokens import tokenize
from ip2p.models.vocabulary import Vocabulary, read_vocabulary
from ip2p.seeding import randn
from ip2p.settings import SETTINGS_FILE, EditSettings, GenerationSettings, read_settings, select
from ip2p.shards import atomic_dir

Kind = Literal["base", "editor", "any"]
PipelineClass = Literal[
    "StableDiffusionPipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
]


class LoadingOptions(TypedDict, total=False):
    """Options of loading a model.

    Args:
        config: folder or hub id with the configs and tokenizer of the model's family, for a single file.
        weights: "ema" for the moving average of the UNet's weights, "raw" for those beside it; None for the moving
            average where there is one.
        allow_pickle: whether to read pickled weights, of which only tensors are loaded.
        safety_checker: whether to keep the model's safety checker, if it has one.
    """

    config: str | Path | None
    weights: WeightsChoice | None
    allow_pickle: bool
    safety_checker: bool


@dataclass
class Backbone:
    """The components of a text-to-image model or an editor.

    Their classes have no types, hence Any.

    Args:
        vae: AutoencoderKL or AutoencoderTiny.
        text_encoder, tokenizer: CLIPTextModel and CLIPTokenizer.
        unet: UNet2DConditionModel with c input channels (text-to-image model) or 2c (editor).
        scheduler: scheduler saved with the model; its config has the noise schedule and the prediction type.
        name: name that the model was loaded by.
        path: folder or file of the model.
        weights: which of the UNet's weights were loaded, if there are several: "ema" or "raw".
        own_settings: sampling settings from the model's `ip2p.json`, by name.
        vocabulary: words that the model was trained on, if these are few; None if it may know any.
        text_encoder_2, tokenizer_2: SDXL's second text encoder and tokenizer, CLIPTextModelWithProjection and
            CLIPTokenizer.
        zero_empty_text: whether the empty text is embedded as zeros, as in SDXL.
        safety: safety checker of the model; None if it has none.
        decoder: autoencoder that decodes in place of the vae; see `ip2p.models.decoder`.
        compiled: whether the UNet is compiled, so that its layers cannot be replaced by caches.
        options: options of `load_for_inference` that pictures depend on, other than the defaults, by name.
        lock: lock to acquire for a run, during which caches replace layers of the networks.
    """

    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: Any
    scheduler: Any
    name: str
    path: Path
    own_settings: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: Vocabulary | None = None
    text_encoder_2: Any = None
    tokenizer_2: Any = None
    zero_empty_text: bool = False
    weights: WeightsChoice | None = None
    safety: SafetyChecker | None = None
    decoder: Any = None
    compiled: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def latent_channels(self) -> int:
        """Number c of latent channels."""
        return int(self.vae.config.latent_channels)

    @property
    def downscale(self) -> int:
        """Side of a latent pixel in pixels."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def side_multiple(self) -> int:
        """Number of pixels of which the sides of pictures are multiples: every level of the UNet halves the latents."""
        return int(self.downscale * 2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def image_size(self) -> int:
        """Side in pixels of the pictures that the model was trained on."""
        size = self.unet.config.sample_size
        return int(size if isinstance(size, int) else max(size)) * self.downscale

    @property
    def is_editor(self) -> bool:
        """Whether the UNet takes image latents besides the noisy ones."""
        return int(self.unet.config.in_channels) == 2 * self.latent_channels

    @property
    def settings(self) -> EditSettings | GenerationSettings:
        """Sampling settings: the model's own values, and defaults for the others."""
        kind = EditSettings if self.is_editor else GenerationSettings
        return kind(**select(kind, self.own_settings))

    @property
    def is_xl(self) -> bool:
        """Whether the model has SDXL's two text encoders."""
        return self.text_encoder_2 is not None

    @property
    def pipeline_class(self) -> PipelineClass:
        """Name of the diffusers pipeline class for this model."""
        if self.is_xl:
            return "StableDiffusionXLInstructPix2PixPipeline" if self.is_editor else "StableDiffusionXLPipeline"
        return "StableDiffusionInstructPix2PixPipeline" if self.is_editor else "StableDiffusionPipeline"

    @property
    def device(self) -> torch.device:
        """Device that the UNet computes on; with CPU offload, it is taken from accelerate's hook."""
        hook = getattr(self.unet, "_hf_hook", None)
        return torch.device(getattr(hook, "execution_device", None) or self.unet.device)

    @property
    def modules(self) -> list[Any]:
        """The networks in the order of their use, without the safety checker."""
        found = (self.text_encoder, self.text_encoder_2, self.unet, self.vae, self.decoder)
        return [each for each in found if each is not None]

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Weights of all networks by name, such as unet.conv_in.weight."""
        for part in (*COMPONENTS, "decoder"):
            network = getattr(self, part, None)
            if isinstance(network, torch.nn.Module):
                yield from ((f"{part}.{name}", weight) for name, weight in network.named_parameters())

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the UNet's weights."""
        dtype: torch.dtype = self.unet.conv_in.weight.dtype  # the UNet's own property searches all its modules
        return dtype

    def require(self, want: Kind) -> None:
        """Check that the components fit together, and that this is a text-to-image model ("base") or an editor.

        Raises:
            ModelError: the components do not fit, or it is another kind of model.
        """
        with explain(f"the model {self.name}"):
            require_one_family(self.name, self.unet, self.text_encoder, self.text_encoder_2)
            require_scale(self.name, latent_scale(self.vae), latent_shift(self.vae))
            require_scale(self.name, float(self.image_size), 0.0)
            for tokenizer, encoder in ((self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)):
                if encoder is not None:
                    require_vocabulary(self.name, tokenizer, encoder)
        channels, latent = int(self.unet.config.in_channels), self.latent_channels
        inpainting = " (it is made for inpainting)" if channels == 2 * latent + 1 else ""
        if want == "editor" and not self.is_editor:
            raise ModelError(
                f"{self.name} is no editor: its UNet takes {channels} channels, not {2 * latent}{inpainting}",
                "Give an editor, such as storybook-editor, or make one of it with `ip2p finetune`"
                if not inpainting
                else "Give an editor, such as storybook-editor",
            )
        if want == "base" and channels != latent:
            raise ModelError(
                f"{self.name} is no text-to-image model: its UNet takes {channels} channels, not {latent}{inpainting}",
                "Give a text-to-image model, such as storybook-base",
            )

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "b n"]:
        """Tokenize texts, padded to the length of the text encoder. Longer texts are truncated with a warning."""
        return tokenize(self.tokenizer, self.text_encoder, texts, warn=True)

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """Embed texts in fp32 to condition the UNet on."""
        tokens = self.tokenize(texts).to(self.device)
        if not self.is_xl:
            embeddings: Tensor = self.text_encoder(tokens)[0]
            return Conditioning(embeddings.float())
        second = tokenize(self.tokenizer_2, self.text_encoder_2, texts, warn=False).to(self.device)
        zeroed = torch.tensor([self.zero_empty_text and not text for text in texts], device=self.device)
        return embed_xl(self.text_encoder, self.text_encoder_2, tokens, second, zeroed=zeroed)

    def encode_condition(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c i j"]:
        """Encode pictures into image latents of an editor: the mode of the autoencoder's posterior, not scaled."""
        return self._posterior(x)[0]

    def target_posterior(
        self, x: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c i j"], Float[Tensor, "b c i j"]]:
        """Mean and standard deviation of the scaled latents that are denoised: (z - shift) * scale.

        The standard deviation is zero where the autoencoder has no posterior.
        """
        mean, std = self._posterior(x)
        scale = latent_scale(self.vae)
        return (mean - latent_shift(self.vae)) * scale, std * scale

    def encode_target(
        self, x: Float[Tensor, "b 3 h w"], generators: Sequence[torch.Generator] | None = None
    ) -> Float[Tensor, "b c i j"]:
        """Encode pictures into scaled latents, sampled with one generator for each row; the mean without generators."""
        mean, std = self.target_posterior(x)
        if generators is None or not std.any():
            return mean
        return mean + std * randn(tuple(mean.shape[1:]), generators, device=mean.device)

    def decode(self, latents: Float[Tensor, "b c i j"]) -> Float[Tensor, "b 3 h w"]:
        """Decode scaled latents into pictures in [-1, 1]."""
        decoder = self.decoder or self.vae
        unscaled = latents / latent_scale(decoder) + latent_shift(decoder)
        pictures: Tensor = decoder.decode(unscaled.to(decoder.dtype), return_dict=False)[0]
        return pictures.float().clamp(-1, 1)

    def predict(self, x: Float[Tensor, "b c h w"], timestep: Tensor, text: Conditioning) -> Float[Tensor, "b k h w"]:
        """The UNet's prediction for latents scaled by the scheduler; in an editor, image latents follow as channels.

        SDXL's size conditioning is the size of the picture, without cropping.
        """
        tokens, added = text.tokens.to(self.dtype), None
        if text.pooled is not None:
            height, width = (side * self.downscale for side in x.shape[-2:])
            sizes = tokens.new_tensor([height, width, 0, 0, height, width]).expand(len(x), SIZE_NUMBERS)
            added = {"text_embeds": text.pooled.to(self.dtype), "time_ids": sizes}
        scale = None if text.scale is None else text.scale.to(self.dtype)
        prediction: Tensor = self.unet(
            x.to(self.dtype), timestep, encoder_hidden_states=tokens, timestep_cond=scale, added_cond_kwargs=added,
            return_dict=False,
        )[0]  # fmt: skip
        return prediction.float()

    def flag_unsafe(self, images: Sequence[Image.Image]) -> list[bool]:
        """Flag the pictures that the model's safety checker finds unsafe; none if it has no checker."""
        return self.safety.flag_unsafe(images, self.device) if self.safety else [False] * len(images)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the autoencoder's latents, not scaled."""
        encoded = self.vae.encode(x.to(self.vae.dtype))
        if not hasattr(encoded, "latent_dist"):
            return encoded.latents.float(), torch.zeros_like(encoded.latents, dtype=torch.float32)
        return encoded.latent_dist.mode().float(), encoded.latent_dist.std.float()


def latent_scale(vae: Any) -> float:
    """Factor of the latents that are denoised, see `Backbone.target_posterior`."""
    return float(vae.config.scaling_factor)


def latent_shift(vae: Any) -> float:
    """Shift of the latents that are denoised."""
    return float(getattr(vae.config, "shift_factor", None) or 0.0)


def load_backbone(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    want: Kind = "any",
    **loading: Unpack[LoadingOptions],
) -> Backbone:
    """Load a model in evaluation mode, without gradients.

    Args:
        name: bundled name, folder, single file in the original layout, or hub id; no code of the model is run.
        device, dtype: device and data type of the networks.
        want: "base" for a text-to-image model, "editor" for an editor.
        loading: options of loading, see LoadingOptions.

    Raises:
        ModelError: the model is missing, of another kind, or damaged.
    """
    if unknown := loading.keys() - LoadingOptions.__annotations__.keys():
        hint = "ip2p.models.inference.InferenceOptions lists them all"
        raise ConfigError(f"there is no option {min(unknown)!r} for loading a model", hint)
    if loading.get("weights") not in (None, *get_args(WeightsChoice)):
        raise ConfigError(
            f"weights={loading.get('weights')} is neither ema nor raw",
            "Give weights=ema or weights=raw",
            arguments=["weights"],
        )
    if (config := loading.get("config")) and not Path(name).is_file():  # before anything is downloaded
        what = f"config={config} would do nothing: {name} is no single file, and has configs of its own"
        raise ConfigError(what, "Leave out config", arguments=["config"])
    path = locate(name, raw=loading.get("weights") == "raw")
    with explain(f"the model {name}"):
        backbone = _from_file(path, dtype, loading) if path.is_file() else _from_folder(path, dtype, loading)
        backbone.name = str(name)
        for module in backbone.modules:
            module.to(device).eval().requires_grad_(False)
    backbone.require(want)
    if backbone.is_xl and backbone.vae.config.get("force_upcast"):
        backbone.vae.float()  # SDXL's autoencoder overflows in fp16, and diffusers computes it in fp32 too
    return backbone


def save_backbone(
    backbone: Backbone,
    folder: Path,
    *,
    pipeline_class: PipelineClass,
    dtype: torch.dtype = torch.float16,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a model folder atomically, for `load_backbone` and the pipelines of diffusers.

    Args:
        backbone: model to write; it is not changed.
        folder: folder to write; replaced if it exists.
        pipeline_class: name of the diffusers pipeline class for the folder.
        dtype: data type of the weights on disk.
        extra: texts of further files by name, such as "README.md".
    """
    components = {name: getattr(backbone, name, None) for name in COMPONENTS}
    components |= {"safety_checker": None, "feature_extractor": None, "image_encoder": None}
    index: dict[str, Any] = {"_class_name": pipeline_class}
    if backbone.safety:
        safety = backbone.safety
        components |= {"safety_checker": safety.checker, "feature_extractor": safety.feature_extractor}
    if backbone.is_xl:
        without = (*SAFETY_COMPONENTS, "image_encoder")
        components = {name: value for name, value in components.items() if name not in without}
        index["force_zeros_for_empty_prompt"] = backbone.zero_empty_text
    else:
        components = {name: value for name, value in components.items() if name not in SDXL_COMPONENTS}
        index["requires_safety_checker"] = backbone.safety is not None
    with atomic_dir(folder) as temporary:
        write_folder(temporary, components, index, dtype)
        for file, text in ({SETTINGS_FILE: "{}\n"} | dict(extra or {})).items():  # that file says whose the folder is
            (temporary / file).write_text(text)


def _from_folder(path: Path, dtype: torch.dtype, loading: LoadingOptions) -> Backbone:
    choices, weights = weights_choices(path), loading.get("weights")
    require_choice(weights, choices, path)
    components = read_folder(
        path, dtype, safety_checker=loading.get("safety_checker", True), raw=weights == "raw",
        allow_pickle=loading.get("allow_pickle", False),
    )  # fmt: skip
    return _assemble(components, path, path, (weights or "ema") if choices else None)


def _from_file(path: Path, dtype: torch.dtype, loading: LoadingOptions) -> Backbone:
    pickles = loading.get("allow_pickle", False)
    tensors, weights = read_checkpoint(path, weights=loading.get("weights"), allow_pickle=pickles)
    with open_configs(path, tensors, loading.get("config")) as configs:
        return _assemble(read_single_file(path, tensors, configs, dtype), configs, path, weights)


def _assemble(components: dict[str, Any], configs: Path, path: Path, weights: WeightsChoice | None) -> Backbone:
    """Make a model of components, with the settings in their folder."""
    checker = [components.pop(name, None) for name in SAFETY_COMPONENTS]
    zero = "text_encoder_2" in components and bool(read_index(configs).get("force_zeros_for_empty_prompt", True))
    return Backbone(
        **components, name=str(path), path=path, zero_empty_text=zero, weights=weights,
        own_settings=read_settings(configs, type(components["scheduler"]).__name__),
        vocabulary=read_vocabulary(configs),
        safety=SafetyChecker(*checker) if None not in checker else None,
    )  # fmt: skip
