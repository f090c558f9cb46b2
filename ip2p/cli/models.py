"""Commands of models: finetune and convert."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ip2p.cli.help import GroupedCommand, command_of
from ip2p.cli.lazy import make_app
from ip2p.cli.options import (
    AllowPickle,
    ModelConfig,
    Overrides,
    TrainingConfig,
    Weights,
    say_weights,
)
from ip2p.errors import ConfigError

if TYPE_CHECKING:
    from ip2p.train.config import FinetuneConfig

app = make_app()


def _config_class() -> "type[FinetuneConfig]":
    from ip2p.train.config import FinetuneConfig

    return FinetuneConfig


@app.command(cls=command_of(_config_class))
def finetune(
    config: TrainingConfig = None,
    settings: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print settings, GPU memory and hours, and train nothing.")
    ] = False,
) -> None:
    """Train an editor on a packed data set, or resume.

    KEY=VALUE replaces what the config file sets; a key that neither sets has its default. Without a file,
    storybook_finetune.yaml for a base of storybook's world, and the paper's settings for any other.
    """
    from ip2p.train.finetune import finetune as train

    raise typer.Exit(train(config, settings or (), dry_run=dry_run))


@app.command(cls=GroupedCommand)
def convert(
    source: Annotated[str, typer.Argument(help="Folder, single file, hub id or bundled name of a model.")],
    target: Annotated[Path, typer.Argument(help="A .safetensors file in the original layout, or else a folder.")],
    dtype: Annotated[
        str | None,
        typer.Option(help="fp32, fp16 or bf16; the source's own if not given.", rich_help_panel="Output"),
    ] = None,
    config: ModelConfig = None,
    weights: Weights = None,
    allow_pickle: AllowPickle = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a model that another program wrote.", rich_help_panel="Output"),
    ] = False,
) -> None:
    """Turn a model folder into one file of the original layout (ComfyUI, from_single_file), or back."""
    names = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
    if dtype is not None and dtype not in names:
        raise ConfigError(f"there is no precision {dtype!r}", f"Give one of {', '.join(names)}")
    import torch

    from ip2p.models.convert import convert as write

    choice: Any = weights
    used = write(
        source, target, dtype=getattr(torch, names[dtype]) if dtype else None, config=config, weights=choice,
        allow_pickle=allow_pickle, overwrite=overwrite,
    )  # fmt: skip
    say_weights(used)
    print(target)
