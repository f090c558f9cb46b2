"""What learns: modules, their moving averages and the optimizer, as one thing that is saved, restored and swapped."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from ip2p.train.checkpoint import Checkpoint


@dataclass
class Learner:
    """Modules by name, an exponential moving average for each, one optimizer for all."""

    modules: dict[str, nn.Module]
    averages: dict[str, EMAModel]
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, *, ema_decay: float) -> "Learner":
        """Averages start as the weights; their decay grows as min(ema_decay, (1 + n) / (10 + n)) after n steps."""
        averages = {
            name: EMAModel(trainable(module).values(), decay=ema_decay, foreach=True)
            for name, module in modules.items()
        }
        return cls(modules, averages, optimizer)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Trainable weights and their averages (not copies), by file stem and parameter name."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, module in self.modules.items():
            parameters = trainable(module)
            found[name] = {key: parameter.detach() for key, parameter in parameters.items()}
            found[f"ema-{name}"] = dict(zip(parameters, self.averages[name].shadow_params, strict=True))
        return found

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint, exactly."""
        own = self.weights()
        with torch.no_grad():
            for stem, tensors in own.items():
                for key, tensor in tensors.items():
                    tensor.copy_(checkpoint.weights[stem][key])
        self.optimizer.load_state_dict(checkpoint.optimizer)
        for average in self.averages.values():
            average.optimization_step = checkpoint.state.updates

    def follow(self) -> None:
        """Let the averages follow the weights by one step."""
        for name, module in self.modules.items():
            self.averages[name].step(trainable(module).values())

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the modules carry their averages; after it, their own weights again."""
        for name, module in self.modules.items():
            self.averages[name].store(trainable(module).values())
            self.averages[name].copy_to(trainable(module).values())
        try:
            yield
        finally:
            for name, module in self.modules.items():
                self.averages[name].restore(trainable(module).values())


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that learn, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
