"""The training loop, top to bottom: base model in, editor folder out; killed and started again, it goes on exactly."""

import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from torch import nn

from ip2p.device import PRECISIONS, choose_precision, precision_name
from ip2p.errors import ModelError, TrainingError
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.widen import suit_attention, widen_conv_in
from ip2p.progress import TrainingProgress
from ip2p.seeding import generator
from ip2p.train.batches import Batches, open_pairs, positions
from ip2p.train.checkpoint import Checkpoint, State, check_same_run, load_newest, save_checkpoint
from ip2p.train.config import FinetuneConfig
from ip2p.train.interrupt import Interrupts
from ip2p.train.learner import Learner, trainable
from ip2p.train.metrics import Metrics
from ip2p.train.objective import EditingModel, ForwardProcess, TrainingBatch, assemble, draw, editing_loss
from ip2p.train.optimizer import build_optimizer
from ip2p.train.result import save_editor, write_report
from ip2p.train.schedule import Clock, learning_rate_factor, share_done
from ip2p.train.validation import Validation

PATIENCE = 5  # steps in a row without a finite loss, before the run stops
PATIENCE_SCALED = 25  # in fp16 the first ones only search the scale of the loss


class RunResult(NamedTuple):
    """Where the editor is, or None if a signal stopped the run; exit_code is what the shell is told."""

    editor: Path | None
    step: int
    exit_code: int


def fit(config: FinetuneConfig, *, say: Callable[[str], None] = print) -> RunResult:
    """Train an editor from a base model and a packed data set, or go on with the run that is in config.out.

    Writes under config.out: checkpoints/, metrics.jsonl, validation/*.png, and at the end editor/ (a diffusers folder
    of the averaged weights) and report.html.

    Raises:
        DataError, ModelError, ConfigError: as open_pairs, load_backbone and check_same_run say.
        TrainingError: the loss was not finite for several steps in a row.
    """
    with Interrupts() as interrupts:
        run = Run(config, say)
        with run.progress:
            while run.done < 1 and not run.stopped:
                taken = run.step()
                run.advance(taken, interrupts.received)
                ends = run.done >= 1 or run.stopped
                if ends or run.due:
                    run.save()
                if not run.stopped and (ends or run.state.step % config.validate_every == 0):
                    run.validate()
        return run.finish(interrupts.exit_code)


class Step(NamedTuple):
    """What a step saw: mean loss of this rank's samples, norm of the gradient of all, and whether the weights moved."""

    loss: float
    norm: float
    moved: bool


