"""The command: its configs load, and that of the paper has the paper's settings."""

from pathlib import Path

import pytest

from ip2p.config import load_config
from ip2p.train.config import FinetuneConfig
from ip2p.train.finetune import suit_base


@pytest.mark.parametrize("name", ["storybook_finetune", "paper_finetune", "one_gpu_finetune"])
def test_bundled_configs_load(name: str) -> None:
    assert load_config(FinetuneConfig, name).drop == 0.05


def test_the_papers_recipe() -> None:
    config = load_config(FinetuneConfig, "paper_finetune")
    assert 8 * config.batch * config.accumulation == 1024
    assert (config.learning_rate, config.ema_decay, config.steps, config.size) == (1e-4, 0.9999, 10_000, 256)
    assert config.optimizer == "adamw" and config.schedule == "constant" and not config.train_text_encoder


def test_settings_suit_the_base_where_no_config_is_given(
    sd_base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = suit_base(FinetuneConfig(), ["seed=3"])
    assert (ours.optimizer, ours.flip, ours.seed) == ("muon", False, 3)
    assert "settings: storybook_finetune.yaml" in capsys.readouterr().out
    given = load_config(FinetuneConfig, None, [f"base={sd_base_folder}", "seed=3"])
    paper = suit_base(given, [])
    assert paper is given and (paper.optimizer, paper.learning_rate, paper.flip) == ("adamw", 1e-4, True)
    assert paper.ema_decay == 0.9999 and paper.drop == 0.05 and not paper.train_text_encoder
    assert "settings: the paper's" in capsys.readouterr().out
    (tmp_path / "ip2p.json").write_text('{"vocabulary": {"words": "a barn", "examples": ["a barn"]}}')
    assert suit_base(load_config(FinetuneConfig, None, [f"base={tmp_path}"]), [f"base={tmp_path}"]).optimizer == "muon"
