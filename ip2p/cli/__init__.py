"""The command line. A command imports its modules when it runs, so that `ip2p --help` is fast.

Every expected failure is one line on stderr and exit code 2: `ip2p: what was wrong. What to do`.
"""

import codecs
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

import ip2p
from ip2p.cli.lazy import LazyCommands, make_app
from ip2p.errors import ConfigError, find_expected, one_line

app = make_app(
    cls=LazyCommands, help="Edit pictures by instruction, and make the models that do it.", no_args_is_help=True
)


def say(message: str) -> None:
    """Print a message to stderr, apart from the results."""
    print(f"ip2p: {message}", file=sys.stderr)


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
    """Run the console script."""
    _prepare_streams()
    sys.exit(run(sys.argv[1:]))


def _prepare_streams() -> None:
    """Lead closed standard streams nowhere, so that no file gets their numbers, and let any text be printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            is_utf8 = codecs.lookup(stream.encoding).name == "utf-8"
            if stream.errors == "strict" or not is_utf8:  # a name of a file may have any bytes
                stream.reconfigure(errors="backslashreplace")


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code: 2 for an expected failure, 1 for any other, 130 for Ctrl-C.

    With --debug anywhere among the arguments, errors are raised with their traceback.
    """
    words = [word for word in arguments if word != "--debug"]
    debug = len(words) < len(arguments)
    try:
        with warnings.catch_warnings(), _print_log():
            warnings.showwarning = _show_warning
            _require_folder()
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


def _require_folder() -> None:
    """Check that the current folder is there, without which libraries end the process.

    Raises:
        ConfigError: it has been deleted.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise ConfigError("the current folder has been deleted", "Change to another one") from error


@contextmanager
def _print_log() -> Iterator[None]:
    """Context manager that prints log messages of the library as lines `ip2p: ...`."""
    logger, handler = logging.getLogger("ip2p"), logging.Handler(logging.INFO)
    before = logger.level
    handler.emit = lambda record: say(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ip2p on one line; warnings of libraries are hidden."""
    if Path(filename).is_relative_to(Path(ip2p.__file__).parent):
        say(str(message))


def _explain(error: Exception) -> tuple[str, int]:
    """Describe a failure in one line, with its exit code."""
    if expected := find_expected(error):
        from ip2p.cli.options import with_flags

        return with_flags(expected), 2
    if isinstance(error, typer.TyperException):
        said = error.format_message().rstrip(".")
        return f"{said}{'' if said.endswith('?') else '.'} See `ip2p --help`", 2
    said = one_line(error, 300)
    return f"{type(error).__name__}: {said}. This should not happen; run again with --debug", 1
