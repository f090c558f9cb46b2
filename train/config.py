"""The config of a fine-tuning run."""

from typing import Literal

from pydantic import Field

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
    base: str = Field(default="storybook-base", description="text-to-image model: bundled name, folder or hub id")
    dataset: str | DataSource | tuple[str | DataSource, ...] = Field(
        default="data/storybook/packed",
        description="data set, in any layout that `ip2p dataset check` reads, or hub data set; or a list of several, "
        "each also as {path: ..., weight: 2, columns: ..., instruction: ...}",
    )
    bad_rows: Literal["error", "skip"] = Field(
        default="error",
        description="whether rows that cannot be used end the run before its first step, or are left out",
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
        description="time limit in minutes besides steps, summed over all sessions; null for no limit",
    )
    steps: int = Field(default=1000, ge=1, description="optimizer steps")
    batch: int = Field(default=32, ge=1, description="pairs in a micro-batch of one process")
    accumulation: int = Field(default=1, ge=1, description="micro-batches in an optimizer step")
    cache_latents: bool = Field(default=False, description="encode every picture once and train on latents in memory")
    size: int = Field(default=0, ge=0, description="side of the training crop in pixels; 0 for the model's own")
    flip: bool = Field(default=True, description="mirror half of the samples left to right")

    train_text_encoder: bool = Field(default=False, description="train the text encoder as well as the UNet")
    optimizer: Literal["adamw", "muon"] = Field(
        default="adamw", description="adamw; or muon for matrices and convolution kernels, with AdamW for the rest"
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
        description="share of samples trained without text, and as many each without image and without both",
    )
    threads: int = Field(
        default=0, ge=0, description="threads of each process on a CPU; 0 shares all cores among the processes"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="precision; auto takes bf16 on a GPU that supports it, and on a CPU whichever measures faster",
    )

    checkpoint_every: int = Field(default=500, ge=1, description="optimizer steps between checkpoints")
    checkpoint_minutes: float = Field(default=10.0, gt=0, description="largest number of minutes between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1, description="number of newest checkpoints to keep")
    validate_every: int = Field(
        default=500, ge=1, description="optimizer steps between validations (held-out loss and a sheet of edits)"
    )
    report_to: str = Field(default="none", description="tracker known to accelerate, such as tensorboard; or none")
    text_scale: float = Field(default=7.5, ge=0, description="default text guidance scale of the editor")
    image_scale: float = Field(default=1.5, ge=0, description="default image guidance scale of the editor")

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
