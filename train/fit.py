"""Fine-tune an editor from a base model; a run that was killed resumes exactly."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator, PartialState
from torch import Tensor, nn

from ip2p.device import PRECISIONS, autocast, choose_precision, compile_unet, precision_name
from ip2p.diffusion.noise import ForwardProcess
from ip2p.models.backbone import latent_scale, latent_shift
from ip2p.pictures.read import open_image
from ip2p.progress import TrainingProgress
from ip2p.seeding import generator
from ip2p.train.adapters import without_lora
from ip2p.train.attention import choose_attention, require_attention, use_attention
from ip2p.train.batches import Batches
from ip2p.train.checkpoint import State
from ip2p.train.config import FinetuneConfig
from ip2p.train.held_out import HeldOutCurve
from ip2p.train.hub import push_editor, require_hub
from ip2p.train.interrupt import Interrupted, Interrupts
from ip2p.train.launcher import is_launched, process_state, settle
from ip2p.train.loop import Hyperparameters, StepResult, TrainingLoop
from ip2p.train.masks import Masks
from ip2p.train.metrics import read_metrics
from ip2p.train.objective import TrainingBatch, draw_randomness, editing_loss, make_training_batch
from ip2p.train.preference import preference_loss
from ip2p.train.prepare import count_steps, make_batches, open_sets, prepare
from ip2p.train.ranks import Ranks
from ip2p.train.result import save_editor, save_lora_files, write_report
from ip2p.train.run_folder import EDITOR, EDITOR_FILE, claim, find_checkpoint, has_editor, note_editor, write_note
from ip2p.train.schedule import learning_rate_factor, share_done
from ip2p.train.speed import measure_speed, summarize
from ip2p.train.tensor_shards import tell_unused
from ip2p.train.text_embeddings import FrozenText
from ip2p.train.trackers import start_tracker
from ip2p.train.validation import EditSettings, Validation, load_clip
from ip2p.train.watch import Watch
from ip2p.train.weighting import changed_share, pixel_weight
from ip2p.train.xl import tokenize_texts


class RunResult(NamedTuple):
    """The outcome of a session.

    Attributes:
        editor: folder of the editor; None if a signal stopped the run.
        step: optimizer steps taken so far.
        exit_code: exit code for the shell.
    """

    editor: Path | None
    step: int
    exit_code: int


def fit(config: FinetuneConfig, *, say: Callable[[str], None] = print) -> RunResult:
    """Train an editor from a base model and a packed data set, or resume the run in config.out.

    Writes under config.out: checkpoints/, metrics.jsonl, validation/*.png, best/ (the editor with the lowest held-out
    loss so far), and at the end editor/ (a diffusers folder of the averaged weights) and report.html.

    Args:
        config: settings of the run.
        say: function that prints a line.

    Raises:
        BusyError: another run writes to config.out.
        DataError: a data set is missing, unreadable, or too small.
        ModelError: the base model is missing, damaged, or of another kind.
        ConfigError: the run in config.out has other settings, and cannot go on with these.
        TrainingError: the loss was not finite for several steps in a row.
        SystemExit: a signal came before the first step, when there is nothing to save.
    """
    with Interrupts(with_parent=is_launched()) as interrupts, ExitStack() as stack:
        with interrupts.at_once():  # to keep the latents of a large data set takes hours, and goes on after any end
            if process_state(config.threads).is_main_process:
                stack.enter_context(claim(config))
            run = Run(config, say, lambda: interrupts.received)
        with run.progress:
            run.validate_if_due()  # before the first step, or where a kill has come before the validation
            while not run.ended:
                run.advance(run.step(), interrupts.received)
                if run.ended or run.due:
                    run.save()
                run.validate_if_due()
        return run.finish()


class Run(TrainingLoop):
    """The training loop of an editor, see `fit`.

    Args:
        config: settings of the run.
        say: function that prints a line; used on the main process only.
        received: function that returns the number of the signal that this process received; 0 for none.
    """

    def __init__(
        self, config: FinetuneConfig, say: Callable[[str], None], received: Callable[[], int] = lambda: 0
    ) -> None:
        self.received = received
        place = process_state(config.threads)
        main = place.is_main_process
        self.say = say if main else lambda _: None
        self.config = config = settle(config, self.say)
        out = Path(config.out)
        if config.validation_image:
            open_image(config.validation_image, frame=0)  # one that cannot be read ends a run before it begins
        if main and config.push_to_hub:
            require_hub(config.push_to_hub, say=self.say)
        self.clip = load_clip(config.validation_clip, place.device) if main else None
        opened = open_sets(config, say=self.say)
        self.pairs = opened[0]
        self.config = config = count_steps(config, self.pairs, processes=place.num_processes, say=self.say)
        state, resumed = find_checkpoint(
            out, config, data=self.pairs.fingerprint(), processes=place.num_processes, say=self.say
        )
        if main:
            write_note(out, config)
        self.backbone, self.model, learner = prepare(config, place.device)
        self.reference = copy.deepcopy(self.model).requires_grad_(False) if config.dpo_beta else None
        self.process = ForwardProcess(self.backbone.scheduler)
        side = config.size or self.backbone.image_size
        self.ranks = Ranks.of(place)
        self.first = state.samples
        self.batches, *others = (
            make_batches(each, self.backbone, config, size=side, ranks=self.ranks, places=state.stream, say=self.say)
            for each in opened
        )
        self.rejected = next(iter(others), None)
        self.text = None if config.train_text_encoder or self.backbone.is_xl else FrozenText(self.backbone)
        if config.cache_latents:
            self._fill_caches(self.batches, *others)
        self.masks = Masks(self.pairs.train, downscale=self.backbone.downscale)
        if resumed:
            learner.restore(resumed)
        state = state.model_copy(update={"precision": self._precision(state, place)})
        state = state.model_copy(update={"attention": self._attention(state, place, side // self.backbone.downscale)})
        if config.compile:
            compile_unet(self.backbone.unet, self._trial, setting="compile")
        accelerator = self._accelerator(state, place)
        hyperparameters = Hyperparameters(
            config.learning_rate, config.batch, config.accumulation, config.max_grad_norm, config.keep_checkpoints
        )
        progress = TrainingProgress(config.steps, "samples", active=main)
        self.wrapped = accelerator.prepare(self.model)
        for batches in (self.batches, *others):
            batches.stride = config.batch * self.ranks.total
        super().__init__(out, hyperparameters, learner, state, accelerator, progress)
        self.watch = self._watch(side) if main else None
        self.validated = self.ranks.agree(self._curve)
        sources = [self.batches, *others]
        self.speed = measure_speed(
            config, self.backbone, sources, precision=state.precision, ranks=self.ranks, say=self.say
        )

    @property
    def done(self) -> float:
        """Share of the run that is done, over all sessions, 0 to 1; the same on all ranks."""
        return share_done(self.state.step, self.config.steps, seconds=self.state.seconds, minutes=self.config.minutes)

    @property
    def ended(self) -> bool:
        """Whether the run is done, stopped, or ended by its held-out loss; the same on all ranks."""
        return self.done >= 1 or self.stopped or self.validated.stale >= (self.config.early_stop or math.inf)

    @property
    def learning_rate_factor(self) -> float:
        """Learning rate as a share of its peak: warm-up, then the schedule of the config over the whole run."""
        return learning_rate_factor(
            self.config.schedule, step=self.state.step, warmup=self.config.warmup, done=self.done
        )

    @property
    def synchronized_modules(self) -> Sequence[nn.Module]:
        """The editing model as wrapped by accelerate."""
        return (self.wrapped,)

    @property
    def due(self) -> bool:
        """Whether a checkpoint is due, by steps or by minutes; the same on all ranks."""
        late = self.state.seconds - self.saved >= 60 * self.config.checkpoint_minutes
        return late or self.state.step % self.config.checkpoint_every == 0

    def loss(self, taken: Sequence[int]) -> Tensor:
        """Return the mean loss of the samples at these positions, each with its own noise and dropped conditions."""
        batch = self.batch_at(taken)
        if self.rejected is None or self.reference is None or self.config.dpo_beta is None:
            return editing_loss(self.wrapped, self.process, batch, min_snr_gamma=self.config.min_snr_gamma).mean()
        refused = self.batch_at(taken, self.rejected)
        return preference_loss(
            self.wrapped, self.reference, self.process, batch, refused, beta=self.config.dpo_beta
        ).mean()

    def step(self) -> StepResult:
        """Take one optimizer step in training mode."""
        self.model.train()
        return super().step()

    @property
    def figures(self) -> dict[str, float]:
        """Speed of the step."""
        return self.speed.step(self.step_seconds)

    def batch_at(self, taken: Sequence[int], batches: Batches | None = None) -> TrainingBatch:
        """Make the training batch at these positions of the run, with its noise, timesteps and dropped conditions.

        Args:
            taken: positions.
            batches: where the samples come from; None for the pairs, or the chosen edits of preference pairs.
        """
        source = batches or self.batches
        instructions, latents = source.at(taken)
        generators = [generator(self.config.seed, "train", str(position)) for position in taken]
        _, *shape = latents.mean.shape
        draws = draw_randomness(
            generators, (shape[0], shape[1], shape[2]), self.process.timesteps, noise_offset=self.config.noise_offset
        )
        batch = make_training_batch(
            instructions,
            latents,
            draws,
            drop=self.config.drop,
            tokenize=self.text or partial(tokenize_texts, self.backbone),
        )
        if not self.config.changed_weight:
            return batch
        changed = changed_share(
            latents.condition,
            latents.mean,
            scale=latent_scale(self.backbone.vae),
            shift=latent_shift(self.backbone.vae),
        )
        rows, augmentations = [source.order.row(each) for each in taken], [source.augmentation(each) for each in taken]
        shapes = [source.shape(row) for row in rows]
        changed[[row in source.without for row in rows]] = 0  # there is nothing that they would be compared with
        changed = self.masks.at(rows, augmentations, shapes, changed)
        return batch._replace(weight=pixel_weight(changed, self.config.changed_weight))

    def save(self) -> None:
        """Write a checkpoint, with what all processes have read and where they go on, on one rank; the others wait."""
        read: dict[str, object] = {"stream": self.batches.places(self.state.samples, self.ranks)}
        if self.backbone.vocabulary:
            read["words"] = sorted({*self.state.words, *self.ranks.interleave(self.batches.streamed_words)})
        self.state = self.state.model_copy(update=read)
        super().save()
        if self.watch:
            self.watch.best.checkpointed(self.state.step)

    def validate_if_due(self) -> None:
        """Validate on one rank while the others wait, unless that has been done at this step, with these pairs.

        A signal ends it, and the run with it: it validates anew when it goes on. If that, or the held-out loss, ends
        the run, there is a checkpoint of it.
        """
        due = self.done >= 1 or self.state.step % self.config.validate_every == 0 or not self.validated.points
        if self.stopped or not due or self.validated.has(self.state.step):
            return
        with self.clock.paused(), self.progress.paused():
            received = 0
            if self.watch:
                try:
                    self.watch.validate(self.state)
                except Interrupted:
                    received = self.received()
            self.validated, self.stop_signal = self.ranks.agree((self._curve, received))
            self.stopped = self.stop_signal > 0
        if self.ended and self.saved != self.state.seconds:
            self.save()

    @property
    def _curve(self) -> HeldOutCurve:
        """The held-out loss so far; on the main process only."""
        return self.watch.curve if self.watch else HeldOutCurve()

    def _watch(self, side: int) -> Watch:
        held_out = Batches(self.pairs.held_out, self.backbone, size=side, seed=self.config.seed, flip=False)
        settings, folder = EditSettings.of(self.config), self.out / "validation"
        validation = Validation(
            held_out, self.model, self.process, folder, settings, clip=self.clip,
            interrupted=lambda: self.received() > 0,
        )  # fmt: skip
        return Watch(
            self.out, self.state.step, validation, self.learner, self.metrics, self.progress,
            log=self.log, save=self._save_best,
        )  # fmt: skip

    def finish(self) -> RunResult:
        """Write the editor and the report, or say how to resume if a signal stopped the run."""
        for batches in (self.batches, *([self.rejected] if self.rejected else [])):
            batches.close()
        if self.stopped:
            self.accelerator.end_training()
            self.say(f"stopped at step {self.state.step}, saved in {self.out}; the same command goes on from there")
            return RunResult(None, self.state.step, 128 + self.stop_signal)  # of all ranks, whichever had the signal
        editor = self.out / EDITOR
        if self.accelerator.is_main_process:
            self.model.eval()
            lora, written = self.out / "lora", has_editor(self.out, self.state)
            with self.learner.averaged_weights():
                if not written:  # else it may have edits of its user's
                    (self.out / EDITOR_FILE).unlink(missing_ok=True)
                    self._save_editor(editor, self.state, {})
                if not written or not lora.exists():
                    save_lora_files(self.backbone, self.config, lora, say=self.say)
            note_editor(self.out, self.state)
            report = write_report(self.out, self.state, pairs=len(self.batches.table), curve=self._curve)
            self.say(f"editor: {editor}\nreport: {report}")
            self.say(f"speed: {summarize(read_metrics(self.metrics.path))}")
            if self.watch and (offered := self.watch.offer()):
                self.say(offered)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        if self.watch and self.config.push_to_hub:  # when no other process waits, which would give up after minutes
            self.say(push_editor(editor, self.config.push_to_hub))
        return RunResult(editor, self.state.step, 0)

    def _save_editor(self, folder: Path, state: State, extra: Mapping[str, str]) -> None:
        """Write an editor of the weights as they are, with LoRA matrices added to them."""
        folded = without_lora(self.backbone)
        exact = self.watch.exact if self.watch else None
        save_editor(
            folded, folder, self.config, state, pairs=self.batches.table, curve=self._curve, exact=exact, extra=extra
        )

    def _save_best(self, folder: Path, state: State, extra: Mapping[str, str]) -> None:
        """Write the best editor so far, and in its folder lora/ its LoRA files where there are any."""
        self._save_editor(folder, state, extra)
        save_lora_files(self.backbone, self.config, folder / "lora", say=lambda _: None)

    def _precision(self, state: State, place: PartialState) -> str:
        """Return the name of the dtype: of the resumed run, as requested, or as measured on the first rank."""
        if state.step and self.config.precision == "auto":
            return state.precision
        name = ""
        if place.is_main_process:
            requested = self.config.precision
            dtype = choose_precision(self._trial, device=place.device, requested=requested, report=self.say)
            name = precision_name(dtype)
        return self.ranks.agree(name)

    def _attention(self, state: State, place: PartialState, side: int) -> str:
        """Return how attention is computed, and set it up: as in the resumed run, as requested, or as measured."""
        asked = self.config.attention
        require_attention(asked, place.device)

        def step() -> None:
            with autocast(place.device, PRECISIONS[state.precision]):
                self._trial()

        # A run that is older than the choice was trained as it is now chosen without a probe.
        before = state.attention or ("plain" if place.device.type == "cpu" else "sdpa") if state.step else ""
        name = before if asked == "auto" else ""
        if not name and place.is_main_process:
            name = choose_attention(self.backbone.unet, asked, side=side, device=place.device, step=step, say=self.say)
        name = self.ranks.agree(name)
        for model in (self.model, *([self.reference] if self.reference else [])):
            use_attention(model.unet, name)
        return name

    def _trial(self) -> None:
        """Run a step, forward and backward, that changes nothing."""
        editing_loss(
            self.model, self.process, self.batch_at(range(self.first, self.first + self.config.batch))
        ).mean().backward()
        self.model.zero_grad(set_to_none=True)

    def _fill_caches(self, *batches: Batches) -> None:
        """Encode pictures and instructions that are not on disk yet."""
        folder, dtype = Path(self.config.cache_folder), self.config.cache_dtype
        for each in batches:
            each.cache(folder, dtype=dtype, ranks=self.ranks, say=self.say)
        if self.text:
            self.text.cache(
                self.batches.instructions, folder, dtype=dtype, limit=self.batches.cached_bytes, ranks=self.ranks,
                say=self.say,
            )  # fmt: skip
        used = set().union(*(each.cached_files for each in batches), self.text.cached_files if self.text else ())
        tell_unused(folder, used, self.say)

    def _accelerator(self, state: State, place: PartialState) -> Accelerator:
        accelerator = Accelerator(
            gradient_accumulation_steps=self.config.accumulation,
            mixed_precision="no" if state.precision == "fp32" else state.precision,
            log_with=None if self.config.report_to == "none" else self.config.report_to,
            project_dir=self.config.out,
            cpu=place.device.type == "cpu",
        )
        start_tracker(accelerator, self.config)
        if accelerator.scaler is not None and state.loss_scale:
            accelerator.scaler.load_state_dict({**accelerator.scaler.state_dict(), "scale": state.loss_scale})
        return accelerator
