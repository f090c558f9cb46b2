"""The runs that an editor is from: their progress, their commands, and the editors that they went on from.

A run's editors have their progress beside them, see `ip2p.models.bundled.PROGRESS_FILE`. A bundled editor has a
record of its runs, with that of the editor that these began with inside it, and so on.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ip2p.config import load_config
from ip2p.errors import ModelError
from ip2p.models.bundled import PROGRESS_FILE, RECORD_FILE
from ip2p.shards import fingerprint
from ip2p.train.checkpoint import State, load_newest
from ip2p.train.config import FinetuneConfig

EDITOR_NAME = "storybook-editor"
FINETUNE_CONFIG = Path(__file__).parents[2] / "configs" / "storybook_finetune.yaml"
PLACES = ("base", "dataset", "out", "cache_folder")
"""Settings of a run that say where things were, and nothing about how it was trained."""


def training_command(state: State) -> str:
    """Return the command of a run, with the settings in which it differs from configs/storybook_finetune.yaml.

    Of the folders of pairs only the last two parts are named, as if they were in `data`, and of the folder of the run
    the last, as if it were in `runs`: the others are those of one machine.
    """
    usual = load_config(FinetuneConfig, FINETUNE_CONFIG, []).model_dump(mode="json")
    changed = {
        name: value for name, value in state.config.items()
        if name in usual and name not in PLACES and value != usual[name]
    }  # fmt: skip
    base = {"base": EDITOR_NAME} if state.base_runs or state.config.get("base") == EDITOR_NAME else {}
    pairs = state.config.get("dataset") or []
    named = [_name_folder(each) for each in ([pairs] if isinstance(pairs, str) else pairs)]
    data = {"dataset": f"[{','.join(named)}]"} if named and pairs != usual["dataset"] else {}
    out = {"out": _name_run(state)} if _name_run(state) != usual["out"] else {}
    words = [shlex.quote(f"{name}={value}") for name, value in (base | data | out | changed).items()]
    return " ".join(["accelerate launch train/finetune.py", *words])


def _name_folder(folder: str) -> str:
    parts = Path(folder).parts[-2:]
    return "/".join(parts if parts[0] == "data" else ("data", *parts))


def _name_run(state: State) -> str:
    return f"runs/{Path(state.config.get('out', 'editor')).name}"


def export_command(folders: Sequence[Path], states: Sequence[State | None], options: Sequence[str]) -> str:
    """Return the command of an export, which names each editor as if its run were in `runs`, and its optimizer steps.

    Args:
        folders: folders of the editors.
        states: progress of the run of each, as of that editor; None of an editor of no run.
        options: options of the export.
    """
    editors = [_name_editor(folder, state) for folder, state in zip(folders, states, strict=True)]
    steps = [f"{state.step:,}" for state in states if state]
    told = f"  # after {' and '.join(steps)} steps" if len(steps) == len(folders) else ""
    return shlex.join(["python", "train/storybook/editor.py", *editors, *options]) + told


def _name_editor(folder: Path, state: State | None) -> str:
    if (folder / RECORD_FILE).is_file():
        return EDITOR_NAME  # the bundled one, or one before it
    folder = folder.resolve()
    return f"{_name_run(state) if state else f'runs/{folder.parent.name}'}/{folder.name}"


def run_id(state: State) -> str:
    """Name a run, however often it is exported: by its pairs, its folder, and the runs that its base model is from."""
    base = {"base_runs": state.base_runs} if state.base_runs else {}
    return fingerprint({"data": state.data, "out": state.config.get("out"), **base})[:16]


def read_state(folder: Path) -> State | None:
    """Read the progress of a run when it had the weights of one of its editors, the last or its best; None without one.

    An editor that is older than this record has the progress of the newest checkpoint beside it.

    Raises:
        ModelError: the record is damaged.
    """
    path = folder / PROGRESS_FILE
    try:
        if path.is_file():
            return State.model_validate_json(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged", "Restore it, or train the editor again") from error
    found = load_newest(folder.resolve().parent / "checkpoints", warn=print)
    return found.state if found else None


def distinct_runs(states: Sequence[State | None]) -> list[State]:
    """Return the progress of each run once, as of the furthest of its editors; no progress if no run is known."""
    known = [state for state in states if state]
    names = dict.fromkeys(map(run_id, known))
    return [
        max((state for state in known if run_id(state) == name), key=lambda state: state.samples) for name in names
    ] or [State()]


def earlier_record(folder: Path, states: Sequence[State]) -> dict[str, Any]:
    """Read the record of the editor that runs went on from: of the bundled one, or of one that was bundled before it.

    It is empty if the runs began with another model. What the runs went on from is known by its own runs, for the
    bundled editor may have been replaced since: by another one, or by an earlier export of these runs.

    Args:
        folder: folder of the bundled editor.
        states: progress of the runs.
    """
    path = folder / RECORD_FILE
    for found in _bundled_so_far(json.loads(path.read_text()) if path.is_file() else {}):
        if any(_began_with(state, found) for state in states):
            return found
    if any(state.base_runs or state.config.get("base") == EDITOR_NAME for state in states):
        print(f"the editor that the run began with is not known in {folder}: the card lacks its commands and its steps")
    return {}


def _bundled_so_far(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the record of an editor, and of each one that it went on from."""
    while record:
        yield record
        record = record.get("earlier", {})


def runs_so_far(record: dict[str, Any]) -> set[str]:
    """Return the names of all runs that an editor with this record is from."""
    return {name for each in _bundled_so_far(record) for name in each.get("runs", [])}


def _began_with(state: State, record: dict[str, Any]) -> bool:
    """Whether a run began with the editor that has this record."""
    if state.base_runs is None:  # an older run, which is taken to have begun with the newest one that does not count it
        return state.config.get("base") == EDITOR_NAME and run_id(state) not in runs_so_far(record)
    return bool(state.base_runs) and state.base_runs == record.get("runs")


def add_progress(states: Sequence[State], earlier: Mapping[str, Any]) -> State:
    """Return the progress of runs, and of the record of an earlier one, in all."""
    counts = {
        name: sum(getattr(state, name) for state in states) + earlier.get(name, 0)
        for name in ("step", "updates", "samples", "seconds")
    }
    return states[-1].model_copy(update=counts)
