"""Commands of data sets, from build and triples to filter, calibrate, check and export."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ip2p.cli.help import Context, command_of
from ip2p.cli.lazy import make_app
from ip2p.cli.options import Overrides, refuse_unused
from ip2p.errors import ConfigError, DataError, InstructionError
from ip2p.plurals import counted

if TYPE_CHECKING:
    from ip2p.data_gen.calibration.labels import Label
    from ip2p.data_gen.config import DatasetConfig
    from ip2p.pairs.columns import Reading

_KEY_VALUE = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
_NO_LIMIT = 10**9
_Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="YAML file, or the name of one that comes with ip2p; if not given, the settings of the folder in out=.",
    ),
]

app = make_app(help="Build a data set of edits, filter, report on or verify it.", no_args_is_help=True)


def _config_class() -> "type[DatasetConfig]":
    from ip2p.data_gen.config import DatasetConfig

    return DatasetConfig


def _reading_class() -> "type[Reading]":
    from ip2p.pairs.columns import Reading

    return Reading


DatasetCommand = command_of(_config_class)
CheckCommand = command_of(_reading_class)


@app.command(cls=DatasetCommand)
def build(
    config: _Config = None,
    settings: Overrides = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that make pairs; 0 for one on each GPU, or on each core without any.")
    ] = 1,
    partition: Annotated[
        int | None,
        typer.Option(
            help="Make only the pairs of this share of the shards, from 0; in a Slurm array, that of its task."
        ),
    ] = None,
    n_partitions: Annotated[
        int | None, typer.Option(help="Number of shares; in a Slurm array, its number of tasks; 1 builds everything.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only estimate hours, UNet rows, bytes and USD; nothing is written.")
    ] = False,
    engine: Annotated[str, typer.Option(help="processes on this machine, or ray for a cluster.")] = "processes",
) -> None:
    """Build a data set, all stages, or resume.

    Without --config, a folder that is named by out= goes on with its own settings, such as those of its triples; what
    it does not say is as in storybook_dataset.yaml. KEY=VALUE replaces any of these.
    """
    checked = _dataset_config(config, settings)
    from ip2p.data_gen import pipeline
    from ip2p.data_gen.scale.parallelism import parse_parallelism
    from ip2p.data_gen.scale.partition import find_partition

    parallelism, share = parse_parallelism(workers, engine), find_partition(partition, n_partitions)
    pipeline.estimate(checked, parallelism, share) if dry_run else pipeline.run(checked, parallelism, share)


@app.command(cls=DatasetCommand)
def triples(
    context: Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CAPTION | KEY=VALUE]...", help="Captions for --preview; or config keys."),
    ] = None,
    writer: Annotated[str | None, typer.Option(help="Writer of triples: rules, openai, openai-batch or local.")] = None,
    model: Annotated[str | None, typer.Option(help="Language model: its name on the server, or a folder.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server.")] = None,
    captions: Annotated[
        str | None, typer.Option(help="File, folder or hub data set whose captions are all read.")
    ] = None,
    finished: Annotated[
        str | None, typer.Option(help="JSONL of finished triples, which are checked; no writer is asked.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder to write to; an existing one keeps its settings.")
    ] = "data/triples",
    max_usd: Annotated[float | None, typer.Option(help="Most that requests may cost, in USD.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens that requests may use.")] = None,
    preview: Annotated[
        int | None, typer.Option(min=1, help="Show this many edits of each caption and keep none.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="YAML file, or the name of one that comes with ip2p.")
    ] = None,
) -> None:
    """Turn captions into triples: caption, instruction, edited caption."""
    from ip2p.config import load_config
    from ip2p.data_gen import pipeline
    from ip2p.data_gen.build_file import load_settings
    from ip2p.data_gen.config import DatasetConfig

    refuse_unused(
        context, not finished, "beside --finished", "captions", "writer", "model", "base_url", "max_usd", "max_tokens",
    )  # fmt: skip
    refuse_unused(context, not preview, "beside --preview, which keeps nothing", "output")
    refuse_unused(context, not preview, "beside --preview, whose captions are arguments", "captions")
    texts = [word for word in words or () if not _KEY_VALUE.match(word)]
    if texts and not preview:
        raise InstructionError(f"the caption {texts[0]!r} has no use here", "Give --preview 5, or --captions FILE")
    given = {
        "out": output, "triples.file": finished, "triples.writer": "file" if finished else writer,
        "triples.model": model, "triples.base_url": base_url,
        "captions.source": captions, "captions.count": _NO_LIMIT if captions else None, "triples.max_usd": max_usd,
        "triples.max_tokens": max_tokens, "triples.per_caption": preview,
    }  # fmt: skip
    options = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    settings = [*options, *(each for each in words or () if _KEY_VALUE.match(each))]
    checked = load_config(DatasetConfig, config, settings) if preview else load_settings(config, settings, default=None)
    chosen = checked.triples.writer
    why = f"for the writer {chosen}"
    refuse_unused(context, chosen in ("openai", "openai-batch"), why, "base_url", "max_usd", "max_tokens")
    refuse_unused(context, chosen in ("openai", "openai-batch", "local"), why, "model")
    pipeline.show_triples(checked, texts) if preview else pipeline.write_triples(checked)


@app.command(cls=DatasetCommand)
def chat(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE | KEY=VALUE]...",
            help="JSONL of triples, or the folder of a build; if not given, the seed triples. Or config keys.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="JSONL file to write.")] = Path("data/chat.jsonl"),
) -> None:
    """Write triples as conversations in JSONL, to fine-tune a language model elsewhere.

    triples.seeds, triples.system, triples.inverse and triples.long_form say what is in them.
    """
    from ip2p.config import load_config
    from ip2p.data_gen.config import DatasetConfig
    from ip2p.data_gen.writers.chat import export_chat

    keys = [word for word in words or () if _KEY_VALUE.match(word)]
    source, *more = [word for word in words or () if word not in keys] or [""]
    if more:
        raise InstructionError(f"{more[0]} is one source too many", "Give one file or folder")
    count = export_chat(source, output, load_config(DatasetConfig, None, keys).triples)
    print(f"{output}: {counted(count, 'conversation')}")


@app.command()
def tune_writer(
    model: Annotated[str, typer.Argument(help="Causal language model: folder, hub id, or GGUF file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the adapter.")] = Path("runs/writer"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the seed triples.")] = 3,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the adapter's matrices.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-4,
    batch: Annotated[int, typer.Option(min=1, help="Seed triples in a training step.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of order, split and new weights.")] = 0,
    seeds: Annotated[str, typer.Option(help="JSONL of seed triples in place of those of ip2p.")] = "",
) -> None:
    """Fine-tune a language model on this machine to write triples, by LoRA on the seed triples."""
    from ip2p.data_gen.writers.local.tuning import Recipe, tune_writer
    from ip2p.data_gen.writers.seeds import open_seeds

    recipe = Recipe(epochs=epochs, rank=rank, learning_rate=learning_rate, batch=batch, seed=seed)
    tune_writer(model, output, recipe=recipe, seeds=open_seeds(seeds))
    print(f"{output}: use it by triples.writer=local triples.model={output}")


@app.command("filter", cls=DatasetCommand)
def refilter(config: _Config = None, settings: Overrides = None) -> None:
    """Filter and pack again with other thresholds; nothing is drawn.

    All settings are those of the folder, named by out=; KEY=VALUE replaces any of them.
    """
    checked = _dataset_config(config, settings, begun=True)
    from ip2p.data_gen import pipeline

    pipeline.refilter(checked)


@app.command(cls=DatasetCommand)
def report(config: _Config = None, settings: Overrides = None) -> None:
    """Write report.html of a data set again, with the settings of its folder."""
    checked = _dataset_config(config, settings, begun=True)
    from ip2p.data_gen import pipeline

    pipeline.report(checked)


@app.command(cls=DatasetCommand)
def review(
    config: _Config = None,
    settings: Overrides = None,
    count: Annotated[int, typer.Option(min=1, help="Pairs to mark, half of them kept and half refused.")] = 200,
) -> None:
    """Write review.html: mark pairs as good or bad with two keys, and save the marks as CSV."""
    checked = _dataset_config(config, settings, begun=True)
    from ip2p.data_gen import pipeline

    pipeline.review(checked, count)


@app.command(cls=DatasetCommand)
def calibrate(
    context: Context,
    config: _Config = None,
    settings: Overrides = None,
    precision: Annotated[float, typer.Option(help="Wanted share of fine pairs among the kept ones.")] = 0.95,
    labels: Annotated[
        str, typer.Option(metavar="judge|FILE", help="Storybook's judge, or the CSV of the review page.")
    ] = "judge",
    count: Annotated[int, typer.Option(min=1, help="Candidates that the judge labels.")] = 2000,
) -> None:
    """Find the thresholds that keep most pairs at a wanted precision: calibration.yaml and calibration.html.

    Half of the labels choose the thresholds, the other half measures them. The judge knows storybook's edits only, and
    is refused on captions of others.
    """
    refuse_unused(context, labels == "judge", "beside --labels FILE, of which all are taken", "count")
    checked = _dataset_config(config, settings, begun=True)
    from ip2p.data_gen import pipeline

    pipeline.calibrate(checked, _judge_label() if labels == "judge" else Path(labels), precision, count=count)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a build, or of a packed or exported data set.")],
) -> None:
    """Compare every file with its manifest: rows, size and hash."""
    from ip2p.data_gen.verify import verify

    verify(folder, say=print)


@app.command(cls=CheckCommand)
def check(
    path: Annotated[str, typer.Argument(help="Pairs: a file or folder in any of these layouts, or a hub data set.")],
    settings: Overrides = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV file of all faults, by row.")] = None,
) -> None:
    """Check pairs from any source, row by row; exits with 1 if any has a fault.

    Layouts: parquet, WebDataset, JSONL or CSV with picture files, control/ and target/, before/ after/ edits.csv, the
    tree of InstructPix2Pix's authors, save_to_disk. Training reads the same.

    It finds pictures that are unreadable, of unequal sizes, shifted from 0.3 pixels on, with borders that have grown,
    colours that have drifted, pairs that hardly differ, pictures that are near copies of those of other rows, and
    instructions that are empty or repeated. Shifts are looked for from 64 pixels on.
    """
    from ip2p.config import load_config
    from ip2p.data_gen.exchange.check import check_pairs, write_findings
    from ip2p.ownership import require_way
    from ip2p.pairs.columns import Reading
    from ip2p.pairs.read import read_pairs

    if output:
        require_way(output.parent)
    checked = check_pairs(read_pairs(path, load_config(Reading, None, settings or ())))
    if not checked.rows:
        raise DataError(f"there is no pair in {path}", "Give a data set with pairs")
    print(checked)
    if output:
        write_findings(checked.findings, output)
    if checked.findings:
        raise typer.Exit(1)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="Folder of a build or a data set, in any layout that `check` reads.")],
    to: Annotated[str, typer.Option(help="webdataset, ai-toolkit, musubi, diffusers, magicbrush or folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write, which does not exist yet.")],
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload it to the hub, too, as a private data set.")
    ] = None,
) -> None:
    """Write a data set in the layout of another trainer."""
    from ip2p.data_gen.exchange.export import LAYOUTS, export_pairs

    layout = next((each for each in LAYOUTS if each == to), None)
    if layout is None:
        raise ConfigError(f"--to {to} is no layout", f"Give one of {', '.join(LAYOUTS)}")
    if push:
        from ip2p.data_gen.exchange.push import push_dataset, require_push

        require_push(push)
    print(f"{output}: {counted(export_pairs(source, output, layout), 'pair')}")
    if push:
        print(push_dataset(output, push))


def _judge_label() -> "Label":
    """Return the function by which storybook's judge labels pairs."""
    from functools import partial

    from ip2p.measuring.verdicts import label_pairs
    from ip2p.storybook.judge import Judge

    return partial(label_pairs, Judge.from_pretrained())


def _dataset_config(config: str | None, settings: Sequence[str] | None, *, begun: bool = False) -> "DatasetConfig":
    """Load the config before anything heavy is imported."""
    from ip2p.data_gen.build_file import load_settings

    for each in settings or ():
        if "=" not in each and Path(each).is_dir():
            raise ConfigError(f"{each} is a folder, and here are settings", f"Write out={each}")
    return load_settings(config, settings or (), begun=begun)
