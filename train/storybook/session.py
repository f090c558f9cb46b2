"""A session: train one of the storybook models for some minutes, going on from the last session.

The learning rate warms up, stays, and falls to nearly nothing at the end of each session, so every session ends with
weights that are ready to use. Killed, a session goes on from its last checkpoint as a new one.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from ip2p.device import choose_precision, precision_name
from ip2p.pictures.write import save_picture
from ip2p.progress import TrainingProgress
from ip2p.train.checkpoint import State, check_same_run, load_newest
from ip2p.train.interrupt import Interrupts
from ip2p.train.learner import Learner, trainable
from ip2p.train.loop import Plan, TrainingLoop
from ip2p.train.optimizer import build_optimizer
from ip2p.train.schedule import learning_rate_factor, share_done

WARMUP = 50
DECAY = 0.4  # share of a session over which the learning rate falls
SAVE_MINUTES = 5.0


@runtime_checkable
class Task(Protocol):
    """One model to train.

    Attributes:
        name: of its folder under the state folder.
        modules: that learn, by name.
        batch: samples in a step.
        learning_rate, weight_decay, ema_decay: of the recipe.
        settings: what must be the same for a session to go on from another one.
    """

    name: str
    modules: dict[str, nn.Module]
    batch: int
    learning_rate: float
    weight_decay: float
    ema_decay: float
    settings: Mapping[str, Any]

    def load(self, bundled: Path) -> None:
        """Take the weights of the bundled model, in a folder of bundled models, to begin with."""
        ...

    def loss(self, positions: Sequence[int]) -> Tensor:
        """Loss of the samples at these positions of an endless order; it depends on them and the weights alone."""
        ...

    def sheet(self) -> Image.Image:
        """What the model does now, to look at."""
        ...


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
    """Train until the time box or the steps are used up, or a signal comes; leave the averaged weights in the modules.

    Writes under folder/<task>: checkpoints/, metrics.jsonl, and a contact sheet with every checkpoint.

    Args:
        task: what is trained.
        folder: of all training state.
        minutes: of this session, > 0.
        steps: at most so many in this session.
        device: to train on.
        precision: auto, fp32 or bf16.
        begin: called where the folder has no checkpoint; may load weights, and says how far they have come.
        say: takes lines for people.

    Raises:
        TrainingError: the gradient was not finite for several steps in a row.
        ConfigError: the state in the folder is of another recipe.
    """
    with Interrupts(with_parent=False) as interrupts:
        session = Session(task, folder / task.name, minutes, steps, device, precision, begin, say)
        with session.progress:
            while session.done < 1 and not session.stopped:
                session.advance(session.step(), interrupts.received)
                if session.due:
                    session.save()
        session.save()
        return session.end()


class Session(TrainingLoop):
    """A training loop of some minutes over one task, see `train_session`."""

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
        learner = Learner.of(task.modules, optimizer, ema_decay=task.ema_decay)
        if resumed:
            check_same_run(resumed.state, config=config, data="", folder=out)
            learner.restore(resumed)
            say(f"{task.name}: going on from step {state.step} ({state.seconds / 60:.0f} minutes so far)")
        dtype = choose_precision(lambda: _try(task, learner), device=device, requested=precision, report=say)
        state = state.model_copy(update={"precision": precision_name(dtype)})
        accelerator = Accelerator(
            mixed_precision="no" if state.precision == "fp32" else state.precision, cpu=device.type == "cpu"
        )
        self.first = state.step
        progress = TrainingProgress(self.first + steps if steps else None, "images")
        super().__init__(out, Plan(task.learning_rate, task.batch), learner, state, accelerator, progress)

    @property
    def done(self) -> float:
        """Part of this session that is done, 0 to 1."""
        seconds = self.state.seconds - self.earlier
        return share_done(self.state.step - self.first, self.steps, seconds=seconds, minutes=self.minutes)

    @property
    def learning_rate_factor(self) -> float:
        """Warm-up, the peak, and a fall to nearly nothing over the last part of the session."""
        falling = max(0.0, (self.done - 1 + DECAY) / DECAY)
        return learning_rate_factor("linear", step=self.state.step - self.first, warmup=WARMUP, done=falling)

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is old."""
        return self.state.seconds - self.saved > 60 * SAVE_MINUTES

    def loss(self, taken: Sequence[int]) -> Tensor:
        """Loss of the task."""
        return self.task.loss(taken)

    def save(self) -> None:
        """Write a checkpoint, and a sheet of what the averaged weights do."""
        super().save()
        _eval(self.task.modules)
        with self.learner.averaged(), torch.inference_mode():
            save_picture(self.task.sheet(), self.out / f"sheet-{self.state.step:08d}.png", {"step": self.state.step})
        for module in self.task.modules.values():
            module.train()

    def end(self) -> State:
        """The averaged weights become the modules' own."""
        for name, module in self.task.modules.items():
            self.learner.averages[name].copy_to(trainable(module).values())
        _eval(self.task.modules)
        return self.state


def _try(task: Task, learner: Learner) -> None:
    """One step forward and backward, of which nothing stays."""
    task.loss(range(task.batch)).backward()
    learner.optimizer.zero_grad(set_to_none=True)


def restore_averages(task: Task, folder: Path) -> State | None:
    """Put the averaged weights of the last checkpoint into the task's modules; None if there is none."""
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
