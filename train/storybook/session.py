"""A session: train one of the storybook models for some minutes, going on from the last session.

The learning rate warms up, stays, and falls to nearly nothing at the end of each session, so every session ends with
weights that are ready to use. Killed, a session goes on from its last checkpoint as a new one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

from ip2p.device import autocast, choose_precision, precision_name
from ip2p.errors import TrainingError
from ip2p.pictures.write import save_picture
from ip2p.progress import TrainingProgress
from ip2p.train.checkpoint import Checkpoint, State, check_same_run, load_newest, save_checkpoint
from ip2p.train.interrupt import Interrupts
from ip2p.train.learner import Learner, trainable
from ip2p.train.metrics import Metrics
from ip2p.train.optimizer import build_optimizer
from ip2p.train.schedule import Clock, learning_rate_factor, share_done

WARMUP = 50
DECAY = 0.4  # share of a session over which the learning rate falls
SAVE_MINUTES = 5.0
PATIENCE = 5  # steps in a row without a finite gradient, before the session stops


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
        session = _Session(task, folder / task.name, minutes, steps, device, precision, begin, say)
        with session.progress:
            while session.done < 1 and not interrupts.received:
                session.step()
                if session.due:
                    session.save()
        session.save()
        return session.end()


class _Session:
    def __init__(
        self, task: Task, out: Path, minutes: float, steps: int | None, device: torch.device, precision: str,
        begin: Callable[[], State], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.task, self.out, self.minutes, self.device = task, out, minutes, device
        config = dict(task.settings)
        resumed = load_newest(out / "checkpoints", warn=say)
        self.state = (State() if resumed else begin()).model_copy(update={"config": config})
        optimizer = build_optimizer(
            task.modules, name="muon", learning_rate=task.learning_rate, weight_decay=task.weight_decay
        )
        self.learner = Learner.of(task.modules, optimizer, ema_decay=task.ema_decay)
        if resumed:
            check_same_run(resumed.state, config=config, data="", folder=out)
            self.learner.restore(resumed)
            self.state = resumed.state
            say(f"{task.name}: going on from step {self.state.step} ({self.state.seconds / 60:.0f} minutes so far)")
        dtype = choose_precision(self._trial, device=device, requested=precision, report=say)
        self.dtype = dtype
        self.state = self.state.model_copy(update={"precision": precision_name(dtype)})
        self.first, self.earlier, self.bad = self.state.step, self.state.seconds, 0
        self.steps = steps
        self.metrics = Metrics(out / "metrics.jsonl", step=self.state.step)
        self.progress = TrainingProgress(self.first + steps if steps else None, "images")
        self.parameters = [each for module in task.modules.values() for each in trainable(module).values()]
        self.clock = Clock()
        self.saved = 0.0

    @property
    def done(self) -> float:
        """Part of this session that is done, 0 to 1."""
        return share_done(self.state.step - self.first, self.steps, seconds=self.clock.seconds, minutes=self.minutes)

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is old."""
        return self.clock.seconds - self.saved > 60 * SAVE_MINUTES

    def step(self) -> None:
        """One step of the optimizer."""
        task, state, done = self.task, self.state, self.done
        falling = max(0.0, (done - 1 + DECAY) / DECAY)
        factor = learning_rate_factor("linear", step=state.step - self.first, warmup=WARMUP, done=falling)
        for group in self.learner.optimizer.param_groups:
            group["lr"] = task.learning_rate * factor
        with autocast(self.device, self.dtype):
            loss = task.loss(range(state.samples, state.samples + task.batch))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0).item()
        moved = math.isfinite(norm)
        if moved:
            self.learner.optimizer.step()
            self.learner.follow()
        self.learner.optimizer.zero_grad(set_to_none=True)
        self._count(loss.item(), norm, moved)

    def _count(self, loss: float, norm: float, moved: bool) -> None:
        state, batch = self.state, self.task.batch
        self.bad = 0 if moved else self.bad + 1
        if self.bad >= PATIENCE:
            raise TrainingError(
                f"{self.task.name}: the gradient was not finite in {self.bad} steps in a row, at step {state.step}",
                "Go on from the last checkpoint with precision fp32",
            )
        self.state = state.model_copy(
            update={
                "step": state.step + 1,
                "updates": state.updates + moved,
                "samples": state.samples + batch,
                "seconds": self.earlier + self.clock.seconds,
            }
        )
        row = {"step": self.state.step, "samples": self.state.samples, "loss": loss, "gradient_norm": norm}
        self.metrics.write(**row, seconds=round(self.state.seconds, 1))
        self.progress.show(step=self.state.step, samples=self.state.samples, loss=loss, done=self.done)

    def save(self) -> None:
        """A checkpoint, and a sheet of what the averaged weights do."""
        self.saved = self.clock.seconds
        checkpoint = Checkpoint(self.state, self.learner.weights(), self.learner.optimizer.state_dict())
        save_checkpoint(self.out / "checkpoints", checkpoint, keep=2)
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

    def _trial(self) -> None:
        self.task.loss(range(self.task.batch)).backward()
        self.learner.optimizer.zero_grad(set_to_none=True)


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
