"""Moving averages, their values and where they are kept; and checkpoints that do not fit."""

import copy

import pytest
import torch
from torch import nn

from ip2p.errors import TrainingError
from ip2p.train.checkpoint import Checkpoint, State
from ip2p.train.learner import Learner
from ip2p.train.optimizer import build_optimizer


def learner(ema_device: torch.device | None) -> Learner:
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {"net": nn.Linear(3, 2)}
    optimizer = build_optimizer(modules, name="adamw", learning_rate=0.1, weight_decay=0.0)
    return Learner.create(modules, optimizer, ema_decay=0.5, ema_device=ema_device)


def test_averages_on_the_cpu_are_those_beside_the_weights() -> None:
    both = [learner(None), learner(torch.device("cpu"))]
    expected = copy.deepcopy(both[0].modules["net"].weight.detach())
    for step in range(1, 6):
        for each in both:
            each.modules["net"](torch.ones(1, 3)).sum().backward()
            each.optimizer.step()
            each.optimizer.zero_grad()
            each.update_averages()
        decay = min(0.5, step / (9 + step)) if step > 1 else 0.0
        expected = decay * expected + (1 - decay) * both[0].modules["net"].weight.detach()
    averages = [each.averages["net"].shadow_params[0] for each in both]
    torch.testing.assert_close(averages[0], expected)
    assert torch.equal(*averages) and averages[1].device.type == "cpu"


def test_averaged_weights_are_swapped_in_and_out() -> None:
    apart = learner(torch.device("cpu"))
    weight = apart.modules["net"].weight
    first = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1)
    with apart.averaged_weights():
        assert torch.equal(weight, first)
    assert torch.equal(weight, first + 1)


@pytest.mark.parametrize(
    ("saved", "words"), [({}, "is missing"), ({"weight": torch.ones(2, 4)}, r"has the shape .2, 4")]
)
def test_a_checkpoint_of_another_model_is_told_and_changes_nothing(saved: dict[str, torch.Tensor], words: str) -> None:
    own = learner(None)
    before = own.modules["net"].weight.detach().clone()
    with pytest.raises(TrainingError, match=f"weight of net {words}.*base model that the run began with"):
        own.restore(Checkpoint(State(step=3), {"net": saved, "ema-net": saved}, {}))
    assert torch.equal(own.modules["net"].weight, before)
