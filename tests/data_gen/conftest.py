"""A tiny random CLIP, the config of a build of seconds, and a server that speaks OpenAI's API."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from ip2p.config import load_config
from ip2p.data_gen.config import DatasetConfig

CAPTIONS = (
    "a red barn in summer", "a blue castle at night", "a dog on a hill", "a photo of a green car", "two cats",
    "a horse in the rain", "a white house",
)  # fmt: skip


@pytest.fixture(scope="session")
def clip_folder(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of 16 px that reads the tokens of the tiny base model."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = CLIPTokenizer.from_pretrained(base_folder / "tokenizer")
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16,
        "eos_token_id": len(tokenizer) - 1,
        "bos_token_id": 0,
    }
    torch.manual_seed(3)
    config = CLIPConfig(
        text_config=tower | words, vision_config=tower | {"image_size": 16, "patch_size": 8}, projection_dim=16
    )
    model = CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    return folder


@pytest.fixture
def settings(base_folder: Path, clip_folder: Path, tmp_path: Path) -> list[str]:
    """key=value settings of a build of seconds that keeps some pairs and refuses others."""
    captions = tmp_path / "captions.txt"
    captions.write_text("\n".join(CAPTIONS) + "\n")
    return [
        f"out={tmp_path / 'out'}", "shard_size=2", f"captions.source={captions}", f"pairs.model={base_folder}",
        "pairs.steps=3", "pairs.candidates=2", "pairs.batch=3", f"scores.clip={clip_folder}", "filter.source=-1",
        "filter.edited=-1", "filter.image=0", "filter.direction=-0.3", "filter.top_k=1", "pack.split=0.3",
        "pack.shard_rows=3",
    ]  # fmt: skip


@pytest.fixture
def make_config(settings: list[str]) -> Callable[..., DatasetConfig]:
    """The config of `settings` with others on top: make_config("seed=3")."""

    def make(*others: str) -> DatasetConfig:
        return load_config(DatasetConfig, None, [*settings, *others])

    return make
