"""Fine-tune an editor from a base model; a run that was killed resumes exactly."""

import copy
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

from ip2p.device import PRECISIONS, autocast, choose_precision, compile_unet, precision_name
from ip2p.diffusion.noise import ForwardProcess
from ip2p.models.backbone import latent_scale, latent_shift
from ip2p.pictures.read import open_image
from ip2p.progress import TrainingProgress
from ip2p.seeding import generator
from ip2p.train.adapters import has_lora, save_lora, without_lora
from ip2p.train.attention import choose_attention, require_attention, use_attention
from ip2p.train.batches import Batches
from ip2p.train.checkpoint import State
from ip2p.train.config import FinetuneConfig
from ip2p.train.interrupt import Interrupts
from ip2p.train.launcher import is_launched, settle
from ip2p.train.loop import Hyperparameters, StepResult, TrainingLoop
from ip2p.train.masks import Masks
from ip2p.train.objective import TrainingBatch, draw_randomness, editing_loss, make_training_batch
from ip2p.train.preference import preference_loss
from ip2p.train.prepare import count_steps, make_batches, open_sets, prepare
from ip2p.train.ranks import Ranks
from ip2p.train.result import push_editor, save_editor, write_report
from ip2p.train.run_folder import claim, find_checkpoint, write_note
from ip2p.train.schedule import learning_rate_factor, share_done
from ip2p.train.tensor_shards import tell_unused
from ip2p.train.text_embeddings import FrozenText
from ip2p.train.validation import Validation
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

    Writes under config.out: checkpoints/, metrics.jsonl, validation/*.png, and at the end editor/ (a diffusers folder
    of the averaged weights) and report.html.

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
        return run.finish()


class Run(TrainingLoop):
    """The training loop of an editor, see `fit`.

    Args:
        config: settings of the run.
        say: function that prints a line; used on the main process only.
    """

    def __init__(self, config: FinetuneConfig, say: Callable[[str], None]) -> None:
        place = process_state(config.threads)
        main = place.is_main_process
        self.say = say if main else lambda _: None
        self.config = config = settle(config, self.say)
        out = Path(config.out)
        if config.validation_image:
            open_image(config.validation_image, frame=0)  # one that cannot be read ends a run before it begins
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
        self.validation = Validation(
            Batches(self.pairs.held_out, self.backbone, size=side, seed=config.seed, flip=False),
            self.model, self.process, self.out / "validation",
        )  # fmt: skip

    @property
    def done(self) -> float:
        """Share of the run that is done, over all sessions, 0 to 1; the same on all ranks."""
        return share_done(self.state.step, self.config.steps, seconds=self.state.seconds, minutes=self.config.minutes)

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

    def save(self) -> None:
        """Write a checkpoint, with the places where all processes go on reading."""
        places = self.batches.places(self.state.samples, self.ranks)
        self.state = self.state.model_copy(update={"stream": places})
        super().save()

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

    def validate(self) -> None:
        """Compute the held-out loss and a sheet of edits with the averaged weights, on one rank; the others wait."""
        if self.accelerator.is_main_process:
            self.model.eval()
            with self.learner.averaged_weights():
                loss = self.validation.loss(self.config.batch)
                sheet = self.validation.sheet(
                    self.state.step,
                    text_scale=self.config.text_scale,
                    image_scale=self.config.image_scale,
                    prompt=self.config.validation_prompt,
                    picture=self.config.validation_image,
                )
            self.metrics.write(step=self.state.step, held_out_loss=loss)
            self.accelerator.log({"held_out_loss": loss}, step=self.state.step)
            self.progress.say(f"step {self.state.step}: held-out loss {loss:.4f}, edits in {sheet}")
        self.accelerator.wait_for_everyone()

    def finish(self) -> RunResult:
        """Write the editor and the report, or say how to resume if a signal stopped the run."""
        for batches in (self.batches, *([self.rejected] if self.rejected else [])):
            batches.close()
        if self.stopped:
            self.accelerator.end_training()
            self.say(f"stopped at step {self.state.step}, saved in {self.out}; the same command goes on from there")
            return RunResult(None, self.state.step, 128 + self.stop_signal)  # of all ranks, whichever had the signal
        editor = self.out / "editor"
        if self.accelerator.is_main_process:
            self.model.eval()
            with self.learner.averaged_weights():
                folded = without_lora(self.backbone)
                save_editor(folded, editor, self.config, self.state, pairs=self.batches.table)
                self._save_lora()
            report = write_report(self.out, self.state, pairs=len(self.batches.table))
            self.say(f"editor: {editor}\nreport: {report}")
            if self.config.push_to_hub:
                self.say(push_editor(editor, self.config.push_to_hub))
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return RunResult(editor, self.state.step, 0)

    def _save_lora(self) -> None:
        """Write the LoRA files where they are all that was trained, so that they fit the base model."""
        if not has_lora(self.backbone):
            return
        if self.backbone.unet.conv_in.weight.requires_grad:
            self.say(
                "no LoRA files: the base model has no channels for the picture, and the editor has them and all else"
            )
            return
        save_lora(self.backbone, self.out / "lora")
        self.say(f"LoRA: {self.out / 'lora'}, for {self.config.base}, in the layouts of diffusers and of kohya")

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
        accelerator.init_trackers("ip2p-finetune", self.config.model_dump(mode="json"))
        if accelerator.scaler is not None and state.loss_scale:
            accelerator.scaler.load_state_dict({**accelerator.scaler.state_dict(), "scale": state.loss_scale})
        return accelerator


def process_state(threads: int = 0) -> PartialState:
    """Set up rank, device and threads as `accelerate launch` or torchrun ask, with several ranks on CPUs too.

    Args:
        threads: CPU threads of each process; 0 shares all cores among the processes.
    """
    asked = parse_flag_from_env("ACCELERATE_USE_CPU")
    place = PartialState(cpu=asked or not torch.accelerator.is_available())
    if place.device.type == "cpu":
        # `accelerate launch` gives a process one thread, which would leave the other cores idle.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(threads or max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return place
