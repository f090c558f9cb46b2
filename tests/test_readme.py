"""What the README promises is there: commands, options, files; and every file is on its map."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from ip2p.cli import app
from ip2p.cli.lazy import load_commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.partition("  #")[0].strip()
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
MAPPED = ("ip2p", "data_gen", "train", "configs", "bench", "examples", "docs")


def on_the_map() -> set[str]:
    """Files of docs/map.md, by path, each of which has words about it."""
    folder, files = "", set()
    for line in (ROOT / "docs/map.md").read_text().splitlines():
        if line.startswith("## "):
            folder = heading[1] if (heading := re.match(r"## `([\w/-]+/)`: \w", line)) else ""
        elif line.startswith("- "):
            entry = re.fullmatch(r"- `([\w./-]+)`: \S.*", line)
            assert entry, f"not a file with words about it: {line}"
            files.add(folder + entry[1])
    return files


def options_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the words after it."""
    command, commands = typer.main.get_command(app), load_commands()
    while commands and words and not words[0].startswith("-"):
        assert words[0] in commands, f"no command {words[0]}"
        command, words = commands[words[0]], words[1:]
        commands = getattr(command, "commands", {})
    return command, words


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist(line: str) -> None:
    words = shlex.split(line)
    match words:
        case ["make", target, *_]:
            assert target in TARGETS
        case ["ip2p", *rest]:
            command, rest = options_of(rest)
            known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
            used = {word for word in rest if re.fullmatch(r"--?[a-z][a-z-]*", word)}
            assert used <= known | {"--help"}
        case ["python", file, *_] | ["accelerate", "launch", file, *_]:
            assert (ROOT / file).is_file()
        case ["git" | "cd" | "pip", *_]:
            pass
        case _:
            pytest.fail(f"the README runs something unknown: {line}")


def test_the_main_commands_are_told() -> None:
    output = " ".join(COMMANDS)
    for command in ("make demo", "make test", "make dataset", "accelerate launch train/finetune.py", "ip2p edit"):
        assert command in output


def test_every_file_is_on_the_map_and_the_map_shows_no_other() -> None:
    there = {
        str(path.relative_to(ROOT))
        for folder in MAPPED
        for pattern in ("*.py", "*.yaml")
        for path in (ROOT / folder).rglob(pattern)
        if path.name != "__init__.py"
    }
    shown = on_the_map()
    assert {name for name in shown if name.endswith((".py", ".yaml"))} == there
    assert all((ROOT / name).is_file() for name in shown)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert not [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]


def test_python_of_the_readme_is_python() -> None:
    for language, block in BLOCKS:
        if language == "python":
            compile(block, "README.md", "exec")
