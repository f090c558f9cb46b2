"""The training loop that the editor and the storybook models share.

A step sets the learning rate, runs micro-batches forward and backward, clips the gradient, and updates the weights and
their moving averages. Then the progress is counted, the same on all ranks, and written to the metrics. Subclasses
define the loss, the duration and the learning rate schedule.
"""

import math
import time
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
from ip2p.train.trackers import tracker_log

PATIENCE = 5  # steps in a row without a finite gradient before the run stops
PATIENCE_SCALED = 25  # the same in fp16, whose first steps only search for the scale of the loss


class StepResult(NamedTuple):
    """The outcome of an optimizer step.

    Attributes:
        loss: mean loss of this rank's samples.
        norm: norm of the gradient over all ranks, before clipping.
        moved: whether the gradient was finite, so that the weights moved.
    """

    loss: float
    norm: float
    moved: bool


class Hyperparameters(NamedTuple):
    """Hyperparameters of a training loop.

    Attributes:
        learning_rate: peak learning rate.
        batch: samples in a micro-batch of one rank.
        accumulation: micro-batches in an optimizer step.
        max_grad_norm: norm to which the gradient is clipped; 0 for no clipping.
        keep_checkpoints: number of newest checkpoints to keep.
    """

    learning_rate: float
    batch: int
    accumulation: int = 1
    max_grad_norm: float = 1.0
    keep_checkpoints: int = 2


class TrainingLoop(ABC):
    """A training loop that is moved forward step by step.

    Args:
        out: folder of checkpoints and metrics.
        hyperparameters: hyperparameters of the loop.
        learner: modules, moving averages and optimizer.
        state: progress of the run.
        accelerator: accelerator, which handles precision, gradient scaling and ranks.
        progress: progress display.

    Attributes:
        stopped: whether some rank received a signal to stop.
        stop_signal: number of that signal, the same on all ranks; 0 without one.
        step_seconds: duration of the last step.
    """

    def __init__(
        self,
        out: Path,
        hyperparameters: Hyperparameters,
        learner: Learner,
        state: State,
        accelerator: Accelerator,
        progress: TrainingProgress,
    ) -> None:
        self.out, self.hyperparameters, self.learner, self.state = out, hyperparameters, learner, state
        self.accelerator, self.progress = accelerator, progress
        self.metrics = Metrics(out / "metrics.jsonl", step=state.step, active=accelerator.is_main_process)
        self.optimizer = accelerator.prepare(learner.optimizer)
        self.log = tracker_log(accelerator, progress.say)
        self.clock, self.stopped, self.stop_signal, self.bad_steps = Clock(), False, 0, 0
        self.step_seconds = 0.0
        self.earlier = self.saved = state.seconds
        modules = nn.ModuleList(learner.modules.values())
        self.parameters = list(trainable(modules).values())

    @property
    @abstractmethod
    def done(self) -> float:
        """Share of the run that is done, 0 to 1; the same on all ranks."""

    @property
    @abstractmethod
    def learning_rate_factor(self) -> float:
        """Learning rate of the next step, as a share of its peak."""

    @abstractmethod
    def loss(self, taken: Sequence[int]) -> Tensor:
        """Return the mean loss of the samples at these positions of the run, a scalar."""

    def step(self) -> StepResult:
        """Take one optimizer step over all micro-batches of this rank."""
        hyperparameters, accelerator = self.hyperparameters, self.accelerator
        began = time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = hyperparameters.learning_rate * self.learning_rate_factor
        losses = []
        for taken in positions(
            self.state.samples, batch=hyperparameters.batch, accumulation=hyperparameters.accumulation,
            rank=accelerator.process_index, ranks=accelerator.num_processes,
        ):  # fmt: skip
            with accelerator.accumulate(*self.synchronized_modules):
                with accelerator.autocast():
                    loss = self.loss(taken)
                accelerator.backward(loss)
            losses.append(loss.detach())
        clipped = accelerator.clip_grad_norm_(self.parameters, hyperparameters.max_grad_norm or math.inf)
        loss, norm = torch.stack([torch.stack(losses).mean(), clipped]).tolist()  # the only wait for a GPU in a step
        moved = math.isfinite(norm)
        if moved or accelerator.scaler is not None:
            # A gradient scaler skips a step that is not finite itself, and must see it to adapt its scale.
            self.optimizer.step()
        if moved:
            self.learner.update_averages()
        self.optimizer.zero_grad()
        self.step_seconds = time.monotonic() - began
        return StepResult(loss, norm, moved)

    @property
    def synchronized_modules(self) -> Sequence[nn.Module]:
        """Modules whose gradients are averaged over the ranks, as wrapped by accelerate."""
        return ()

    @property
    def figures(self) -> dict[str, float]:
        """Further figures of the step that was just taken, by name, for the metrics."""
        return {}

    def advance(self, taken: StepResult, signal_number: int) -> None:
        """Count a step, the same on all ranks, and write its metrics.

        Args:
            taken: outcome of the step on this rank.
            signal_number: number of the signal that this rank received; 0 for none.

        Raises:
            TrainingError: the gradient was not finite for several steps in a row.
        """
        state, hyperparameters = self.state, self.hyperparameters
        loss, seconds, stop = self._over_ranks(taken.loss, self.earlier + self.clock.seconds, float(signal_number))
        self.stopped, self.stop_signal = stop > 0, int(stop)
        samples = state.samples + hyperparameters.batch * hyperparameters.accumulation * self.accelerator.num_processes
        counted = {
            "step": state.step + 1, "updates": state.updates + taken.moved, "samples": samples, "seconds": seconds
        }  # fmt: skip
        self.state = state.model_copy(update=counted)
        row = {"step": self.state.step, "samples": samples, "loss": loss, "gradient_norm": taken.norm}
        row |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "seconds": round(seconds, 2)} | self.figures
        self.metrics.write(**row)
        self.progress.show(step=self.state.step, samples=samples, loss=loss, done=self.done)
        self.log(row, self.state.step)
        self._check_patience(taken)

    def save(self) -> None:
        """Write a checkpoint on one rank; the others wait."""
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = self.state.model_copy(update={"loss_scale": scaler.get_scale() if scaler is not None else None})
            checkpoint = Checkpoint(state, self.learner.weights(), self.learner.optimizer.state_dict())
            save_checkpoint(self.out / "checkpoints", checkpoint, keep=self.hyperparameters.keep_checkpoints)
        self.saved = self.state.seconds
        self.accelerator.wait_for_everyone()

    def _over_ranks(self, loss: float, seconds: float, stop: float) -> tuple[float, float, float]:
        """Return the mean loss, the longest time and any signal over all ranks, so that they all decide the same."""
        if self.accelerator.num_processes == 1:
            return loss, seconds, stop
        own = torch.tensor([[loss, seconds, stop]], device=self.accelerator.device)
        table = self.accelerator.gather(own)
        return table[:, 0].mean().item(), table[:, 1].amax().item(), table[:, 2].amax().item()

    def _check_patience(self, taken: StepResult) -> None:
        """Count steps in a row whose gradient was not finite, and stop the run after too many."""
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
                "The same command with a lower learning_rate, or precision=fp32, goes on from the last good weights, "
                f"which are in {self.out}",
            )
