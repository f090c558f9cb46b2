"""The structure of the repository: imports, and places, names and lengths of modules."""

import ast
import importlib.metadata
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("ip2p", "data_gen", "train", "configs", "bench", "examples", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
LIBRARY = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("ip2p", "data_gen", "train", "configs")]
LAUNCHED = ("data_gen", "train", "train/storybook", "configs", "bench", "examples")
"""Folders whose files are run by path, so that they stand first on the path of modules."""
MAX_LINES = 400

TOP = {
    "builds",
    "conditioning",
    "config",
    "data_folders",
    "device",
    "errors",
    "hub",
    "manifest",
    "ownership",
    "plurals",
    "progress",
    "records",
    "seeding",
    "settings",
    "shards",
    "version",
    "__init__",
}
"""Modules of ip2p outside of any room, which every room may know and which know none."""
ROOMS: dict[str, set[str]] = {
    "pictures": set(),
    "models": set(),
    "diffusion": set(),
    "editing": {"pictures", "models", "diffusion"},
    "pairs": {"pictures"},
    "storybook": {"models"},
    "remote": set(),
    "measuring": {"pictures", "pairs", "models", "editing", "storybook", "remote"},
    "evaluation": {"pictures", "models", "editing", "storybook", "measuring", "remote"},
    "cli": set(),  # while it is imported; its commands import what they call when they run
}
"""Rooms of ip2p, and the other rooms that each may know."""


class Import(NamedTuple):
    """One import: its module, and whether it is at module level, in a function, or for type checkers only."""

    module: str
    when: Literal["import", "call", "types"]
    dots: int = 0


def imports(node: ast.AST, when: Literal["import", "call", "types"] = "import") -> Iterator[Import]:
    """Yield all imports in a syntax tree, with `from a import b` as a.b."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, when) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(f"{child.module}.{alias.name}", when, child.level) for alias in child.names)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(child, "call")
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from imports(child, "types")
        else:
            yield from imports(child, when)


IMPORTS = {path: list(imports(ast.parse(path.read_text()))) for path in SOURCES}


def installed_name(path: Path) -> str:
    """Return the dotted name of a module of the library: data_gen/rows.py is ip2p.data_gen.rows."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "ip2p" else ("ip2p", *parts)).removesuffix(".__init__")


MODULES = {installed_name(path) for path in LIBRARY}


def known(path: Path, *whens: str) -> set[str]:
    """Return the modules of the library that a file imports, of these kinds of imports or of all."""
    found = set()
    for each in IMPORTS[path]:
        names = (each.module, each.module.rpartition(".")[0])
        module = next((name for name in names if name in MODULES), None)
        if module and module != "ip2p" and (not whens or each.when in whens):
            found.add(module)
    return found


def place(module: str) -> str:
    """Return the package of a module, or the module itself if it is in none."""
    words = module.split(".")
    return ".".join(words[: 3 if words[1:2] in (["data_gen"], ["train"]) else 2])


def within(modules: set[str], package: str) -> set[str]:
    """Return the modules of a package."""
    return {module for module in modules if f"{module}.".startswith(f"{package}.")}


def test_data_gen_and_train_meet_only_on_disk() -> None:
    """data_gen -> ip2p <- train. Commands call both, when they run."""
    for path in LIBRARY:
        side = path.relative_to(ROOT).parts[0]
        others = {"data_gen", "train"} - {side}
        modules = known(path, "import") if "cli" in path.parts else known(path)
        assert not [found for other in others for found in within(modules, f"ip2p.{other}")], path


def test_rooms_know_only_the_rooms_below_them() -> None:
    for path in (ROOT / "ip2p").rglob("*.py"):
        room, *inside = path.relative_to(ROOT / "ip2p").parts
        allowed = ROOMS[room] | {room} if inside else set()
        modules = known(path, "import") if room in ("cli", "__init__.py") else known(path, "import", "call")
        rooms = {name for name in ROOMS if within(modules, f"ip2p.{name}")}
        assert rooms <= allowed, f"{path} knows {rooms - allowed}"


def test_no_module_of_ip2p_is_outside_of_a_room() -> None:
    assert {path.stem for path in (ROOT / "ip2p").glob("*.py")} == TOP
    assert {path.parent.name for path in (ROOT / "ip2p").glob("*/__init__.py")} == set(ROOMS)


def test_the_graph_of_rooms_has_no_cycle() -> None:
    """Rooms of ip2p, data_gen and train, with the modules that stand in none as rooms of their own."""
    graph: dict[str, set[str]] = {}
    for path in LIBRARY:
        name = place(installed_name(path))
        whens = ("import",) if name in ("ip2p", "ip2p.cli") else ("import", "call")
        graph.setdefault(name, set()).update(place(module) for module in known(path, *whens))
    for name, below in graph.items():
        below.discard(name)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_pairs_are_made_without_exact_targets_and_without_the_judge() -> None:
    """Exact renders and the judge are for evaluation only."""
    for path in (ROOT / "data_gen").rglob("*.py"):
        assert not known(path) & {"ip2p.storybook.render", "ip2p.storybook.judge"}, path


def test_imports_are_absolute_and_by_installed_name() -> None:
    """Files of mapped folders run by path and by name, so they know each other by their installed names."""
    for path in SOURCES:
        assert not [each for each in IMPORTS[path] if each.dots], path
        first = {each.module.partition(".")[0] for each in IMPORTS[path]}
        assert not first & {"data_gen", "train", "configs", "bench", "examples", "tests"}, path


def test_no_module_hides_a_library() -> None:
    """Running a file puts its folder first on the path: a train/logging.py would replace the standard library's."""
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions()) - {"ip2p"}
    for folder in LAUNCHED:
        names = {path.stem for path in (ROOT / folder).iterdir() if path.is_dir() or path.suffix == ".py"}
        assert not names & taken - {"__pycache__"}, folder


def test_files_are_short_and_say_what_they_are() -> None:
    for path in SOURCES:
        text = path.read_text()
        assert len(text.splitlines()) <= MAX_LINES, path
        assert ast.get_docstring(ast.parse(text)), path


def test_there_is_no_junk_drawer() -> None:
    assert not {path.name for path in SOURCES} & {"utils.py", "helpers.py", "misc.py", "common.py"}
