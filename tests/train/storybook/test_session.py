"""Sessions: they resume from the last one, and end with the averaged weights."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ip2p.errors import BusyError, ConfigError, TrainingError
from ip2p.ownership import sole_writer
from ip2p.train.run_folder import LOCK_FILE
from ip2p.train.storybook.session import restore_averages, train_session

CPU = torch.device("cpu")


class Line:
    """Learns y = 2x from positions."""

    name = "line"
    batch = 4
    learning_rate = 0.05
    weight_decay = 0.0
    ema_decay = 0.9

    def __init__(self, bad: bool = False) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(1, 1)
        self.modules: dict[str, nn.Module] = {"layer": self.layer}
        self.settings = {"task": self.name}
        self.seen: list[int] = []
        self.bad = bad

    def loss(self, positions: Sequence[int]) -> Tensor:
        self.seen += positions
        x = torch.tensor([[float(position % 7)] for position in positions])
        loss: Tensor = (self.layer(x) - 2 * x).square().mean()
        return loss * float("nan") if self.bad else loss

    def load(self, bundled: Path) -> None:
        self.layer.weight.data.fill_(2)

    def sheet(self) -> Image.Image:
        return Image.new("RGB", (4, 4))


def run(task: Line, folder: Path, steps: int) -> int:
    """Run a session; returns the steps taken so far."""
    return train_session(task, folder, minutes=5.0, steps=steps, device=CPU, precision="fp32", say=lambda _: None).step


def test_a_session_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    first, second = Line(), Line()
    assert run(first, tmp_path, 30) == 30
    assert run(second, tmp_path, 20) == 50
    assert second.seen == list(range(30 * 4, 50 * 4))
    rows = (tmp_path / "line" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 50
    assert sorted(path.name for path in (tmp_path / "line").glob("*.png")) == [
        "sheet-00000030.png",
        "sheet-00000050.png",
    ]


def test_it_learns_and_leaves_the_averages(tmp_path: Path) -> None:
    task, other = Line(), Line()
    run(task, tmp_path, 400)
    assert task.layer.weight.item() == pytest.approx(2, abs=0.05)
    state = restore_averages(other, tmp_path)
    assert state is not None and state.step == 400
    assert torch.equal(other.layer.weight, task.layer.weight) and not other.layer.training


def test_no_state_is_no_averages(tmp_path: Path) -> None:
    assert restore_averages(Line(), tmp_path) is None


def test_another_recipe_is_told(tmp_path: Path) -> None:
    run(Line(), tmp_path, 2)
    other = Line()
    other.settings = {"task": "line", "scenes": 3}
    with pytest.raises(ConfigError, match="scenes"):
        run(other, tmp_path, 2)


def test_a_gradient_that_is_none_stops_the_session(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no finite gradient in 5 steps"):
        run(Line(bad=True), tmp_path, 20)
    assert not (tmp_path / "line" / "checkpoints").exists()


def test_one_session_at_a_time_trains_a_model(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "line", file=LOCK_FILE), pytest.raises(BusyError, match="another run is writing"):
        run(Line(), tmp_path, 2)
    assert run(Line(), tmp_path, 2) == 2


def test_a_session_needs_time_and_steps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="minutes 0 is not above 0"):
        train_session(Line(), tmp_path, minutes=0.0, device=CPU, precision="fp32", say=lambda _: None)
    for steps in (0, -1):
        with pytest.raises(ConfigError, match=f"--steps {steps} is not above 0"):
            run(Line(), tmp_path, steps)
