"""Tiny random models of the real classes, made once and saved as diffusers folders."""

import json
import string
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import checked_types  # noqa: F401  # before anything of ip2p
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PNDMScheduler,
    SchedulerMixin,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from llm_server import Server
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from ip2p.data_gen.writers.api import batch_writer
from ip2p.models.loading import quiet
from ip2p.remote import client

WORDS = 16  # longest text of the tiny models, in tokens
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def write_tokenizer(folder: Path, words: Sequence[str] = ("make", "it", "winter", "night")) -> CLIPTokenizer:
    """A CLIP tokenizer of letters and a few whole words, so that every English sentence has tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = string.ascii_lowercase + string.digits + string.punctuation
    merges = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges.append(f"{pieces[0]} {pieces[1]}")
            pieces[:2] = [pieces[0] + pieces[1]]
    made = [merge.replace(" ", "") for merge in dict.fromkeys(merges)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *made, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]) + "\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": WORDS, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(folder)


def tiny_text_encoder(vocabulary: int) -> CLIPTextModel:
    """Make a text encoder of one layer, 16 wide."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=WORDS, projection_dim=16, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
        )
    )  # fmt: skip


def tiny_unet(channels: int) -> UNet2DConditionModel:
    """Two levels, attention in the lower one; noisy biases too, since fresh ones are nearly zero."""
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=16, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return unet


def tiny_vae(kind: str) -> AutoencoderKL | AutoencoderTiny:
    """Four pixels a latent pixel, 4 channels; "tiny" as storybook's, "kl" as Stable Diffusion's."""
    if kind == "tiny":
        return AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        )  # fmt: skip
    return AutoencoderKL(
        block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    )  # fmt: skip


def write_model(folder: Path, *, editor: bool, vae: str, scheduler: SchedulerMixin) -> Path:
    """Save a tiny random model by diffusers, without code of ip2p."""
    torch.manual_seed(7)
    tokenizer = write_tokenizer(folder / "words")
    parts = {
        "vae": tiny_vae(vae), "text_encoder": tiny_text_encoder(len(tokenizer)), "tokenizer": tokenizer,
        "unet": tiny_unet(8 if editor else 4), "scheduler": scheduler,
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip
    pipeline = (StableDiffusionInstructPix2PixPipeline if editor else StableDiffusionPipeline)(**parts)
    pipeline.save_pretrained(folder / "model")
    return folder / "model"


def storybook_scheduler() -> SchedulerMixin:
    """v-prediction on Stable Diffusion's noise schedule, as storybook's models."""
    return DDIMScheduler(
        prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, **SCHEDULE
    )  # fmt: skip


def sd_scheduler() -> SchedulerMixin:
    """Make Stable Diffusion 1.5's scheduler."""
    return PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **SCHEDULE)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model of 32 px as storybook's: AutoencoderTiny, v-prediction."""
    return write_model(tmp_path_factory.mktemp("base"), editor=False, vae="tiny", scheduler=storybook_scheduler())


@pytest.fixture(scope="session")
def editor_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An editor of 32 px as storybook's: AutoencoderTiny, v-prediction, 8 channels."""
    return write_model(tmp_path_factory.mktemp("editor"), editor=True, vae="tiny", scheduler=storybook_scheduler())


@pytest.fixture(scope="session")
def sd_base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model of 32 px of Stable Diffusion's classes: AutoencoderKL, epsilon."""
    return write_model(tmp_path_factory.mktemp("sd-base"), editor=False, vae="kl", scheduler=sd_scheduler())


@pytest.fixture(scope="session")
def sd_editor_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An editor of 32 px of the classes of timbrooks/instruct-pix2pix: AutoencoderKL, epsilon, 8 channels."""
    return write_model(tmp_path_factory.mktemp("sd-editor"), editor=True, vae="kl", scheduler=sd_scheduler())


def save_as_sd2(pipeline_class: Any, source: Path, folder: Path) -> Path:
    """Save a pipeline of Stable Diffusion 1's classes as one of 2's, with a UNet of other random weights."""
    torch.manual_seed(8)
    with quiet():
        pipeline = pipeline_class.from_pretrained(source)
        config = pipeline.text_encoder.config
        config.hidden_act = "gelu"
        unet = UNet2DConditionModel.from_config(pipeline.unet.config, use_linear_projection=True)
        parts = {"unet": unet, "text_encoder": CLIPTextModel(config), "scheduler": storybook_scheduler()}
        pipeline.register_modules(**parts)
        pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sd2_base_folder(sd_base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model of Stable Diffusion 2's classes: OpenCLIP's activation, linear layers, v-prediction."""
    return save_as_sd2(StableDiffusionPipeline, sd_base_folder, tmp_path_factory.mktemp("sd2-base") / "model")


