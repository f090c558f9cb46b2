"""A session: train one of the storybook models for some minutes, resuming from the last session.

The learning rate warms up, stays constant, and falls almost to zero at the end of each session, so every session ends
with weights that are ready to use. After a kill, a new session resumes from the last checkpoint.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from ip2p.device import choose_precision, precision_name
from ip2p.errors import ConfigError
from ip2p.ownership import sole_writer
from ip2p.pictures.write import save_picture
from ip2p.progress import TrainingProgress
from ip2p.train.checkpoint import State, check_same_settings, load_newest
from ip2p.train.interrupt import Interrupts
from ip2p.train.learner import Learner, trainable
from ip2p.train.loop import Hyperparameters, TrainingLoop
from ip2p.train.optimizer import build_optimizer
from ip2p.train.run_folder import LOCK_FILE
from ip2p.train.schedule import learning_rate_factor, share_done

WARMUP_STEPS = 50
DECAY_SHARE = 0.4  # final share of a session over which the learning rate falls
SAVE_MINUTES = 5.0


@runtime_checkable
class Task(Protocol):
    """The training task of one model.

    Attributes:
        name: name of the task, and of its folder under the state folder.
        modules: trained modules, by name.
        batch: samples in an optimizer step.
        learning_rate: peak learning rate.
        weight_decay: decoupled weight decay.
        ema_decay: decay of the exponential moving average of the weights.
        settings: settings that must be the same for a session to resume from another one.
    """

    name: str
    modules: dict[str, nn.Module]
    batch: int
    learning_rate: float
    weight_decay: float
    ema_decay: float
    settings: Mapping[str, Any]

    def load(self, bundled: Path) -> None:
        """Load the initial weights from a folder of bundled models."""
        ...

    def loss(self, positions: Sequence[int]) -> Tensor:
        """Return the mean loss of the samples at these positions, which depends on them and the weights alone."""
        ...

    def sheet(self) -> Image.Image:
        """Return a contact sheet that shows what the model does."""
        ...


def require_above_zero(name: str, number: float | int | None) -> None:
    """Check that a number, given as --NAME on the command line, is above 0; None is if it is not given.

    Raises:
        ConfigError: it is not.
    """
    if number is not None and not number > 0:
        raise ConfigError(f"--{name} {number:g} is not above 0", "Give a larger number")


def train_session(
    task: Task,
    folder: Path,
    *,
    minutes: float,
    steps: int | None = None,
    device: torch.device,
    precision: str = "auto",
    begin: Callable[[], State] = State,
    say: Callable[[str], None] = print,
) -> State:
    """Train until a limit of time or steps, or a signal; the modules then have the averaged weights.

    Writes under folder/<task>: checkpoints/, metrics.jsonl, and a contact sheet with every checkpoint.

    Args:
        task: task to train.
        folder: folder of all training state.
        minutes: time limit of this session, > 0.
        steps: limit of optimizer steps in this session, > 0; None for no limit.
        device: device to train on.
        precision: auto, fp32 or bf16.
        begin: function called if the folder has no checkpoint; may load weights, and returns their progress.
        say: function that prints a line.

    Raises:
        TrainingError: the gradient was not finite for several steps in a row.
        ConfigError: the state in the folder has other settings, or minutes or steps are not above 0.
        BusyError: another session trains the task there.
    """
    require_above_zero("minutes", minutes)
    require_above_zero("steps", steps)
    with sole_writer(folder / task.name, file=LOCK_FILE), Interrupts(with_parent=False) as interrupts:
        session = Session(task, folder / task.name, minutes, steps, device, precision, begin, say)
        with session.progress:
            while session.done < 1 and not session.stopped:
                session.advance(session.step(), interrupts.received)
                if session.due:
                    session.save()
        session.save()
        return session.end()


class Session(TrainingLoop):
    """The training loop of a session, see `train_session`."""

    def __init__(
        self, task: Task, out: Path, minutes: float, steps: int | None, device: torch.device, precision: str,
        begin: Callable[[], State], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.task, self.minutes, self.steps = task, minutes, steps
        config = dict(task.settings)
        resumed = load_newest(out / "checkpoints", warn=say)
        state = (resumed.state if resumed else begin()).model_copy(update={"config": config})
        optimizer = build_optimizer(
            task.modules, name="muon", learning_rate=task.learning_rate, weight_decay=task.weight_decay
        )
        learner = Learner.create(task.modules, optimizer, ema_decay=task.ema_decay)
        if resumed:
            check_same_settings(resumed.state, config=config, folder=out)
            learner.restore(resumed)
            say(f"{task.name}: going on from step {state.step} ({state.seconds / 60:.0f} minutes so far)")
        dtype = choose_precision(lambda: _try(task, learner), device=device, requested=precision, report=say)
        state = state.model_copy(update={"precision": precision_name(dtype)})
        accelerator = Accelerator(
            mixed_precision="no" if state.precision == "fp32" else state.precision, cpu=device.type == "cpu"
        )
        self.first = state.step
        progress = TrainingProgress(self.first + steps if steps else None, "images")
        super().__init__(out, Hyperparameters(task.learning_rate, task.batch), learner, state, accelerator, progress)

    @property
    def done(self) -> float:
        """Share of this session that is done, 0 to 1."""
        seconds = self.state.seconds - self.earlier
        return share_done(self.state.step - self.first, self.steps, seconds=seconds, minutes=self.minutes)

    @property
    def learning_rate_factor(self) -> float:
        """Learning rate as a share of its peak: warm-up, the peak, and a linear fall at the end of the session."""
        falling = max(0.0, (self.done - 1 + DECAY_SHARE) / DECAY_SHARE)
        return learning_rate_factor("linear", step=self.state.step - self.first, warmup=WARMUP_STEPS, done=falling)

    @property
    def due(self) -> bool:
        """Whether a checkpoint is due."""
        return self.state.seconds - self.saved > 60 * SAVE_MINUTES

    def loss(self, taken: Sequence[int]) -> Tensor:
        """Return the task's loss at these positions."""
        return self.task.loss(taken)

    def save(self) -> None:
        """Write a checkpoint, and a contact sheet made with the averaged weights."""
        super().save()
        _eval(self.task.modules)
        with self.learner.averaged_weights(), torch.inference_mode():
            save_picture(self.task.sheet(), self.out / f"sheet-{self.state.step:08d}.png", {"step": self.state.step})
        for module in self.task.modules.values():
            module.train()

    def end(self) -> State:
        """Copy the averaged weights into the modules; returns the progress of the run."""
        for name, module in self.task.modules.items():
            self.learner.averages[name].copy_to(trainable(module).values())
        _eval(self.task.modules)
        return self.state


def _try(task: Task, learner: Learner) -> None:
    """Run one forward and backward pass, and discard the gradients."""
    task.loss(range(task.batch)).backward()
    learner.optimizer.zero_grad(set_to_none=True)


def restore_averages(task: Task, folder: Path) -> State | None:
    """Load the averaged weights of the last checkpoint into the task's modules.

    Args:
        task: task whose modules take the weights.
        folder: folder of all training state.

    Returns:
        The progress of the checkpoint; None if there is none.
    """
    found = load_newest(folder / task.name / "checkpoints", warn=print)
    if not found:
        return None
    for name, module in task.modules.items():
        with torch.no_grad():
            for key, parameter in trainable(module).items():
                parameter.copy_(found.weights[f"ema-{name}"][key])
    _eval(task.modules)
    return found.state


def _eval(modules: Mapping[str, nn.Module]) -> None:
    for module in modules.values():
        module.eval()
