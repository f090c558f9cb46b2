"""The shape of the repository: who may import whom, what files may be called, and how long they may be."""

import ast
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ip2p", "data_gen", "train", "configs", "bench", "examples", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]
LIBRARY = [name for name in NAMES if name.startswith(("ip2p/", "data_gen/", "train/", "configs/"))]
LONGEST = 400


class Import(NamedTuple):
    """One import: what, how many dots before it, and whether it runs only when a function does."""

    module: str
    dots: int
    inside: bool


def imports(node: ast.AST, inside: bool = False) -> Iterator[Import]:
    """All imports in a syntax tree, `from a import b` as a.b."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, 0, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(f"{child.module}.{alias.name}", child.level, inside) for alias in child.names)
        else:
            yield from imports(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def imported(name: str) -> list[Import]:
    """All imports of a file."""
    return list(imports(ast.parse((ROOT / name).read_text())))


def from_package(found: list[Import], *packages: str) -> list[str]:
    """Those that come from one of these packages."""
    return [each.module for each in found if f"{each.module}.".startswith(tuple(f"{name}." for name in packages))]


@pytest.mark.parametrize("name", LIBRARY)
def test_arrows_point_one_way(name: str) -> None:
    """data_gen -> ip2p <- train; the two sides meet only on disk, and the library knows neither."""
    found = imported(name)
    if name.startswith("data_gen/"):
        assert not from_package(found, "ip2p.train")
    elif name.startswith("train/"):
        assert not from_package(found, "ip2p.data_gen")
    elif name.startswith("ip2p/cli/"):  # its commands call all stages, and import them when they run
        assert not from_package([each for each in found if not each.inside], "ip2p.data_gen", "ip2p.train")
    else:
        assert not from_package(found, "ip2p.data_gen", "ip2p.train")


@pytest.mark.parametrize("name", [name for name in LIBRARY if name.startswith("data_gen/")])
def test_pairs_are_made_without_exact_targets_and_without_the_judge(name: str) -> None:
    """What measures must not have made: renders and the judge are for evaluation."""
    assert not from_package(imported(name), "ip2p.storybook.render", "ip2p.storybook.judge")


@pytest.mark.parametrize("name", NAMES)
def test_imports_are_absolute_and_by_installed_name(name: str) -> None:
    """Files of mapped folders run by path and by name, so they know each other by their installed names."""
    found = imported(name)
    assert not [each.module for each in found if each.dots]
    assert not from_package(found, "data_gen", "train", "configs", "bench", "examples", "tests")


def test_no_module_hides_a_library() -> None:
    """Running a file puts its folder first on the path: a train/logging.py would replace the standard library's."""
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions()) - {"ip2p"}
    launched = [path for path in SOURCES if path.parent.name in ("data_gen", "train", "configs", "bench", "examples")]
    assert not {str(path.relative_to(ROOT)) for path in launched if path.stem in taken}


@pytest.mark.parametrize("name", NAMES)
def test_files_are_short_and_say_what_they_are(name: str) -> None:
    text = (ROOT / name).read_text()
    assert len(text.splitlines()) <= LONGEST
    assert ast.get_docstring(ast.parse(text))


def test_there_is_no_junk_drawer() -> None:
    assert not {path.name for path in SOURCES} & {"utils.py", "helpers.py", "misc.py", "common.py"}
