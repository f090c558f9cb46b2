"""The training loop, once for everything that is trained: the editor, and the models of the storybook world.

A step is: the learning rate of the schedule, micro-batches forward and backward, a clipped gradient, the optimizer, the
moving averages; then the count, the same on all ranks, a row of metrics, and now and then a checkpoint. What is
trained, on what and how long, a subclass says.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ip2p.errors import TrainingError
from ip2p.progress import TrainingProgress
from ip2p.train.batches import positions
from ip2p.train.checkpoint import Checkpoint, State, save_checkpoint
from ip2p.train.learner import Learner, trainable
from ip2p.train.metrics import Metrics
from ip2p.train.schedule import Clock

PATIENCE = 5  # steps in a row without a finite gradient, before the run stops
PATIENCE_SCALED = 25  # in fp16 the first ones only search the scale of the loss


class Step(NamedTuple):
    """What a step saw: mean loss of this rank's samples, norm of the gradient of all, and whether the weights moved."""

    loss: float
    norm: float
    moved: bool


class Plan(NamedTuple):
    """The numbers of a loop.

    Args:
        learning_rate: peak learning rate.
        batch: samples in a micro-batch of one rank.
        accumulation: micro-batches in a step.
        max_grad_norm: norm that the gradient is clipped to; 0 clips nothing.
        keep_checkpoints: newest checkpoints that stay.
    """

    learning_rate: float
    batch: int
    accumulation: int = 1
    max_grad_norm: float = 1.0
    keep_checkpoints: int = 2


class TrainingLoop(ABC):
    """What is being trained, moved forward step by step.

    Args:
        out: folder of checkpoints and metrics.
        plan: numbers of the loop.
        learner: what learns.
        state: step, samples and seconds so far, the dtype, and what a checkpoint keeps besides.
        accelerator: precision, gradient scaling and ranks.
        progress: shows how far it is.

    Attributes:
        stopped: whether a signal asked some rank to stop.
    """

    def __init__(
        self,
        out: Path,
        plan: Plan,
        learner: Learner,
        state: State,
        accelerator: Accelerator,
        progress: TrainingProgress,
    ) -> None:
        self.out, self.plan, self.learner, self.state = out, plan, learner, state
        self.accelerator, self.progress = accelerator, progress
        self.metrics = Metrics(out / "metrics.jsonl", step=state.step, active=accelerator.is_main_process)
        self.optimizer = accelerator.prepare(learner.optimizer)
        self.clock, self.stopped, self.bad_steps = Clock(), False, 0
        self.earlier = self.saved = state.seconds
        modules = nn.ModuleList(learner.modules.values())
        self.parameters = list(trainable(modules).values())

    @property
    @abstractmethod
    def done(self) -> float:
        """Part of the run that is done, 0 to 1, by what all ranks agreed on last."""

    @property
    @abstractmethod
    def learning_rate_factor(self) -> float:
        """Learning rate of the next step, as a part of its peak."""

    @abstractmethod
    def loss(self, taken: Sequence[int]) -> Tensor:
        """Mean loss of the samples at these positions of the run, a scalar."""

    def step(self) -> Step:
        """One step of the optimizer, over all micro-batches of this rank."""
        plan, accelerator = self.plan, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = plan.learning_rate * self.learning_rate_factor
        losses = []
        for taken in positions(
            self.state.samples, batch=plan.batch, accumulation=plan.accumulation,
            rank=accelerator.process_index, ranks=accelerator.num_processes,
        ):  # fmt: skip
            with accelerator.accumulate(*self.synchronised):
                with accelerator.autocast():
                    loss = self.loss(taken)
                accelerator.backward(loss)
            losses.append(loss.detach())
        norm = accelerator.clip_grad_norm_(self.parameters, plan.max_grad_norm or math.inf).item()
        moved = math.isfinite(norm)
        if moved or accelerator.scaler is not None:
            # A scaler refuses a step that is not finite by itself, and must see it to find its scale.
            self.optimizer.step()
        if moved:
            self.learner.follow()
        self.optimizer.zero_grad()
        return Step(torch.stack(losses).mean().item(), norm, moved)

    @property
    def synchronised(self) -> Sequence[nn.Module]:
        """Modules whose gradients the ranks share, as accelerate has wrapped them."""
        return ()

    def advance(self, taken: Step, signal_number: int) -> None:
        """Count a step, the same on all ranks, and record it.

        Raises:
            TrainingError: the gradient was not finite, once more than patience allows.
        """
        state, plan = self.state, self.plan
        loss, seconds, stop = self._over_ranks(taken.loss, self.earlier + self.clock.seconds, float(signal_number))
        self.stopped = stop > 0
        samples = state.samples + plan.batch * plan.accumulation * self.accelerator.num_processes
        counted = {
            "step": state.step + 1, "updates": state.updates + taken.moved, "samples": samples, "seconds": seconds
        }  # fmt: skip
        self.state = state.model_copy(update=counted)
        row = {"step": self.state.step, "samples": samples, "loss": loss, "gradient_norm": taken.norm}
        row |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "seconds": round(seconds, 2)}
        self.metrics.write(**row)
        self.progress.show(step=self.state.step, samples=samples, loss=loss, done=self.done)
        self.accelerator.log(row, step=self.state.step)
        self._check_patience(taken)

    def save(self) -> None:
        """Write a checkpoint, on one rank; the others wait."""
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = self.state.model_copy(update={"loss_scale": scaler.get_scale() if scaler is not None else None})
            checkpoint = Checkpoint(state, self.learner.weights(), self.learner.optimizer.state_dict())
            save_checkpoint(self.out / "checkpoints", checkpoint, keep=self.plan.keep_checkpoints)
        self.saved = self.state.seconds
        self.accelerator.wait_for_everyone()

    def _over_ranks(self, loss: float, seconds: float, stop: float) -> tuple[float, float, float]:
        """Mean loss, longest time, and any signal, so that all ranks decide alike."""
        if self.accelerator.num_processes == 1:
            return loss, seconds, stop
        own = torch.tensor([[loss, seconds, stop]], device=self.accelerator.device)
        table = self.accelerator.gather(own)
        return table[:, 0].mean().item(), table[:, 1].amax().item(), table[:, 2].amax().item()

    def _check_patience(self, taken: Step) -> None:
        """Count steps in a row whose gradient was not finite, up to where patience ends."""
        self.bad_steps = 0 if taken.moved else self.bad_steps + 1
        if not self.bad_steps:
            return
        patience = PATIENCE if self.accelerator.scaler is None else PATIENCE_SCALED
        step = self.state.step
        self.progress.say(
            f"step {step}: loss {taken.loss}, gradient {taken.norm}: not finite, left out ({self.bad_steps} in a row)"
        )
        if self.bad_steps >= patience:
            raise TrainingError(
                f"no finite gradient in {self.bad_steps} steps up to step {step} ({self.state.precision})",
                f"Start again with a lower learning_rate or precision=fp32; the last good weights are in {self.out}",
            )