class Run:
    """A run in progress: everything that fit() moves forward.

    Attributes:
        state: step, samples and seconds so far; what a checkpoint keeps.
        done: part of the run that is done, 0 to 1.
        stopped: whether a signal asked some rank to stop.
    """

    def __init__(self, config: FinetuneConfig, say: Callable[[str], None]) -> None:
        self.config, self.out, place = config, Path(config.out), process_state(config.threads)
        self.clock, self.stopped, self.bad_steps = Clock(), False, 0
        self.place, main = place, place.is_main_process
        self.say = say if main else lambda _: None
        self.pairs = open_pairs(*config.datasets)
        resumed = self._resumable()
        self.backbone, self.model, self.learner = prepare(config, place.device)
        self.process = ForwardProcess.of(self.backbone.scheduler, place.device)
        side = config.size or self.backbone.image_size
        self.batches = Batches(self.pairs.train, self.backbone, size=side, seed=config.seed, flip=config.flip)
        if config.cache_latents:
            self.batches.cache(self.say)
        self.state = State(data=self.pairs.fingerprint(), config=config.model_dump(mode="json"))
        if resumed:
            self.learner.restore(resumed)
            self.state = resumed.state.model_copy(update={"config": self.state.config})
            self.say(f"going on from step {self.state.step} in {self.out}")
        self.earlier = self.saved = self.state.seconds
        self.dtype = self._precision(place)
        self.accelerator = self._accelerator()
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, self.learner.optimizer)
        self.metrics = Metrics(self.out / "metrics.jsonl", step=self.state.step, active=main)
        self.progress = TrainingProgress(config.steps, "samples", active=main)
        self.validation = Validation(
            Batches(self.pairs.held_out, self.backbone, size=side, seed=config.seed, flip=False),
            self.model, self.process, self.out / "validation",
        )  # fmt: skip

    @property
    def done(self) -> float:
        """Part of the run that is done, by what all ranks agreed on last."""
        return share_done(self.state.step, self.config.steps, seconds=self.state.seconds, minutes=self.config.minutes)

    @property
    def due(self) -> bool:
        """Whether a checkpoint is, by steps or by the time that a kill would lose; the same on all ranks."""
        late = self.state.seconds - self.saved >= 60 * self.config.checkpoint_minutes
        return late or self.state.step % self.config.checkpoint_every == 0

    def step(self) -> Step:
        """One step of the optimizer, over all micro-batches of this rank."""
        config, state, accelerator = self.config, self.state, self.accelerator
        factor = learning_rate_factor(config.schedule, step=state.step, warmup=config.warmup, done=self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        self.model.train()
        losses = []
        for taken in positions(
            state.samples, batch=config.batch, accumulation=config.accumulation,
            rank=accelerator.process_index, ranks=accelerator.num_processes,
        ):  # fmt: skip
            batch = self.batch_at(taken)
            with accelerator.accumulate(self.wrapped):
                with accelerator.autocast():
                    loss = editing_loss(self.wrapped, self.process, batch).mean()
                accelerator.backward(loss)
            losses.append(loss.detach())
        norm = accelerator.clip_grad_norm_(trainable(self.model).values(), config.max_grad_norm or math.inf).item()
        moved = math.isfinite(norm)
        if (
            moved or accelerator.scaler is not None
        ):  # a scaler refuses such a step by itself, and must see it to find its scale
            self.optimizer.step()
        if moved:
            self.learner.follow()
        self.optimizer.zero_grad()
        return Step(torch.stack(losses).mean().item(), norm, moved)

    def batch_at(self, taken: Sequence[int]) -> TrainingBatch:
        """The samples at these positions of the run, with their own noise, timesteps and dropped conditions."""
        instructions, latents = self.batches.at(taken)
        generators = [generator(self.config.seed, "train", str(position)) for position in taken]
        _, *shape = latents.mean.shape
        draws = draw(generators, (shape[0], shape[1], shape[2]), len(self.process.alphas))
        return assemble(instructions, latents, draws, drop=self.config.drop, tokenize=self.backbone.tokenize)

    def advance(self, taken: Step, signal_number: int) -> None:
        """Count a step, the same on all ranks, and record it.

        Raises:
            TrainingError: the gradient was not finite, once more than patience allows.
        """
        state, config = self.state, self.config
        ranks = self.accelerator.num_processes
        loss, seconds, stop = self._over_ranks(taken.loss, self.earlier + self.clock.seconds, float(signal_number))
        self.stopped = stop > 0
        samples = state.samples + config.batch * config.accumulation * ranks
        self.state = state.model_copy(
            update={
                "step": state.step + 1,
                "updates": state.updates + taken.moved,
                "samples": samples,
                "seconds": seconds,
            }
        )
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
            save_checkpoint(self.out / "checkpoints", checkpoint, keep=self.config.keep_checkpoints)
        self.saved = self.state.seconds
        self.accelerator.wait_for_everyone()

    def validate(self) -> None:
        """Held-out loss and a sheet of edits with the averaged weights, on one rank; the others wait."""
        if self.accelerator.is_main_process:
            self.model.eval()
            with self.learner.averaged():
                loss = self.validation.loss(self.config.batch)
                sheet = self.validation.sheet(
                    self.state.step, text_scale=self.config.text_scale, image_scale=self.config.image_scale
                )
            self.metrics.write(step=self.state.step, held_out_loss=loss)
            self.accelerator.log({"held_out_loss": loss}, step=self.state.step)
            self.progress.say(f"step {self.state.step}: held-out loss {loss:.4f}, edits in {sheet}")
        self.accelerator.wait_for_everyone()

    def finish(self, exit_code: int) -> RunResult:
        """Write the editor and the report, or say how to go on."""
        if self.stopped:
            self.accelerator.end_training()
            self.say(f"stopped at step {self.state.step}, saved in {self.out}; the same command goes on from there")
            return RunResult(None, self.state.step, exit_code or 128 + signal.SIGTERM)
        editor = self.out / "editor"
        if self.accelerator.is_main_process:
            self.model.eval()
            with self.learner.averaged():
                save_editor(self.backbone, editor, self.config, self.state, pairs=len(self.pairs.train))
            report = write_report(self.out, self.state, pairs=len(self.pairs.train))
            self.say(f"editor: {editor}\nreport: {report}")
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return RunResult(editor, self.state.step, 0)

    def _resumable(self) -> Checkpoint | None:
        """The checkpoint to go on from, if it is of this very run."""
        found = load_newest(self.out / "checkpoints", warn=self.say)
        if found:
            config, data = self.config.model_dump(mode="json"), self.pairs.fingerprint()
            check_same_run(found.state, config=config, data=data, folder=self.out)
        return found

    def _precision(self, place: PartialState) -> torch.dtype:
        """The format of this run: as it began, as asked, or as measured on the first rank."""
        if self.state.step and self.config.precision == "auto":
            return PRECISIONS[self.state.precision]

        def trial() -> None:
            editing_loss(self.model, self.process, self.batch_at(range(self.config.batch))).mean().backward()
            self.model.zero_grad(set_to_none=True)

        names = [""]
        if place.is_main_process:
            dtype = choose_precision(trial, device=place.device, requested=self.config.precision, report=self.say)
            names = [precision_name(dtype)]
        name = str(broadcast_object_list(names)[0])
        self.state = self.state.model_copy(update={"precision": name})
        return PRECISIONS[name]

    def _accelerator(self) -> Accelerator:
        accelerator = Accelerator(
            gradient_accumulation_steps=self.config.accumulation,
            mixed_precision="no" if self.dtype == torch.float32 else precision_name(self.dtype),
            log_with=None if self.config.report_to == "none" else self.config.report_to,
            project_dir=self.out,
            cpu=self.place.device.type == "cpu",
        )
        accelerator.init_trackers("ip2p-finetune", self.config.model_dump(mode="json"))
        if accelerator.scaler is not None and self.state.loss_scale:
            accelerator.scaler.load_state_dict({**accelerator.scaler.state_dict(), "scale": self.state.loss_scale})
        return accelerator

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
                f"no finite gradient in {self.bad_steps} steps up to step {step} ({precision_name(self.dtype)})",
                f"Start again with a lower learning_rate or precision=fp32; the last good weights are in {self.out}",
            )


