"""The objective: dropped conditions, targets, and the independent randomness of each sample."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from ip2p.diffusion.noise import ForwardProcess
from ip2p.errors import ModelError
from ip2p.train.objective import (
    EditingModel,
    Latents,
    TrainingBatch,
    draw_randomness,
    drop_conditions,
    editing_loss,
    make_training_batch,
)  # fmt: skip

SCHEDULE = {"num_train_timesteps": 100, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def tokenize(texts: Sequence[str]) -> Tensor:
    return torch.tensor([[len(text)] for text in texts])


def test_five_percent_each_from_one_draw() -> None:
    dropped = drop_conditions(torch.linspace(0, 1, 100_001)[:-1], 0.05)
    shares = {
        "text only": (dropped.text & ~dropped.image).float().mean(),
        "both": (dropped.text & dropped.image).float().mean(),
        "image only": (~dropped.text & dropped.image).float().mean(),
    }
    assert all(share.item() == pytest.approx(0.05, abs=2e-4) for share in shares.values()), shares


def test_drawn_samples_drop_five_percent_each() -> None:
    uniform = draw_randomness(generators(*range(6000)), (1, 1, 1), 10).uniform
    dropped = drop_conditions(uniform, 0.05)
    for share in (dropped.text & ~dropped.image, dropped.text & dropped.image, ~dropped.text & dropped.image):
        assert share.float().mean().item() == pytest.approx(0.05, abs=0.012)


def test_a_sample_draws_alike_in_any_batch() -> None:
    together, alone = (
        draw_randomness(generators(1, 2, 3), (4, 2, 2), 100),
        draw_randomness(generators(2), (4, 2, 2), 100),
    )
    assert all(torch.equal(whole[1:2], single) for whole, single in zip(together, alone, strict=True))
    assert not torch.equal(together.noise[0], together.noise[1])


def test_dropped_text_is_the_empty_prompt_and_dropped_image_a_zero_latent() -> None:
    latents = Latents(*(torch.randn(3, 4, 2, 2, generator=g) for g in generators(1, 2, 3)))
    draws = draw_randomness(generators(5, 6, 7), (4, 2, 2), 100)._replace(uniform=torch.tensor([0.04, 0.06, 0.9]))
    batch = make_training_batch(["a", "bb", "ccc"], latents, draws, drop=0.05, tokenize=tokenize)
    assert batch.tokens.flatten().tolist() == [0, 0, 3]
    assert torch.equal(batch.condition[0], latents.condition[0]) and torch.equal(
        batch.condition[2], latents.condition[2]
    )
    assert not batch.condition[1].any()
    assert torch.equal(batch.target, latents.mean + latents.std * draws.posterior)


class Perfect(nn.Module):
    """Returns a given prediction."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *_: Tensor) -> Tensor:
        return self.answer


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_target_follows_the_prediction_type(kind: str) -> None:
    process = ForwardProcess(DDIMScheduler.from_config({**SCHEDULE, "prediction_type": kind}))
    target, noise, condition = (torch.randn(2, 4, 3, 3, generator=g) for g in generators(1, 2, 3))
    timesteps = torch.tensor([3, 90])
    alpha = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 100) ** 2, 0)[timesteps].view(2, 1, 1, 1)
    answers = {"epsilon": noise, "sample": target, "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * target}
    batch = TrainingBatch(target, condition, torch.zeros(2, 1, dtype=torch.long), noise, timesteps)
    assert editing_loss(Perfect(answers[kind]), process, batch).max() < 1e-10
    assert editing_loss(Perfect(answers[kind] + 2), process, batch).tolist() == pytest.approx([4, 4], abs=1e-4)


def test_other_prediction_types_are_refused() -> None:
    with pytest.raises(ModelError, match="FlowMatchEuler"):
        ForwardProcess(FlowMatchEulerDiscreteScheduler())


def test_noise_is_added_as_diffusers_adds_it() -> None:
    scheduler = DDIMScheduler.from_config(SCHEDULE)
    target, noise = (torch.randn(2, 4, 3, 3, generator=g) for g in generators(1, 2))
    timesteps = torch.tensor([0, 99])
    expected = scheduler.add_noise(target, noise, timesteps)
    torch.testing.assert_close(ForwardProcess(scheduler).add_noise(target, noise, timesteps), expected)


@pytest.mark.parametrize("trains", [True, False])
def test_the_text_encoder_learns_only_where_asked(trains: bool) -> None:
    class Encoder(nn.Embedding):
        def forward(self, tokens: Tensor) -> tuple[Tensor]:  # type: ignore[override]
            return (super().forward(tokens),)

    class Unet(nn.Conv2d):
        def forward(self, x: Tensor, timesteps: Tensor, encoder_hidden_states: Tensor) -> SimpleNamespace:  # type: ignore[override]
            return SimpleNamespace(sample=super().forward(x) * encoder_hidden_states.mean())

    model = EditingModel(Unet(8, 4, 1), Encoder(5, 4).requires_grad_(trains))
    x = torch.ones(1, 4, 2, 2)
    model(x, torch.zeros(1, dtype=torch.long), x, torch.zeros(1, 3, dtype=torch.long)).sum().backward()
    assert (model.text_encoder.weight.grad is not None) == trains
    assert model.unet.weight.grad is not None


def test_offset_noise_moves_whole_channels_and_changes_no_other_draw() -> None:
    plain, offset = (
        draw_randomness(generators(*range(400)), (4, 5, 5), 100, noise_offset=share) for share in (0.0, 0.5)
    )
    assert all(
        torch.equal(getattr(plain, name), getattr(offset, name)) for name in ("uniform", "timesteps", "posterior")
    )
    difference = (offset.noise - plain.noise) / 0.5
    assert difference.var(dim=(2, 3)).max() < 1e-10  # one number for each channel of each sample
    means = difference.mean(dim=(2, 3))
    assert means.mean().item() == pytest.approx(0, abs=0.1) and means.std().item() == pytest.approx(1, abs=0.1)
