"""Muon: orthogonalization, parameter groups, saved state, and learning."""

import pytest
import torch
from torch import nn

from ip2p.train.optimizer import NEWTON_SCHULZ, Muon, _iterate_on_gram, build_optimizer, orthogonalize


def network() -> nn.Sequential:
    """Make a small network with all kinds of parameters."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 32, 3, padding=1), nn.Flatten(),
        nn.Linear(32 * 16, 12),
    )  # fmt: skip


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 3, 4, 4, generator=generator)
        target = x.flatten(1)[:, :12] * 2
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("shape", [(2, 16, 16), (3, 12, 40), (1, 40, 12)])
def test_orthogonalise_evens_out_the_singular_values_and_keeps_directions(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    result = orthogonalize(matrices)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5 and values.max() < 1.35
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    exact = u @ v
    assert torch.nn.functional.cosine_similarity(result.flatten(1), exact.flatten(1)).min() > 0.97


@pytest.mark.parametrize("smallest", [-1.0, -6.0, -10.0])
def test_wide_matrices_become_what_plain_iterations_make_of_them(smallest: float) -> None:
    generator = torch.Generator().manual_seed(2)
    rows = torch.linalg.qr(torch.randn(2, 24, 24, generator=generator, dtype=torch.float64)).Q
    columns = torch.linalg.qr(torch.randn(2, 216, 24, generator=generator, dtype=torch.float64)).Q
    matrices = (rows * torch.logspace(0, smallest, 24, dtype=torch.float64)) @ columns.mT
    a, b, c = NEWTON_SCHULZ
    plain = matrices / matrices.norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        gram = plain @ plain.mT
        plain = a * plain + (b * gram + c * gram @ gram) @ plain
    scaled = matrices / matrices.norm(dim=(1, 2), keepdim=True)
    result = _iterate_on_gram(scaled.float(), 5).double()
    assert (result - plain).norm() / plain.norm() < 1e-3


def test_matrices_and_kernels_go_to_muon_and_the_rest_to_adamw() -> None:
    model = network()
    optimizer = build_optimizer({"model": model}, name="muon", learning_rate=1e-3, weight_decay=0.1)
    groups = {("muon" if g["muon"] else "adamw", g["weight_decay"]): {id(p) for p in g["params"]}
              for g in optimizer.param_groups}  # fmt: skip
    assert groups["muon", 0.1] == {id(model[3].weight), id(model[5].weight)}
    assert groups["adamw", 0.1] == {id(model[0].weight)}
    assert len(groups["adamw", 0.0]) == 5
    assert sum(map(len, groups.values())) == len(list(model.parameters()))


def test_frozen_and_shared_parameters() -> None:
    model = network()
    model[5].weight.requires_grad_(False)
    optimizer = build_optimizer({"one": model, "again": model}, name="muon", learning_rate=1e-3, weight_decay=0.0)
    taken = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(taken) == len({id(p) for p in taken}) == len(list(model.parameters())) - 1


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_it_learns(name: str) -> None:
    model = network()
    losses = train(model, build_optimizer({"m": model}, name=name, learning_rate=5e-3, weight_decay=0.0), range(60))  # type: ignore[arg-type]
    assert losses[-1] < 0.5 * losses[0]


def test_going_on_from_saved_state_is_exact() -> None:
    whole = network()
    optimizer = build_optimizer({"m": whole}, name="muon", learning_rate=1e-3, weight_decay=0.01)
    expected = train(whole, optimizer, range(6))

    first = network()
    optimizer = build_optimizer({"m": first}, name="muon", learning_rate=1e-3, weight_decay=0.01)
    train(first, optimizer, range(3))
    second = network()
    second.load_state_dict(first.state_dict())
    restored = build_optimizer({"m": second}, name="muon", learning_rate=1e-3, weight_decay=0.01)
    restored.load_state_dict(optimizer.state_dict())
    assert train(second, restored, range(3, 6)) == expected[3:]
    assert all(torch.equal(a, b) for a, b in zip(second.parameters(), whole.parameters(), strict=True))


def test_a_step_is_as_large_as_adamws() -> None:
    weight = nn.Parameter(torch.zeros(64, 32))
    weight.grad = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    Muon([{"params": [weight]}], lr=1.0).step()
    assert 0.1 < weight.square().mean().sqrt() < 0.4
