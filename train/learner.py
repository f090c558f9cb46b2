"""Modules with their moving averages and their optimizer, saved and restored together."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from ip2p.errors import TrainingError
from ip2p.train.checkpoint import Checkpoint


@dataclass
class Learner:
    """Modules in training.

    Attributes:
        modules: modules by name.
        averages: exponential moving average of the trainable weights of each module, by name.
        optimizer: optimizer of the trainable weights of all modules.
    """

    modules: dict[str, nn.Module]
    averages: dict[str, EMAModel]
    optimizer: torch.optim.Optimizer

    @classmethod
    def create(
        cls,
        modules: dict[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        *,
        ema_decay: float,
        ema_device: torch.device | None = None,
    ) -> "Learner":
        """Make a learner whose averages start as the weights.

        Args:
            modules: modules by name.
            optimizer: optimizer of their trainable weights.
            ema_decay: largest decay of the averages; after n steps it is min(ema_decay, (1 + n) / (10 + n)).
            ema_device: device that keeps the averages; None for that of the weights.
        """
        averages = {
            name: EMAModel(trainable(module).values(), decay=ema_decay, foreach=True)
            for name, module in modules.items()
        }
        if ema_device is not None:
            for average in averages.values():
                average.to(device=ema_device)
        return cls(modules, averages, optimizer)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Return the trainable weights and their averages, without copying, by file stem and parameter name."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, module in self.modules.items():
            parameters = trainable(module)
            found[name] = {key: parameter.detach() for key, parameter in parameters.items()}
            found[f"ema-{name}"] = dict(zip(parameters, self.averages[name].shadow_params, strict=True))
        return found

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore weights, averages and optimizer from a checkpoint, exactly.

        Raises:
            TrainingError: its tensors are not those that are trained.
        """
        own = self.weights()
        for stem, tensors in own.items():
            saved = checkpoint.weights.get(stem, {})
            for key, tensor in tensors.items():
                if key not in saved or saved[key].shape != tensor.shape:
                    found = f"has the shape {tuple(saved[key].shape)}" if key in saved else "is missing"
                    raise TrainingError(
                        f"the checkpoint of step {checkpoint.state.step} does not fit the model: {key} of {stem} "
                        f"{found}, and {tuple(tensor.shape)} is trained",
                        "Give the base model that the run began with, or another out= to begin anew",
                    )
        with torch.no_grad():
            for stem, tensors in own.items():
                for key, tensor in tensors.items():
                    tensor.copy_(checkpoint.weights[stem][key])
        self.optimizer.load_state_dict(checkpoint.optimizer)
        for average in self.averages.values():
            average.optimization_step = checkpoint.state.updates

    def update_averages(self) -> None:
        """Update the moving averages after an optimizer step."""
        for name, module in self.modules.items():
            self.averages[name].step(_beside(trainable(module).values(), self.averages[name].shadow_params))

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Swap the averaged weights into the modules inside this context."""
        for name, module in self.modules.items():
            self.averages[name].store(trainable(module).values())
            self.averages[name].copy_to(trainable(module).values())
        try:
            yield
        finally:
            for name, module in self.modules.items():
                self.averages[name].restore(trainable(module).values())


def _beside(parameters: Iterable[nn.Parameter], averages: Sequence[Tensor]) -> list[nn.Parameter]:
    """Return the parameters on the devices of their averages: themselves, or copies where these are kept elsewhere."""
    return [
        parameter if parameter.device == average.device else nn.Parameter(parameter.detach().to(average.device))
        for parameter, average in zip(parameters, averages, strict=True)
    ]


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require gradients, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
