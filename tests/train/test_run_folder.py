"""The folder of a run: one writer, and what may change when the run goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from ip2p.config import load_config
from ip2p.errors import BusyError, ConfigError, DataError
from ip2p.ownership import sole_writer
from ip2p.train.checkpoint import State
from ip2p.train.config import FinetuneConfig
from ip2p.train.finetune import main
from ip2p.train.fit import Run
from ip2p.train.run_folder import LOCK_FILE, claim, read_runs, tell_changes

Train = Callable[..., list[str]]


@pytest.fixture
def train(tiny_base: Path, pairs_folder: Path, tmp_path: Path) -> Train:
    """Trains up to `steps` in tmp_path/out, by settings on top of these; returns what was said."""
    chosen = {
        "base": tiny_base, "dataset": pairs_folder, "batch": 4, "accumulation": 1, "minutes": "null", "size": 32,
        "precision": "fp32", "threads": 1, "cache_latents": "false", "train_text_encoder": "false", "attention": "sdpa",
        "optimizer": "adamw", "schedule": "constant", "warmup": 0, "keep_checkpoints": 9,
    }  # fmt: skip

    def run(out: str, steps: int, **more: Any) -> list[str]:
        said: list[str] = []
        AcceleratorState._reset_state(reset_partial_state=True)
        overrides = [f"{key}={value}" for key, value in (chosen | more).items()]
        config = load_config(FinetuneConfig, None, [*overrides, f"steps={steps}", f"out={tmp_path / out}"])
        session = Run(config, said.append)
        while session.done < 1:
            session.advance(session.step(), 0)
        session.save()
        return said

    return run


def unet(out: Path, step: int, stem: str = "unet") -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"step-{step:08d}" / f"{stem}.safetensors")


def differences(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys() and one
    return max((one[key] - other[key]).abs().max().item() for key in one)


def test_the_same_pairs_at_another_path_go_on_exactly(train: Train, pairs_folder: Path, tmp_path: Path) -> None:
    train("whole", 4)
    train("parted", 2)
    shutil.copytree(pairs_folder, tmp_path / "moved")
    said = train("parted", 4, dataset=tmp_path / "moved")
    assert differences(unet(tmp_path / "whole", 4), unet(tmp_path / "parted", 4)) == 0
    assert any("somewhere else than before, and has the same pairs" in line for line in said)


def test_other_pairs_go_on_with_a_word(train: Train, make_pairs: Callable[..., Path], tmp_path: Path) -> None:
    train("out", 2, dataset=make_pairs(tmp_path / "all", 21))
    fewer = make_pairs(tmp_path / "fewer", 19)
    assert any("from step 2 on, the run has other pairs" in line for line in train("out", 3, dataset=fewer))
    assert not any("other pairs" in line for line in train("out", 4, dataset=fewer))


def test_a_run_knows_the_runs_of_the_editor_that_it_began_with(train: Train, tiny_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    for steps, runs in ((1, ["one"]), (2, ["another"])):  # what is there when the run goes on may be another editor
        (base / "training.json").write_text(json.dumps({"runs": runs}))
        train("run", steps, base=base)
        state = tmp_path / "run" / "checkpoints" / f"step-{steps:08d}" / "state.json"
        assert json.loads(state.read_text())["base_runs"] == ["one"]


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"runs": null}', '{"runs": 5}', '{"runs": ["a", 5]}'])
def test_the_record_of_somebody_elses_model_names_no_runs(tmp_path: Path, record: str) -> None:
    (tmp_path / "training.json").write_text(record)
    assert read_runs(str(tmp_path)) == [] == read_runs("someone/editor")
    (tmp_path / "training.json").write_text('{"runs": ["a", "b"]}')
    assert read_runs(str(tmp_path)) == ["a", "b"]


def test_the_same_step_divided_otherwise_is_the_same_step(train: Train, tmp_path: Path) -> None:
    train("whole", 4)
    train("parted", 2)
    said = train("parted", 4, batch=1, accumulation=4)
    assert any("a step takes its 4 pairs as 1 x 4 x 1" in line for line in said)
    assert 0 < differences(unet(tmp_path / "whole", 4), unet(tmp_path / "parted", 4)) < 1e-5


def test_another_step_is_refused(train: Train) -> None:
    train("out", 1)
    with pytest.raises(ConfigError, match=r"took 4 pairs in a step, and would take 8: accumulation=1 \(now 2\)\. Give"):
        train("out", 2, accumulation=2)
    train("boxes", 1, buckets="true")
    with pytest.raises(ConfigError, match=r"has buckets, .* batch=4 \(now 2\), .*Give batch=4"):
        train("boxes", 2, buckets="true", batch=2, accumulation=2)


def test_the_advice_after_divergence_can_be_followed(train: Train, tmp_path: Path) -> None:
    train("out", 1)
    said = train("out", 2, learning_rate=1e-9, ema_decay=0.0, max_grad_norm=0.5)
    for words in (
        "learning_rate=1e-09: it was 0.0001",
        "ema_decay=0.0: it was 0.9999",
        "max_grad_norm=0.5: it was 1.0",
    ):
        assert any(f"from step 1 on, {words}" in line for line in said)
    assert differences(unet(tmp_path / "out", 1), unet(tmp_path / "out", 2)) < 1e-6
    assert differences(unet(tmp_path / "out", 2), unet(tmp_path / "out", 2, "ema-unet")) == 0


def test_another_number_of_processes_is_told() -> None:
    config = FinetuneConfig(batch=8).model_dump(mode="json")
    past, now = State(step=3, samples_a_step=16, config=config), State(samples_a_step=8, config=config)
    told = tell_changes(past, now, processes=1)
    assert told == ["from step 3 on, a step takes 8 pairs (batch x accumulation x processes = 8 x 1 x 1): it took 16"]
    older = past.model_copy(update={"samples_a_step": 0, "samples": 24})
    assert tell_changes(older, now, processes=1) == []
    mixed = FinetuneConfig(batch=8, dataset=({"path": "a", "weight": 2},)).model_dump(mode="json")  # type: ignore[arg-type]
    assert tell_changes(older, now.model_copy(update={"config": mixed}), processes=1) == [
        "from step 3 on, its data sets are mixed by other weights"
    ]


def test_one_run_writes_to_a_folder(tmp_path: Path, pairs_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    config = FinetuneConfig(out=str(out), dataset=str(pairs_folder))
    with claim(config):
        assert main([f"out={out}", f"dataset={pairs_folder}"]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith(f"error: another run is writing to {out}.")
    assert (out / LOCK_FILE).is_file()  # that of a run that is over does not block the next one
    with claim(config):
        with pytest.raises(BusyError), sole_writer(out, file=LOCK_FILE):
            pass


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path, pairs_folder: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("mine")
    with (
        pytest.raises(DataError, match="was not made by ip2p"),
        claim(FinetuneConfig(out=str(tmp_path), dataset=str(pairs_folder))),
    ):
        pass
    inside = FinetuneConfig(out=str(pairs_folder / "run"), dataset=str(pairs_folder))
    with pytest.raises(ConfigError, match="lies in the data set"), claim(inside):
        pass
    assert not (pairs_folder / "run").exists() and len(list(tmp_path.iterdir())) == 1
