"""The command: its configs load, and that of the paper has the paper's settings."""

import pytest

from ip2p.config import load_config
from ip2p.train.config import FinetuneConfig


@pytest.mark.parametrize("name", ["storybook_finetune", "paper_finetune", "one_gpu_finetune"])
def test_bundled_configs_load(name: str) -> None:
    assert load_config(FinetuneConfig, name).drop == 0.05


def test_the_papers_recipe() -> None:
    config = load_config(FinetuneConfig, "paper_finetune")
    assert 8 * config.batch * config.accumulation == 1024
    assert (config.learning_rate, config.ema_decay, config.steps, config.size) == (1e-4, 0.9999, 10_000, 256)
    assert config.optimizer == "adamw" and config.schedule == "constant" and not config.train_text_encoder
