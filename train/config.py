"""The config of a fine-tuning run."""

from typing import Literal

from pydantic import Field, model_validator

from ip2p.config import Config
from ip2p.pairs.columns import Columns, Reading


class DataSource(Config):
    """A data set among several."""

    path: str = Field(description="folder, file, or hub data set")
    weight: float | None = Field(
        default=None, gt=0, description="share of the samples, against the weights of the others; null for its size"
    )
    columns: Columns | None = Field(default=None, description="names of its columns; null for those of the run")
    instruction: str | None = Field(default=None, description="instruction of all of its pairs; null for the run's")


class FinetuneConfig(Reading):
    """Settings for training an editor from a base model and packed pairs: `accelerate launch train/finetune.py`."""

    seed: int = Field(
        default=0, description="seed of the run; noise, order, crops and dropped conditions follow from it"
    )
    base: str = Field(
        default="storybook-base", description="text-to-image model or editor: bundled name, folder or hub id"
    )
    dataset: str | DataSource | tuple[str | DataSource, ...] = Field(
        default="data/storybook/packed",
        description="data set, in any layout that `ip2p dataset check` reads, or hub data set; or a list of several, "
        "each also as {path: ..., weight: 2, columns: ..., instruction: ...}",
    )
    bad_rows: Literal["error", "skip"] = Field(
        default="error",
        description="whether rows that cannot be used end the run before its first step, or are left out",
    )
    streaming: bool = Field(
        default=False,
        description="read the data set while training, for one that fits neither memory nor disk: each process its "
        "shards, in shuffled order",
    )
    shuffle_buffer: int = Field(
        default=1000, ge=1, description="pairs that are shuffled among each other when streaming"
    )
    candidates: Literal["all", "one"] = Field(
        default="all", description="pairs of a triple in an epoch: all that were kept, or a random one"
    )
    buckets: bool = Field(
        default=False, description="crop to shapes of about size x size pixels near each picture's own, one in a batch"
    )
    out: str = Field(default="runs/editor", description="folder for checkpoints, metrics, sheets and the editor")

    minutes: float | None = Field(
        default=None,
        gt=0,
        description="time limit in minutes besides steps, over all sessions, without validations; null for no limit",
    )
    steps: int = Field(default=1000, ge=1, description="optimizer steps, unless epochs are given")
    epochs: float | None = Field(
        default=None, gt=0, description="passes through the pairs, in place of steps; null for steps"
    )
    batch: int = Field(default=32, ge=1, description="pairs in a micro-batch of one process")
    accumulation: int = Field(default=1, ge=1, description="micro-batches in an optimizer step")
    cache_latents: bool = Field(
        default=False, description="encode every picture once, keep the latents on disk and train on these"
    )
    cache_folder: str = Field(
        default="runs/latents", description="folder of kept latents and embeddings, for all runs and processes"
    )
    cache_dtype: Literal["fp16", "fp32"] = Field(
        default="fp16", description="data type of kept latents and embeddings; fp32 takes twice the space"
    )
    size: int = Field(default=0, ge=0, description="side of the training crop in pixels; 0 for the model's own")
    resize: tuple[int, int] | None = Field(
        default=None,
        description="smallest and largest short side, in pixels, to which a pair is resized before the crop; "
        "null for the side of the crop",
    )
    flip: bool = Field(default=True, description="mirror half of the samples left to right")

    train_text_encoder: bool = Field(default=False, description="train the text encoder as well as the UNet")
    blocks: tuple[str, ...] = Field(
        default=(),
        description="parts of names of the UNet's modules that are trained, such as up_blocks or attn2; all if empty",
    )
    lora_rank: int = Field(default=0, ge=0, description="rank of LoRA matrices; 0 trains the weights themselves")
    lora_alpha: float | None = Field(
        default=None, gt=0, description="alpha of LoRA: products are scaled by alpha / rank; null for the rank"
    )
    lora_modules: tuple[str, ...] = Field(
        default=("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj"),
        description="ends of the names of the layers that get LoRA matrices",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="compute activations again in the backward pass: less memory, a third more time"
    )
    optimizer: Literal["adamw", "adamw8bit", "muon"] = Field(
        default="adamw",
        description="adamw; adamw8bit, of bitsandbytes, for a quarter of its memory; or muon for matrices and "
        "convolution kernels, with AdamW for the rest",
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="learning rate schedule after the warm-up"
    )
    warmup: int = Field(default=0, ge=0, description="optimizer steps of linear warm-up to the peak learning rate")
    weight_decay: float = Field(default=0.01, ge=0, description="weight decay, decoupled from the gradient")
    max_grad_norm: float = Field(
        default=1.0, ge=0, description="norm to which gradients are clipped; 0 for no clipping"
    )
    ema_decay: float = Field(
        default=0.9999, ge=0, lt=1, description="decay of the exponential moving average of the weights"
    )
    drop: float = Field(
        default=0.05,
        ge=0,
        le=1 / 3,
        description="share of samples trained without text; the same share each without image and without both",
    )
    min_snr_gamma: float | None = Field(
        default=None,
        gt=0,
        description="gamma of the min-SNR weights of the loss, such as 5; null for equal weights. With v-prediction, "
        "noisy timesteps, which decide what is edited, then hardly count",
    )
    noise_offset: float = Field(
        default=0.0, ge=0, le=1, description="offset noise for each channel of a picture, such as 0.1; 0 for none"
    )
    prediction_type: Literal["base", "epsilon", "v_prediction"] = Field(
        default="base", description="what the UNet learns to predict; base for what the base model predicts"
    )
    zero_terminal_snr: bool = Field(
        default=False,
        description="make the last timestep pure noise; needs v-prediction, and spaces timesteps trailing",
    )
    changed_weight: float = Field(
        default=0.0,
        ge=0,
        description="extra weight in the loss of pixels that the edit changes, by edit_mask or else by the latents",
    )
    dpo_beta: float | None = Field(
        default=None,
        gt=0,
        description="train on the data set's preference pairs by Diffusion-DPO, with this beta, such as 2000; "
        "null trains on its pairs",
    )
    ema_device: Literal["same", "cpu"] = Field(
        default="same", description="where the moving average is kept; cpu saves GPU memory and takes time"
    )
    threads: int = Field(
        default=0, ge=0, description="threads of each process on a CPU; 0 shares all cores among the processes"
    )
    workers: int = Field(
        default=0, ge=0, description="threads that decode pictures ahead; 0 for as many as there are cores, 8 at most"
    )
    attention: Literal["auto", "plain", "sdpa", "xformers"] = Field(
        default="auto",
        description="how attention is computed; auto takes SDPA on a GPU, and on a CPU whichever measures faster",
    )
    compile: bool = Field(
        default=False, description="compile the UNet, which takes minutes at the start; needs a C++ compiler"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="precision; auto takes bf16 on a GPU that supports it, and on a CPU whichever measures faster",
    )

    checkpoint_every: int = Field(default=500, ge=1, description="optimizer steps between checkpoints")
    checkpoint_minutes: float = Field(default=10.0, gt=0, description="largest number of minutes between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1, description="number of newest checkpoints to keep")
    validate_every: int = Field(
        default=500,
        ge=1,
        description="optimizer steps between validations (held-out loss and a sheet of edits); the first at step 0",
    )
    validation_edits: int = Field(
        default=6, ge=0, description="edits on each sheet, of held-out pairs with different pictures; 0 for none"
    )
    validation_clip: str | None = Field(
        default=None, description="CLIP model that scores these edits: bundled name, folder or hub id; null for none"
    )
    validation_exact: int = Field(
        default=0,
        ge=0,
        description="held-out scenes of storybook's world that are edited and compared with their exact targets, pixel "
        "by pixel; none with any other base",
    )
    early_stop: int | None = Field(
        default=None,
        ge=1,
        description="validations in a row without a new lowest held-out loss that end a run; null for none",
    )
    validation_prompt: str | None = Field(
        default=None, description="instruction of one more edit on each sheet; null for none"
    )
    validation_image: str | None = Field(
        default=None, description="picture file that validation_prompt edits; null for a held-out one"
    )
    push_to_hub: str | None = Field(
        default=None, description="model on the hub to which the editor is uploaded at the end; null for none"
    )
    report_to: str = Field(default="none", description="tracker known to accelerate, such as tensorboard; or none")
    text_scale: float = Field(default=7.5, ge=0, description="default text guidance scale of the editor")
    image_scale: float = Field(default=1.5, ge=0, description="default image guidance scale of the editor")

    @model_validator(mode="after")
    def _fits_together(self) -> "FinetuneConfig":
        if self.resize and not max(1, self.size) <= self.resize[0] <= self.resize[1]:
            raise ValueError(f"resize={list(self.resize)} is no range from at least size={self.size}")
        if self.dpo_beta and (self.changed_weight or self.min_snr_gamma):
            raise ValueError("dpo_beta weights errors itself: it goes without changed_weight and min_snr_gamma")
        if self.dpo_beta and self.bad_rows == "skip":
            raise ValueError("dpo_beta needs both edits of every preference pair, and goes without bad_rows=skip")
        self._can_stream()
        return self

    def _can_stream(self) -> None:
        """Check that nothing is asked for that needs all rows at once."""
        if not self.streaming:
            return
        needs = {
            "buckets": self.buckets, "candidates=one": self.candidates == "one", "epochs": self.epochs is not None,
            "dpo_beta": self.dpo_beta is not None, "several data sets": len(self.datasets) > 1,
        }  # fmt: skip
        if given := [name for name, is_given in needs.items() if is_given]:
            raise ValueError(f"streaming reads each row once and in order, which does not go with {', '.join(given)}")
        if self.shuffle_buffer < 2 * self.batch:
            raise ValueError(f"shuffle_buffer={self.shuffle_buffer} is less than two batches of {self.batch}")

    @property
    def datasets(self) -> tuple[DataSource, ...]:
        """All data sets to train on, each with its columns and its instruction."""
        given = self.dataset if isinstance(self.dataset, tuple) else (self.dataset,)
        sources = [DataSource(path=each) if isinstance(each, str) else each for each in given]
        return tuple(
            each.model_copy(
                update={
                    "columns": self.columns if each.columns is None else each.columns,
                    "instruction": self.instruction if each.instruction is None else each.instruction,
                }
            )
            for each in sources
        )
