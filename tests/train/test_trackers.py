"""Trackers get every figure of a run, are checked before it, and cost it nothing when they fail."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, on_main_process
from accelerate.utils import is_tensorboard_available

from ip2p.config import load_config
from ip2p.errors import ConfigError
from ip2p.train.config import FinetuneConfig
from ip2p.train.fit import fit
from ip2p.train.metrics import read_metrics
from ip2p.train.trackers import flat_settings, require_tracker, start_tracker, tracker_log


class FileTracker(GeneralTracker):
    """Writes what it is told to a file."""

    name = "to-file"
    requires_logging_directory = True

    def __init__(self, run_name: str, logging_dir: str, **_: Any) -> None:
        super().__init__()
        self.path = Path(logging_dir) / "tracked.jsonl"

    @property
    def tracker(self) -> Path:
        return self.path

    @on_main_process
    def start(self) -> None:
        self._write({"started": True})

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        assert all(isinstance(value, str | int | float | bool) for value in values.values())
        self._write(values)

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self._write({"step": step, **values})

    def _write(self, row: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


@pytest.fixture
def settings(tiny_base: Path, pairs_folder: Path, tmp_path: Path) -> list[str]:
    chosen = {
        "base": tiny_base, "dataset": pairs_folder, "out": tmp_path / "run", "steps": 2, "batch": 2, "size": 32,
        "minutes": "null", "precision": "fp32", "threads": 1, "train_text_encoder": "false", "cache_latents": "false",
        "optimizer": "adamw",
    }  # fmt: skip
    return [f"{key}={value}" for key, value in chosen.items()]


def run(settings: list[str], *more: str) -> None:
    fit(load_config(FinetuneConfig, "storybook_finetune.yaml", [*settings, *more]), say=lambda _: None)


def test_a_tracker_gets_the_settings_and_every_figure(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "to-file", FileTracker)
    run(settings, "report_to=to-file")
    rows = [json.loads(line) for line in (tmp_path / "run" / "tracked.jsonl").read_text().splitlines()]
    assert rows[1]["steps"] == 2 and rows[1]["seed"] == 0
    told: dict[int, dict[str, Any]] = {}
    for row in rows[2:]:
        told.setdefault(row["step"], {}).update(row)
    for row in read_metrics(tmp_path / "run" / "metrics.jsonl"):
        for name in ("validation_seconds", "held_out_pairs"):  # nothing to draw a curve of
            row.pop(name, None)
        assert row.items() <= told[int(row["step"])].items()
    assert {"held_out_loss"} <= told[0].keys() and {"held_out_loss", "loss", "samples_per_second"} <= told[2].keys()


@pytest.mark.skipif(not is_tensorboard_available(), reason="tensorboard is not installed")
def test_tensorboard_writes_events(settings: list[str], tmp_path: Path) -> None:
    run(settings, "report_to=tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "ip2p-finetune"))
    events.Reload()
    assert {"loss", "held_out_loss", "samples_per_second"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [1, 2]


def test_a_tracker_that_cannot_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "to-file", FileTracker)
    (tmp_path / "tracked.jsonl").mkdir()
    accelerator = Accelerator(cpu=True, log_with="to-file", project_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="report_to=to-file cannot start"):
        start_tracker(accelerator, FinetuneConfig(report_to="to-file", out=str(tmp_path)))


def test_a_tracker_that_fails_is_told_once_and_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "to-file", FileTracker)
    accelerator = Accelerator(cpu=True, log_with="to-file", project_dir=str(tmp_path))
    start_tracker(accelerator, FinetuneConfig(report_to="to-file", out=str(tmp_path)))
    said: list[str] = []
    log = tracker_log(accelerator, said.append)
    log({"loss": 1.0}, 1)
    log({"loss": torch.nn.Identity()}, 2)
    log({"loss": 3.0}, 3)
    assert len(said) == 1 and "step 2" in said[0] and "metrics.jsonl" in said[0]


def test_settings_are_numbers_and_texts() -> None:
    flat = flat_settings(FinetuneConfig(blocks=("attn2",), minutes=None))
    assert flat["blocks"] == "['attn2']" and flat["minutes"] == "None" and flat["batch"] == 32


def test_unknown_trackers_are_refused_and_registered_ones_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no tracker that accelerate knows"):
        require_tracker("to-file", {})
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "to-file", FileTracker)
    require_tracker("to-file", {})
    require_tracker("none", {})
