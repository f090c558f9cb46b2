"""Diffusion-DPO: the loss against a plain formula, the packed layout, and a run that learns to prefer."""

import copy
import io
import math
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset, Features, Image, Value
from diffusers import DDIMScheduler
from PIL import Image as Pictures
from torch import Tensor, nn

from ip2p.config import load_config
from ip2p.diffusion.noise import ForwardProcess
from ip2p.errors import ConfigError, DataError
from ip2p.models.backbone import load_backbone
from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import decode_image
from ip2p.train.config import DataSource, FinetuneConfig
from ip2p.train.fit import Run, fit
from ip2p.train.objective import TrainingBatch
from ip2p.train.preference import open_preferences, preference_loss
from ip2p.train.prepare import make_batches

INSTRUCTIONS = ("make it winter", "add a rainbow", "turn it blue")


def write_preferences(folder: Path, count: int) -> Path:
    """Write a packed data set in which bright edits are chosen and dark ones rejected."""
    pictures = ("original_image", "chosen", "rejected", "rejected_original_image")
    features = Features({name: Image() for name in pictures} | {"edit_prompt": Value("string")})
    rows = []
    for index in range(count):
        original = Pictures.linear_gradient("L").resize((32, 32)).convert("RGB")
        original.paste((255 * index // count, 90, 40), (0, 0, 10, 10))
        bright, dark = (original.point(lambda value, low=low: value // 2 + low) for low in (120, 0))
        rows.append(dict(zip(pictures, (original, bright, dark, original), strict=True)) | {
            "edit_prompt": INSTRUCTIONS[index % 3]
        })  # fmt: skip
    for name in ("data", "preferences"):
        (folder / name).mkdir(parents=True)
    data = Dataset.from_list(rows, features=features)
    data.to_parquet(folder / "preferences" / "train-00000-of-00001.parquet")
    pairs = data.select_columns(["original_image", "edit_prompt", "chosen"]).rename_columns({"chosen": "edited_image"})
    pairs.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
        "- config_name: preferences\n  data_files:\n  - split: train\n    path: preferences/train-*\n---\n"
    )
    return folder


class Linear(nn.Module):
    """Predicts a multiple of what it sees."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, noised: Tensor, timesteps: Tensor, condition: Tensor, tokens: Tensor) -> Tensor:
        return self.factor * noised + 0.1 * condition


def batch(seed: int) -> TrainingBatch:
    torch.manual_seed(seed)
    target = torch.randn(3, 4, 2, 2)
    torch.manual_seed(9)  # the two edits of a pair have the same condition, noise and timesteps
    condition, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    return TrainingBatch(target, condition, torch.zeros(3, 1, dtype=torch.long), noise, torch.tensor([5, 400, 990]))


def test_the_loss_is_equation_14() -> None:
    process, model, reference = ForwardProcess(DDIMScheduler()), Linear(0.7), Linear(0.4)
    chosen, rejected = batch(1), batch(2)
    losses = preference_loss(model, reference, process, chosen, rejected, beta=20.0)
    alphas = torch.cumprod(1 - torch.linspace(0.0001, 0.02, 1000), 0)
    for row in range(3):

        def error(factor: float, edit: TrainingBatch, row: int = row) -> float:
            a = alphas[edit.timesteps[row]].item()
            noised = math.sqrt(a) * edit.target[row] + math.sqrt(1 - a) * edit.noise[row]
            return float(((edit.noise[row] - factor * noised - 0.1 * edit.condition[row]) ** 2).mean())

        inside = error(0.7, chosen) - error(0.4, chosen) - (error(0.7, rejected) - error(0.4, rejected))
        assert losses[row].item() == pytest.approx(math.log(1 + math.exp(10 * inside)), rel=1e-4)
    losses.sum().backward()
    assert model.factor.grad is not None and reference.factor.grad is None


def test_at_the_reference_the_loss_is_log_two() -> None:
    model = Linear(0.7)
    losses = preference_loss(model, copy.deepcopy(model), ForwardProcess(DDIMScheduler()), batch(1), batch(2), beta=1e4)
    assert losses.tolist() == pytest.approx([math.log(2)] * 3)


def test_the_configuration_of_a_packed_data_set_is_read_row_by_row(tmp_path: Path) -> None:
    chosen, rejected = open_preferences(DataSource(path=str(write_preferences(tmp_path / "packed", 21))))
    assert (len(chosen.train), len(rejected.train), len(chosen.held_out)) == (20, 20, 1)
    assert list(chosen.train["edit_prompt"]) == list(rejected.train["edit_prompt"])
    pictures = [to_rgb(decode_image(each.train[3]["edited_image"]["bytes"], "it")) for each in (chosen, rejected)]
    bright, dark = (each.getpixel((20, 30)) for each in pictures)
    assert min(bright) > max(dark) and chosen.train[3]["original_image"] == rejected.train[3]["original_image"]


def test_both_edits_come_in_one_order_whatever_their_sizes(tmp_path: Path, tiny_base: Path) -> None:
    """A build is taken for its data set, and a rejected edit of another shape stays beside its chosen one."""
    (tmp_path / "build.json").write_text("{}")
    folder = write_preferences(tmp_path / "packed", 21) / "preferences"
    rows = Dataset.from_parquet(str(folder / "train-00000-of-00001.parquet")).to_list()
    wide = io.BytesIO()
    Pictures.new("RGB", (64, 32)).save(wide, "PNG")
    for number, row in enumerate(rows):
        row["edit_prompt"] = f"edit {number}"
        if number % 3 == 0:
            row |= {"rejected": {"bytes": wide.getvalue()}, "rejected_original_image": {"bytes": wide.getvalue()}}
    Dataset.from_list(rows).to_parquet(folder / "train-00000-of-00001.parquet")
    config = load_config(FinetuneConfig, None, [f"dataset={tmp_path}", "buckets=true", "batch=4", "dpo_beta=1"])
    opened = open_preferences(*config.datasets)
    chosen, rejected = (make_batches(each, load_backbone(tiny_base), config, size=32) for each in opened)
    for start in range(0, 40, 4):
        (texts, better), (others, worse) = (each.at(range(start, start + 4)) for each in (chosen, rejected))
        assert texts == others and better.mean.shape == worse.mean.shape


def test_preference_pairs_without_a_picture_to_edit_are_refused(tmp_path: Path) -> None:
    folder = write_preferences(tmp_path / "packed", 21)
    file = folder / "preferences" / "train-00000-of-00001.parquet"
    rows = Dataset.from_parquet(str(file)).to_list()
    rows[5]["rejected_original_image"] = None
    Dataset.from_list(rows).to_parquet(file)
    with pytest.raises(DataError, match="without a picture to edit: 1"):
        open_preferences(DataSource(path=str(folder)))


def test_a_data_set_without_preferences_is_told(pairs_folder: Path) -> None:
    with pytest.raises(DataError, match=r"preference pairs .*pack\.preferences=true"):
        open_preferences(DataSource(path=str(pairs_folder)))


def test_two_weightings_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match="goes without changed_weight"):
        load_config(FinetuneConfig, None, ["dpo_beta=2000", "changed_weight=1"])


@pytest.mark.slow
def test_a_run_comes_to_prefer_what_was_chosen(tiny_base: Path, tmp_path: Path) -> None:
    chosen = {
        "base": tiny_base, "dataset": write_preferences(tmp_path / "packed", 21), "out": tmp_path / "run", "steps": 12,
        "batch": 4, "precision": "fp32", "learning_rate": 0.003, "validate_every": 100, "threads": 1, "dpo_beta": 100,
        "drop": 0.0, "cache_latents": "true",
    }  # fmt: skip
    config = load_config(FinetuneConfig, None, [f"{key}={value}" for key, value in chosen.items()])

    def mean_loss(run: Run) -> float:
        with torch.no_grad():
            return sum(run.loss(range(start, start + 4)).item() for start in range(100, 140, 4)) / 10

    AcceleratorState._reset_state(reset_partial_state=True)
    before = mean_loss(Run(config, lambda _: None))
    AcceleratorState._reset_state(reset_partial_state=True)
    assert before == pytest.approx(math.log(2), rel=1e-4)
    assert fit(config, say=lambda _: None).editor is not None
    AcceleratorState._reset_state(reset_partial_state=True)
    after = mean_loss(Run(config, lambda _: None))  # resumed, with the base model as the reference again
    assert after < 0.9 * before
