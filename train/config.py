"""The config of a fine-tuning."""

from typing import Literal

from pydantic import Field

from ip2p.config import Config


class FinetuneConfig(Config):
    """Training an editor from a base model and packed pairs: `accelerate launch train/finetune.py`."""

    seed: int = Field(default=0, description="of the run; noise, order, crops and dropping follow from it")
    base: str = Field(default="storybook-base", description="text-to-image model: bundled name, folder or hub id")
    dataset: str | tuple[str, ...] = Field(
        default="data/storybook/packed", description="folder of a packed data set, or a hub data set; or several"
    )
    out: str = Field(default="runs/editor", description="folder of checkpoints, metrics, sheets and the editor")

    minutes: float | None = Field(default=None, gt=0, description="end by the clock too, counted over all sessions")
    steps: int = Field(default=1000, ge=1, description="optimizer steps")
    batch: int = Field(default=32, ge=1, description="pairs in a micro-batch of one process")
    accumulation: int = Field(default=1, ge=1, description="micro-batches in a step")
    cache_latents: bool = Field(default=False, description="encode every picture once and train from memory")
    size: int = Field(default=0, ge=0, description="side of the training crop in pixels; 0 for the model's own")
    flip: bool = Field(default=True, description="mirror half of the samples")

    train_text_encoder: bool = Field(default=False, description="train the text encoder too, not the UNet alone")
    optimizer: Literal["adamw", "muon"] = Field(default="adamw", description="muon: for matrices and kernels")
    learning_rate: float = Field(default=1e-4, gt=0, description="at its peak")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="of the learning rate after the warm-up"
    )
    warmup: int = Field(default=0, ge=0, description="steps until the learning rate is at its peak")
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled from the gradient")
    max_grad_norm: float = Field(default=1.0, ge=0, description="clip the gradient's norm to this; 0 for no clipping")
    ema_decay: float = Field(default=0.9999, ge=0, lt=1, description="of the moving average of the weights")
    drop: float = Field(
        default=0.05, ge=0, le=1 / 3, description="share of samples without text, without image, without both, each"
    )
    threads: int = Field(default=0, ge=0, description="of a process on a CPU; 0 shares all cores among the ranks")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto measures on a CPU and takes bf16 where a GPU has it"
    )

    checkpoint_every: int = Field(default=500, ge=1, description="steps between checkpoints")
    checkpoint_minutes: float = Field(default=10.0, gt=0, description="minutes after which one comes in any case")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints that stay")
    validate_every: int = Field(default=500, ge=1, description="steps between held-out losses and sheets of edits")
    report_to: str = Field(default="none", description="tracker that accelerate knows, such as tensorboard; or none")
    text_scale: float = Field(default=7.5, ge=0, description="default text guidance of the editor")
    image_scale: float = Field(default=1.5, ge=0, description="default image guidance of the editor")

    @property
    def datasets(self) -> tuple[str, ...]:
        """All data sets that are trained on."""
        return (self.dataset,) if isinstance(self.dataset, str) else self.dataset