def process_state(threads: int = 0) -> PartialState:
    """Rank and device, as `accelerate launch` or torchrun set them up; several ranks on CPUs too."""
    asked = parse_flag_from_env("ACCELERATE_USE_CPU")
    place = PartialState(cpu=asked or not torch.accelerator.is_available())
    if place.device.type == "cpu":
        # `accelerate launch` gives a process one thread, and would leave the other cores idle.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(threads or max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return place


def prepare(config: FinetuneConfig, device: torch.device) -> tuple[Backbone, EditingModel, Learner]:
    """Load the base model, widen its UNet unless it is an editor already, and gather what is to learn."""
    backbone = load_backbone(config.base, device=device, dtype=torch.float32)
    if backbone.is_xl:
        raise ModelError(
            f"{config.base} has SDXL's two text encoders, and training knows one",
            "Give a base of Stable Diffusion 1 or 2",
        )
    if not backbone.is_editor:
        widen_conv_in(backbone.unet)
    backbone.vae.requires_grad_(False)
    backbone.text_encoder.requires_grad_(config.train_text_encoder)
    backbone.unet.requires_grad_(True)
    suit_attention(backbone.unet, device)
    modules: dict[str, nn.Module] = {"unet": backbone.unet}
    if config.train_text_encoder:
        modules["text_encoder"] = backbone.text_encoder
    optimizer = build_optimizer(
        modules, name=config.optimizer, learning_rate=config.learning_rate, weight_decay=config.weight_decay
    )
    learner = Learner.of(modules, optimizer, ema_decay=config.ema_decay)
    return backbone, EditingModel(backbone.unet, backbone.text_encoder), learner
