"""Weights of the loss, against plain formulas written out with numbers."""

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor, nn

from ip2p.diffusion.noise import ForwardProcess
from ip2p.train.objective import TrainingBatch, editing_loss
from ip2p.train.weighting import changed_share, min_snr_weight, pixel_weight

SCHEDULE = {"num_train_timesteps": 100, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


class Constant(nn.Module):
    """Predicts one number everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, noised: Tensor, *_: Tensor) -> Tensor:
        return torch.full_like(noised, self.value)


def batch(count: int, weight: Tensor | None = None) -> TrainingBatch:
    torch.manual_seed(0)
    target, condition, noise = (torch.randn(count, 4, 3, 3) for _ in range(3))
    timesteps = torch.arange(count) * 99 // max(1, count - 1)
    return TrainingBatch(target, condition, torch.zeros(count, 1, dtype=torch.long), noise, timesteps, weight)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("gamma", [1.0, 5.0, 1e9])
def test_min_snr_weights_are_those_of_the_paper(kind: str, gamma: float) -> None:
    scheduler = DDIMScheduler.from_config({**SCHEDULE, "prediction_type": kind})
    process, given = ForwardProcess(scheduler), batch(12)
    plain = editing_loss(Constant(0.3), process, given)
    weighted = editing_loss(Constant(0.3), process, given, min_snr_gamma=gamma)
    for row, timestep in enumerate(given.timesteps):
        snr = compute_snr(process.scheduler, timestep[None]).item()
        expected = min(snr, gamma) / {"epsilon": snr, "v_prediction": snr + 1, "sample": 1}[kind]
        assert (weighted[row] / plain[row]).item() == pytest.approx(expected, rel=1e-4)


def test_without_a_gamma_or_weights_the_loss_is_the_papers_to_the_bit() -> None:
    process, given = ForwardProcess(DDIMScheduler.from_config(SCHEDULE)), batch(5)
    plain = ((0.3 - given.noise) ** 2).flatten(1).mean(1)
    assert torch.equal(editing_loss(Constant(0.3), process, given), plain)


@pytest.mark.parametrize(("kind", "gamma"), [("v_prediction", 5.0), ("epsilon", 5.0)])
def test_a_timestep_without_noise_or_without_signal_has_a_finite_weight(kind: str, gamma: float) -> None:
    alphas = torch.tensor([1.0, 0.5, 0.0])
    weights = min_snr_weight(alphas, torch.tensor([0, 1]), gamma=gamma, prediction_type=kind)
    assert weights.isfinite().all() and weights[0] == 0
    assert min_snr_weight(alphas, torch.tensor([2]), gamma=gamma, prediction_type="v_prediction") == 0


def test_changed_pixels_are_measured_in_one_scale() -> None:
    original, change = torch.randn(2, 4, 3, 3), torch.zeros(2, 4, 3, 3)
    change[0, :, 1, 2], change[0, :, 0, 0] = 2.0, -0.5  # the second pair is equal
    edited = (original + change - 0.1) * 0.18
    changed = changed_share(original, edited, scale=0.18, shift=0.1)
    assert changed[0, 0, 1, 2] == 1 and changed[0, 0, 0, 0] == pytest.approx(0.25, abs=1e-4)
    assert changed[0].sum() == pytest.approx(1.25, abs=1e-4)
    assert (changed_share(original, original.clone(), scale=1.0, shift=0.0) == 0).all()


def test_weighted_pixels_enter_the_loss_as_a_weighted_mean() -> None:
    changed = torch.zeros(2, 1, 3, 3)
    changed[0, 0, 0, :2] = 1.0
    weight = pixel_weight(changed, 4.0)
    process, given = ForwardProcess(DDIMScheduler.from_config(SCHEDULE)), batch(2, weight)
    losses = editing_loss(Constant(0.3), process, given)
    squares = ((0.3 - given.noise) ** 2).mean(1)
    factors = torch.tensor([[5.0, 5, 1], [1, 1, 1], [1, 1, 1]])
    assert losses[0].item() == pytest.approx(((factors * squares[0]).sum() / factors.sum()).item(), rel=1e-5)
    assert losses[1].item() == pytest.approx(squares[1].mean().item(), rel=1e-5)
