"""Optimizers: AdamW as in the paper, or Muon for matrices and convolution kernels with AdamW for all other weights.

Muon (Keller Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) makes each update an orthogonal matrix,
so that all directions of a weight move equally, including those that are rare in gradients. The scale 0.2 sqrt(max(out,
in)) gives updates the size of AdamW's (Liu et al., arXiv 2502.16982), so that AdamW's learning rates and decay carry
over. `torch.optim.Muon` takes 2-D weights only and always computes in bf16, which some processors emulate ten times
slower.
"""

import importlib
import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adamw import adamw

from ip2p.errors import ConfigError

# Quintic Newton-Schulz: the steepest slope at zero that still keeps singular values within about 0.7 to 1.2.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
# Convolutions and heads with so few channels (of pictures, latents, classes) are not worth orthogonalizing.
NARROW = 8
ADAMW_NAMES = ("conv_in", "conv_out", "time_emb", "time_proj", "add_embedding", "patch_embedding")


def build_optimizer(
    modules: Mapping[str, nn.Module],
    *,
    name: Literal["muon", "adamw", "adamw8bit"],
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Build one optimizer over the trainable parameters of all modules, each parameter once.

    Args:
        modules: modules by name, such as {"unet": unet, "text_encoder": text_encoder}; their order is that of the
            optimizer's state.
        name: adamw, or muon: Muon for linear weights and convolution kernels, AdamW for conv_in, conv_out, embeddings,
            time projections, norms and biases (of which only conv_in and conv_out decay); or adamw8bit, whose state
            takes two bytes a weight.
        learning_rate: peak learning rate, > 0.
        weight_decay: decoupled weight decay, >= 0.

    Raises:
        ConfigError: adamw8bit is asked for, and bitsandbytes is not installed or cannot work here.
    """
    if name != "muon":
        parameters = [parameter for _, _, parameter in _trainable(modules)]
        if name == "adamw8bit":
            return _eight_bit(parameters, learning_rate=learning_rate, weight_decay=weight_decay)
        return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=_fuses(parameters))
    groups: dict[str, list[nn.Parameter]] = defaultdict(list)
    for path, module, parameter in _trainable(modules):
        groups[_group(path, module, parameter)].append(parameter)
    settings: dict[str, dict[str, object]] = {
        "muon": {"muon": True, "weight_decay": weight_decay},
        "adamw": {"muon": False, "weight_decay": weight_decay},
        "plain": {"muon": False, "weight_decay": 0.0},
    }
    return Muon([{"params": groups[key], **settings[key]} for key in settings if groups[key]], lr=learning_rate)


class Muon(torch.optim.Optimizer):
    """Muon for parameter groups with `muon=True`, and AdamW for the others.

    Args:
        params: parameter groups; each may set muon, lr, weight_decay.
        lr: learning rate of both.
        momentum: Nesterov momentum of Muon.
        steps: Newton-Schulz iterations of Muon.
        betas, eps: coefficients of AdamW.
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "muon": True, "weight_decay": 0.0, "momentum": momentum, "steps": steps}
        super().__init__(params, {**defaults, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                (self._muon if group["muon"] else self._adamw)(group, parameters)
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            gradient = parameter.grad
            assert gradient is not None
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            update = gradient.lerp(state["momentum"], group["momentum"])
            by_shape[tuple(parameter.flatten(1).shape)].append((parameter, update.flatten(1)))
        for (rows, columns), members in by_shape.items():
            updates = orthogonalize(torch.stack([update for _, update in members]), group["steps"])
            scale = 0.2 * max(rows, columns) ** 0.5 * group["lr"]
            for (parameter, _), update in zip(members, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view_as(parameter), alpha=-scale)

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                zeros = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
                self.state[parameter].update(zeros, step=torch.zeros(()))
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalize(matrices: Float[Tensor, "n rows columns"], steps: int = 5) -> Float[Tensor, "n rows columns"]:
    """Approximate U V^T of each matrix U S V^T: singular values move to between 0.7 and 1.2.

    Newton-Schulz iterations X <- a X + (b X X^T + c (X X^T)^2) X, in bf16 where the device multiplies it natively and
    in the given dtype elsewhere.

    Args:
        matrices: matrices, shape (n, rows, columns).
        steps: number of iterations.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    x = x.to(torch.bfloat16) if computes_bf16(matrices.device) else x
    rows, columns = x.shape[1:]
    # Products of rows^3 multiplications: columns / rows, twice, and 1 a step on x; 4 a step on its Gram matrix.
    on_gram = x.dtype == torch.float32 and steps * (2 * columns + rows) > 2 * columns + (4 * steps - 3) * rows
    x = (_iterate_on_gram if on_gram else _iterate)(x, steps).to(matrices.dtype)
    return x.mT if tall else x


def _iterate(x: Float[Tensor, "n rows columns"], steps: int) -> Float[Tensor, "n rows columns"]:
    """Take Newton-Schulz iterations of wide matrices."""
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_on_gram(x: Float[Tensor, "n rows columns"], steps: int) -> Float[Tensor, "n rows columns"]:
    """Take Newton-Schulz iterations of wide matrices in the space of their rows.

    Each iteration multiplies x by a polynomial P of G = X X^T, and G by P twice; all of these commute, so the product
    of the polynomials is found by small square matrices, and x is read twice only. G squares the singular values, so
    this is for fp32: in bf16 rounding would move the small ones.
    """
    a, b, c = NEWTON_SCHULZ
    gram = x @ x.mT
    product = None
    for step in range(steps):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        product = polynomial if product is None else polynomial @ product
        if step < steps - 1:
            gram = polynomial @ gram @ polynomial
    return x if product is None else product @ x


def computes_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 natively, by its features and not by timing: the same in every run."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def _fuses(parameters: Sequence[nn.Parameter]) -> bool:
    """Return whether AdamW has one kernel for a step of these parameters."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)


def _eight_bit(parameters: list[nn.Parameter], **settings: float) -> torch.optim.Optimizer:
    """Build AdamW with 8-bit state.

    Raises:
        ConfigError: bitsandbytes is not installed, or there is no CUDA device.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "optimizer=adamw8bit needs bitsandbytes, which is not installed",
            "Run `pip install 'ip2p[bnb]'`, or give optimizer=adamw",
        )
    if any(parameter.device.type != "cuda" for parameter in parameters):
        raise ConfigError("optimizer=adamw8bit needs an NVIDIA GPU", "Give optimizer=adamw")
    built: torch.optim.Optimizer = importlib.import_module("bitsandbytes").optim.AdamW8bit(
        parameters, lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    return built


def _trainable(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    seen: set[nn.Parameter] = set()
    for root, tree in modules.items():
        for path, module in tree.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad and parameter not in seen:
                    seen.add(parameter)
                    yield f"{root}.{path}.{name}", module, parameter


def _group(path: str, module: nn.Module, parameter: nn.Parameter) -> Literal["muon", "adamw", "plain"]:
    """Return the group of a parameter: muon (matrices and kernels), adamw (those unsuited to Muon), or plain.

    Plain ones, embeddings, norms and biases, are trained by AdamW without weight decay.
    """
    if parameter.ndim < 2 or isinstance(module, nn.Embedding):
        return "plain"
    faces_few = min(parameter.shape[:2]) <= NARROW
    if faces_few or any(name in path for name in ADAMW_NAMES) or not isinstance(module, nn.Linear | nn.Conv2d):
        return "adamw"
    return "muon"
