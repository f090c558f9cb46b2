"""A tiny random base model and a tiny packed data set, made once."""

import json
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset, Features, Image, Value
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image as Pictures
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

INSTRUCTIONS = ("make it winter", "add a rainbow", "turn it blue", "make it night")


def tiny_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write a tokenizer whose tokens are letters, so that it can encode every sentence."""
    folder.mkdir(parents=True)
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model of 32 px with some ten thousand random weights, as a diffusers folder."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=16, bos_token_id=len(tokenizer) - 2, eos_token_id=len(tokenizer) - 1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=2,
    )  # fmt: skip
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder / "base")
    return folder / "base"


def write_pairs(folder: Path, count: int, *, size: tuple[int, int] = (32, 32)) -> Path:
    """Write a packed data set of pictures with different brightness."""
    features = Features({"original_image": Image(), "edit_prompt": Value("string"), "edited_image": Image()})
    rows = []
    for index in range(count):
        tone = 255 * index // count
        original = Pictures.linear_gradient("L").resize(size).convert("RGB")
        original.paste((tone, 90, 255 - tone), (0, 0, 10, 10))
        edited = original.point(lambda value: value // 2 + 100)
        rows.append({"original_image": original, "edit_prompt": INSTRUCTIONS[index % 4], "edited_image": edited})
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "train-00000.parquet")
    return folder


@pytest.fixture(scope="session")
def pairs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write twenty-one pairs of 32 px, one of them held out."""
    return write_pairs(tmp_path_factory.mktemp("data") / "packed", 21)


@pytest.fixture
def make_pairs() -> Callable[..., Path]:
    """Writes a packed data set: make_pairs(folder, count, size=(width, height))."""
    return write_pairs


@pytest.fixture(autouse=True)
def fresh_accelerate(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """accelerate keeps one state per process, and datasets one cache per home: every test starts without."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.getbasetemp() / "datasets"))
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
