"""Lazy commands, which are imported when they are called, so that `ip2p --help` is fast."""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

MODULES: dict[str, tuple[str, str]] = {
    "edit": ("edit", "Edit a picture by one instruction, or by several in sequence."),
    "generate": ("edit", "Draw a picture from a caption."),
    "inspect": ("edit", "Show how a picture was made, and the command that makes it again."),
    "batch": ("batch", "Make the edits listed in a file, or resume. Options apply to rows that do not set their own."),
    "grid": ("batch", "Draw one edit at many pairs of guidance scales, on one sheet."),
    "dataset": ("dataset", "Build a data set of edits, filter, report on or verify it."),
    "finetune": ("models", "Train an editor on a packed data set, or resume."),
    "convert": (
        "models",
        "Turn a model folder into one file of the original layout (ComfyUI, from_single_file), or back.",
    ),
    "evaluate": ("evaluate", "Measure an editor beside baselines and bounds, or compare two evaluations."),
    "doctor": ("doctor", "Show what is installed, and what is wrong."),
}
"""Module and help text of each command."""


def make_app(**attributes: Any) -> typer.Typer:
    """Make a typer app with the options of all ip2p commands."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if sys.stdout and sys.stdout.isatty() else None,  # importing rich takes a while
        context_settings={"help_option_names": ["-h", "--help"]},
        **attributes,
    )


class LazyCommands(TyperGroup):
    """The group of all commands, with names and help texts that need no imports."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=words) for name, (_, words) in MODULES.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve the command of a command line, and its arguments."""
        name, command, others = super().resolve_command(ctx, args)
        return name, load_command(name) if name in MODULES else command, others


def load_command(name: str) -> Any:
    """Import a command."""
    app: typer.Typer = importlib.import_module(f"ip2p.cli.{MODULES[name][0]}").app
    command: Any = get_command(app)
    return getattr(command, "commands", {}).get(name, command)


def load_commands() -> dict[str, Any]:
    """Import all commands, by name."""
    return {name: load_command(name) for name in MODULES}
