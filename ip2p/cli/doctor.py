"""The command doctor, which shows the machine and the installation, to find out why something does not work."""

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path

import typer

from ip2p.cli.lazy import make_app
from ip2p.cli.options import say
from ip2p.errors import ModelError

REQUIRED_PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "datasets",
    "pyarrow",
    "pillow",
    "pydantic",
    "typer",
)
OPTIONAL_PACKAGES = ("gguf",)

app = make_app()


@app.command()
def doctor() -> None:
    """Show what is installed, and what is wrong."""
    from rich.console import Console
    from rich.table import Table

    facts, problems = examine()
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    # Paths stay whole in files and pipes, which have no right edge.
    Console(width=None if sys.stdout.isatty() else 1000, markup=False, emoji=False, highlight=False).print(table)
    for problem in problems:
        say(problem)
    raise typer.Exit(1 if problems else 0)


def examine() -> tuple[list[tuple[str, str]], list[str]]:
    """Collect facts as (name, value), and problems, one line each."""
    import torch

    from ip2p.models.bundled import BUNDLED_NAMES, bundled_path

    facts = [("ip2p", _version("ip2p")), ("python", f"{platform.python_version()} on {platform.platform()}")]
    facts += [(name, _version(name)) for name in (*REQUIRED_PACKAGES, *OPTIONAL_PACKAGES)]
    facts += [("device", _device()), ("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores")]
    problems = []
    for name in BUNDLED_NAMES:
        try:
            folder = bundled_path(name)
            facts.append((name, f"{_size(folder) / 1e6:.1f} MB in {folder}"))
        except ModelError as error:
            facts.append((name, "missing"))
            problems.append(str(error))
    free = shutil.disk_usage(Path.cwd()).free
    facts.append(("disk", f"{free / 1e9:.1f} GB free in {Path.cwd()}"))
    if free < 1e9:
        problems.append(f"less than 1 GB is free in {Path.cwd()}. Make room before you build a data set or train")
    return facts, problems


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _device() -> str:
    """The GPU with its memory, or the CPU with the instructions that torch uses on it."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
    if torch.backends.mps.is_available():
        return "Apple GPU"
    return f"CPU, {torch.backends.cpu.get_cpu_capability()}"


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
