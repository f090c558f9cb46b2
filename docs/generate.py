"""Write docs/cli.md and docs/configuration.md from the code: `make docs`. With --check, tell whether they are stale."""

import argparse
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from typer.main import get_command

from ip2p.cli import app
from ip2p.cli.help import PANELS, key_groups, panel_of
from ip2p.cli.lazy import load_commands
from ip2p.data_gen.config import DatasetConfig
from ip2p.editing.batch_rows import BatchRow
from ip2p.settings import EditSettings, GenerationSettings, SamplingSettings, settings_of
from ip2p.train.config import FinetuneConfig

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from the code: change it there, then run `make docs`. -->"

CONFIGS: dict[str, tuple[type[BaseModel], str, str]] = {
    "Data sets": (
        DatasetConfig,
        "`ip2p dataset build`, `filter`, `report` and `triples`, and `python data_gen/pipeline.py`, read these keys.",
        "meaning",
    ),
    "Training": (
        FinetuneConfig,
        "`ip2p finetune` and `accelerate launch train/finetune.py` read these keys.",
        "meaning",
    ),
    "Rows of a batch": (
        BatchRow,
        "Each line of the file that `ip2p batch` reads is a JSON object with these keys. `image` and one of "
        "`instruction` and `instructions` are required. Every sampling setting of an editor is a key, too.",
        "allowed values",
    ),
}
"""Classes of configs by title, each with a word about it and the heading of what its fields say of themselves."""
SETTINGS: dict[str, type[SamplingSettings]] = {
    "Every model": SamplingSettings,
    "Editors": EditSettings,
    "Text-to-image models": GenerationSettings,
}
SAMPLING = """\
Each is an option of the command line and an argument in Python (`strength` of `img2img` alone); those of an editor are
keys of a batch row, too. A model folder may have an `ip2p.json` with values of its own, and a preset sets several.
[editing.md](editing.md) explains what they do.
"""
INTRODUCTION = """\
A config is a YAML file, given by `--config`: the path of one, or the name of one in `configs/`. After it,
`key=value` changes single values, with a dot for a key inside another, such as `pairs.steps=30`; values are YAML
without comments. An unknown key or a value out of range is an error that names the remedy. Defaults are those of the
code; the bundled files set some keys to other values.
"""


def main() -> None:
    """Write both pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale")
    check = parser.parse_args().check
    pages = {DOCS / "cli.md": command_page(), DOCS / "configuration.md": configuration_page()}
    stale = [path for path, text in pages.items() if not path.is_file() or path.read_text() != text]
    if check and stale:
        sys.exit(f"stale: {', '.join(f'docs/{path.name}' for path in stale)}. Run `make docs`")
    for path in stale:
        path.write_text(pages[path])


def configuration_page() -> str:
    """Every key of every config, class by class."""
    lines = [NOTE, "", "# Configuration", "", INTRODUCTION]
    for title, (config, about, last) in CONFIGS.items():
        lines += [f"## {title}", "", textwrap.fill(about, 120, break_on_hyphens=False), ""]
        for group in key_groups(config):
            if group.prefix:
                lines += [f"### `{group.prefix}`", "", group.about, ""]
            rows = [(f"`{key.name}`", key.type, f"`{key.default}`", key.meaning) for key in group.keys]
            lines += [*table(("key", "type", "default", last), rows), ""]
    lines += ["## Sampling", "", SAMPLING]
    for title, kind in SETTINGS.items():
        rows = [
            (
                f"`{name}`",
                f"`{setting.flags[0]}`",
                f"`{kind.model_fields[name].default}`",
                setting.allowed,
                setting.help,
            )
            for name, setting in settings_of(kind).items()
            if kind is SamplingSettings or name not in SamplingSettings.model_fields
        ]
        lines += [f"### {title}", "", *table(("setting", "option", "default", "values", "meaning"), rows), ""]
    return "\n".join(lines)


def command_page() -> str:
    """Every command with its arguments and options."""
    intro = (
        "The same text as that of `ip2p COMMAND --help`. "
        "What KEY=VALUE may set is in [configuration.md](configuration.md)."
    )
    lines = [NOTE, "", "# Command line", "", intro, "", *describe("ip2p", get_command(app))]
    for name, command in commands(load_commands(), "ip2p"):
        lines += [f"## `{name}`", "", *describe(name, command)]
    return "\n".join(lines)


def commands(group: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Commands of a group and of the groups in it, each with its full name."""
    for word, command in group.items():
        yield f"{name} {word}", command
        yield from commands(getattr(command, "commands", {}), f"{name} {word}")


def describe(name: str, command: Any) -> list[str]:
    """Describe a command: what it does, how it is called, and a table of its parameters for each group of them."""
    context = typer.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [command.help, "", "```text", usage, "```", ""]
    order = ("Arguments", *PANELS, "Options")
    for panel in sorted({panel_of(each) for each in command.params}, key=order.index):
        records = [each.get_help_record(context) for each in command.params if panel_of(each) == panel]
        rows = [(f"`{name}`", " ".join(meaning.split())) for name, meaning in filter(None, records)]
        lines += [*table((panel, "meaning"), rows), ""]
    return lines


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A table in Markdown."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *cells)]


if __name__ == "__main__":
    main()