@pytest.fixture(scope="session")
def lcm_folder(sd_base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model of the classes of SimianLuo/LCM_Dreamshaper_v7: its UNet takes the guidance scale."""
    torch.manual_seed(9)
    folder = tmp_path_factory.mktemp("lcm") / "model"
    with quiet():
        parts = dict(StableDiffusionPipeline.from_pretrained(sd_base_folder).components)
        parts["unet"] = UNet2DConditionModel.from_config(parts["unet"].config, time_cond_proj_dim=16)
        with torch.no_grad():
            for parameter in parts["unet"].parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        parts["scheduler"] = LCMScheduler(set_alpha_to_one=True, **SCHEDULE)
        LatentConsistencyModelPipeline(**parts, requires_safety_checker=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def turbo_folder(xl_base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model of the classes of stabilityai/sdxl-turbo: SDXL that starts from the last timestep."""
    folder = tmp_path_factory.mktemp("turbo") / "model"
    with quiet():
        pipeline = StableDiffusionXLPipeline.from_pretrained(xl_base_folder)
        pipeline.scheduler = EulerAncestralDiscreteScheduler(timestep_spacing="trailing", **SCHEDULE)
        pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sd2_editor_folder(sd_editor_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An editor of Stable Diffusion 2's classes: OpenCLIP's activation, linear projections, v-prediction."""
    folder = tmp_path_factory.mktemp("sd2-editor") / "model"
    return save_as_sd2(StableDiffusionInstructPix2PixPipeline, sd_editor_folder, folder)


@pytest.fixture(scope="session")
def guarded_folder(sd_editor_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An editor whose tiny checker finds everything unsafe: no cosine is below its thresholds of -1."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config={**vision, "image_size": 16, "patch_size": 8}, projection_dim=8)
    with quiet():
        checker = StableDiffusionSafetyChecker(config)
        torch.nn.init.constant_(checker.concept_embeds_weights, -1.0)
        size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
        pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            sd_editor_folder, safety_checker=checker, feature_extractor=CLIPImageProcessorPil(**size),
            requires_safety_checker=True,
        )  # fmt: skip
        folder = tmp_path_factory.mktemp("guarded") / "model"
        pipeline.save_pretrained(folder)
    return folder


def write_xl(folder: Path, *, editor: bool) -> Path:
    """Save a tiny random model of SDXL's classes by diffusers."""
    torch.manual_seed(7)
    tokenizer = write_tokenizer(folder / "words")
    size = {
        "vocab_size": len(tokenizer), "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": WORDS, "bos_token_id": len(tokenizer) - 2, "eos_token_id": len(tokenizer) - 1,
    }  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=8 if editor else 4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=40, attention_head_dim=(1, 2), transformer_layers_per_block=(1, 2),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    parts = {
        "vae": tiny_vae("kl"), "tokenizer": tokenizer, "tokenizer_2": tokenizer, "unet": unet,
        "text_encoder": CLIPTextModel(CLIPTextConfig(hidden_size=16, projection_dim=16, **size)),
        "text_encoder_2": CLIPTextModelWithProjection(
            CLIPTextConfig(hidden_size=24, projection_dim=24, hidden_act="gelu", **size)
        ),
        "scheduler": EulerDiscreteScheduler(**SCHEDULE),
    }  # fmt: skip
    pipeline = (StableDiffusionXLInstructPix2PixPipeline if editor else StableDiffusionXLPipeline)(**parts)
    pipeline.save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def xl_base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model of 32 px of SDXL's classes."""
    return write_xl(tmp_path_factory.mktemp("xl-base"), editor=False)


@pytest.fixture(scope="session")
def xl_editor_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An editor of 32 px of SDXL's classes."""
    return write_xl(tmp_path_factory.mktemp("xl-editor"), editor=True)


@pytest.fixture(scope="session")
def peer_scheduler() -> Callable[[Any, str], Any]:
    """Make the scheduler of a name by the class of diffusers, and not by the table of ip2p."""
    classes: dict[str, tuple[Any, dict[str, Any]]] = {
        "euler_a": (EulerAncestralDiscreteScheduler, {}),
        "euler": (EulerDiscreteScheduler, {}),
        "heun": (HeunDiscreteScheduler, {}),
        "ddim": (DDIMScheduler, {"clip_sample": False}),
        "ddpm": (DDPMScheduler, {"clip_sample": False}),
        "pndm": (PNDMScheduler, {"skip_prk_steps": True}),
        "dpm": (DPMSolverMultistepScheduler, {}),
        "dpm_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
        "unipc": (UniPCMultistepScheduler, {}),
        "lcm": (LCMScheduler, {"clip_sample": False}),
    }

    def make(own: Any, name: str) -> Any:
        kind, others = classes[name]
        return kind.from_config(own.config, **others)

    return make


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start a local server of a language model, with short pauses between retries."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY-0123456789")
    monkeypatch.setattr(client, "ROUND_PAUSE", 0.01)
    monkeypatch.setattr(batch_writer, "POLL_SECONDS", 0.0)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()
