"""Commands of the data set: its stages, and what can be done with it later."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ip2p.cli.options import ConfigFile, Overrides
from ip2p.errors import InstructionError

if TYPE_CHECKING:
    from ip2p.data_gen.config import DatasetConfig

_KEY_VALUE = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
_NO_LIMIT = 10**9

app = typer.Typer(help="Build a data set of edits, filter it anew, or report on it.", no_args_is_help=True)


@app.command()
def build(config: ConfigFile = "storybook_dataset.yaml", settings: Overrides = None) -> None:
    """Make or go on with a data set, all stages."""
    checked = _dataset_config(config, settings)
    from ip2p.data_gen import pipeline

    pipeline.build(checked)


@app.command()
def triples(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[CAPTION | KEY=VALUE]...", help="For --preview; or settings.")
    ] = None,
    writer: Annotated[str | None, typer.Option(help="rules, openai, openai-batch or local.")] = None,
    model: Annotated[str | None, typer.Option(help="Language model: name at the server, or folder.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Of an OpenAI-compatible server.")] = None,
    captions: Annotated[str | None, typer.Option(help="File, folder or hub data set; all of it.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder.")] = "data/triples",
    max_usd: Annotated[float | None, typer.Option(help="Money that requests may cost at most.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens that requests may cost at most.")] = None,
    preview: Annotated[int | None, typer.Option(min=1, help="Show so many edits of each caption; keep none.")] = None,
    config: Annotated[str | None, typer.Option("--config", help="YAML file of a data set.")] = None,
) -> None:
    """Turn captions into triples: caption, instruction, edited caption."""
    from ip2p.config import load_config
    from ip2p.data_gen import pipeline
    from ip2p.data_gen.config import DatasetConfig

    texts = [word for word in words or () if not _KEY_VALUE.match(word)]
    if texts and not preview:
        raise InstructionError(f"nothing is done with the caption {texts[0]!r}", "Give --preview 5, or --captions FILE")
    given = {
        "out": output, "triples.writer": writer, "triples.model": model, "triples.base_url": base_url,
        "captions.source": captions, "captions.count": _NO_LIMIT if captions else None, "triples.max_usd": max_usd,
        "triples.max_tokens": max_tokens, "triples.per_caption": preview,
    }  # fmt: skip
    options = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    checked = load_config(DatasetConfig, config, [*options, *(each for each in words or () if _KEY_VALUE.match(each))])
    if preview:
        pipeline.show_triples(checked, texts)
    else:
        pipeline.write_triples(checked)


@app.command()
def tune_writer(
    model: Annotated[str, typer.Argument(help="Causal language model: folder, hub id, or GGUF file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the adapter.")] = Path("runs/writer"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the seed triples.")] = 3,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapter's matrices.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="At its peak.")] = 2e-4,
    batch: Annotated[int, typer.Option(min=1, help="Seed triples in a step.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of order, split and new weights.")] = 0,
) -> None:
    """Fine-tune a language model on this machine to write triples, by LoRA on the seed triples."""
    from ip2p.data_gen.writers.local.tuning import Recipe, tune_writer

    recipe = Recipe(epochs=epochs, rank=rank, learning_rate=learning_rate, batch=batch, seed=seed)
    tune_writer(model, output, recipe=recipe)
    print(f"{output}: use it by triples.writer=local triples.model={output}")


@app.command("filter")
def refilter(config: ConfigFile = "storybook_dataset.yaml", settings: Overrides = None) -> None:
    """Filter and pack anew with other thresholds; nothing is drawn."""
    checked = _dataset_config(config, settings)
    from ip2p.data_gen import pipeline

    pipeline.refilter(checked)


@app.command()
def report(config: ConfigFile = "storybook_dataset.yaml", settings: Overrides = None) -> None:
    """Write report.html of a data set anew."""
    checked = _dataset_config(config, settings)
    from ip2p.data_gen import pipeline

    pipeline.report(checked)


def _dataset_config(config: str, settings: Sequence[str] | None) -> "DatasetConfig":
    """Checked before anything heavy is imported."""
    from ip2p.config import load_config
    from ip2p.data_gen.config import DatasetConfig

    return load_config(DatasetConfig, config, settings or ())
