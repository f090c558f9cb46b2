"""The command line. A command imports what it needs when it runs, so that `ip2p --help` answers at once.

Every expected failure is one line on stderr and exit code 2: `ip2p: what was wrong. What to do`.
"""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TextIO

import typer

import ip2p
from ip2p.cli import batch, dataset, doctor, edit, models
from ip2p.cli.options import say
from ip2p.errors import Ip2pError

app = typer.Typer(
    help="Edit pictures by instruction, and make the models that do it.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,  # rich takes longer to import than all of this
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(edit.app)
app.add_typer(batch.app)
app.add_typer(dataset.app, name="dataset")
app.add_typer(models.app)
app.add_typer(doctor.app)


def _version(wanted: bool) -> bool:
    if wanted:
        print(f"ip2p {ip2p.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Edit pictures by instruction, and make the models that do it."""


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code: 2 for what was expected to fail, 1 for the rest, 130 for Ctrl-C.

    --debug, anywhere among the arguments, lets errors through with their traceback.
    """
    words = [word for word in arguments if word != "--debug"]
    debug = len(words) < len(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = int(app(words or ["--help"], prog_name="ip2p", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if debug:
            raise
        message, code = _explain(error)
        say(message)
    if code == 130:
        say("interrupted")
    return code


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What ip2p warns of is one line; what libraries say to their programmers is left out."""
    if Path(filename).is_relative_to(Path(ip2p.__file__).parent):
        say(str(message))


def _explain(error: Exception) -> tuple[str, int]:
    """One line about a failure, and its exit code."""
    if isinstance(error, Ip2pError):
        return str(error), 2
    if isinstance(error, typer.TyperException):
        return f"{error.format_message().rstrip('.')}. See `ip2p --help`", 2
    said = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {said}. This should not happen; run again with --debug", 1
