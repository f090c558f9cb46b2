"""The folder of a run: whose it is, that one run at a time writes to it, and what may change when the run goes on."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ip2p.errors import ConfigError, DataError
from ip2p.models.bundled import BUNDLED_NAMES, RECORD_FILE, bundled_path
from ip2p.ownership import require_own, sole_writer
from ip2p.pairs.read import locate
from ip2p.shards import atomic_write
from ip2p.train.best import NAMES as BEST
from ip2p.train.checkpoint import Checkpoint, State, check_same_settings, load_newest
from ip2p.train.config import FinetuneConfig
from ip2p.version import __version__

Say = Callable[[str], None]
RUN_FILE = "run.json"
LOCK_FILE = "lock"
EDITOR, EDITOR_FILE = "editor", "editor.json"
OUTPUTS = (
    RUN_FILE, "checkpoints", "validation", "metrics.jsonl", EDITOR, EDITOR_FILE, *BEST, "lora", "report.html"
)  # fmt: skip
"""Names of everything that a run writes to its folder, besides the lock."""

DIVISION = ("batch", "accumulation")
"""Settings that divide the samples of a step."""
TOLD = ("learning_rate", "max_grad_norm", "ema_decay", *DIVISION)
"""Settings that may differ when a run goes on, and shape what comes: so they are told."""
MAY_CHANGE = frozenset(
    ("steps", "minutes", "out", "precision", "checkpoint_every", "checkpoint_minutes", "keep_checkpoints")
    + ("validate_every", "report_to", "text_scale", "image_scale", "cache_latents", "threads", "bad_rows")
    + ("cache_folder", "cache_dtype", "workers", "attention", "compile", "gradient_checkpointing")
    + ("epochs", "ema_device", "validation_prompt", "validation_image", "push_to_hub")
    + ("validation_edits", "validation_clip", "validation_exact", "early_stop")
    + ("dataset", "columns", "instruction")  # the pairs themselves are compared
    + TOLD
)
"""Settings that may differ when a run goes on; all others make another run."""


@contextmanager
def claim(config: FinetuneConfig) -> Iterator[None]:
    """Context manager that has the folder of a run for this run alone.

    Raises:
        BusyError: another run writes to it.
        ConfigError: it lies in a data set.
        DataError: it has files of the names of a run's that no run made.
    """
    out = Path(config.out)
    if not any((out / "checkpoints").glob("step-*/state.json")):
        for source in config.datasets:
            with suppress(DataError):  # one that is not there is told when it is opened, after the settings
                folder = locate(source.path)
                if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
                    raise ConfigError(
                        f"out={out} lies in the data set {folder}, and its files would be read as pairs",
                        "Give a folder outside of it as out=",
                    )
        require_own(out, OUTPUTS, mark=RUN_FILE, keys=("ip2p", "config"))
    with sole_writer(out, file=LOCK_FILE):
        yield


def write_note(out: Path, config: FinetuneConfig) -> None:
    """Write down whose the folder is."""
    note = {"ip2p": __version__, "config": config.model_dump(mode="json")}
    atomic_write(out / RUN_FILE, (json.dumps(note, indent=1) + "\n").encode())


def has_editor(out: Path, state: State) -> bool:
    """Whether the editor of a run is there, with these weights and default settings; people may have edited it since.

    Args:
        out: folder of the run.
        state: progress of the run.
    """
    try:
        return (out / EDITOR).is_dir() and json.loads((out / EDITOR_FILE).read_bytes()) == _describe_editor(state)
    except (OSError, ValueError):
        return False


def note_editor(out: Path, state: State) -> None:
    """Write down of which weights and default settings the editor of a run is, once it is written."""
    atomic_write(out / EDITOR_FILE, (json.dumps(_describe_editor(state), indent=1) + "\n").encode())


def _describe_editor(state: State) -> dict[str, Any]:
    """Describe what the editor of a run is made of; steps that were taken again took other seconds."""
    scales = {key: state.config.get(key) for key in ("text_scale", "image_scale")}
    return {"step": state.step, "seconds": state.seconds, **scales}


def find_checkpoint(
    out: Path, config: FinetuneConfig, *, data: str, processes: int, say: Say
) -> tuple[State, Checkpoint | None]:
    """Load the checkpoint from which a run goes on.

    Args:
        out: folder of the run.
        config: settings of the run.
        data: fingerprint of its pairs.
        processes: number of its processes.
        say: function that prints a line.

    Returns:
        The state to begin with, which has the settings and the pairs of now, and the checkpoint; None without one.

    Raises:
        ConfigError: the settings make another run.
        TrainingError: there are checkpoints, and none is whole.
    """
    step = config.batch * config.accumulation * processes
    now: dict[str, Any] = {"data": data, "config": config.model_dump(mode="json"), "samples_a_step": step}
    found = load_newest(out / "checkpoints", warn=say)
    if found is None:
        return State.model_validate(now | {"base_runs": read_runs(config.base)}), None
    # A run that is older than a setting was made with what is now its default.
    past = found.state.model_copy(update={"config": FinetuneConfig().model_dump(mode="json") | found.state.config})
    check_same_settings(past, config=now["config"], may_change=MAY_CHANGE, folder=out)
    _check_division(past, config, step, out)
    for line in tell_changes(past, State.model_validate(now), processes=processes):
        say(line)
    say(f"going on from step {past.step} in {out}")
    return past.model_copy(update=now), found


def read_runs(base: str) -> list[str]:
    """Read which runs a base model is from, by the record of an editor that was bundled; none of any other model.

    Args:
        base: bundled name, folder, single file or hub id.

    Raises:
        ModelError: a bundled model has no weights.
    """
    folder = bundled_path(base) if base in BUNDLED_NAMES else Path(base)
    try:
        runs = json.loads((folder / RECORD_FILE).read_text()).get("runs")
    except (OSError, ValueError, AttributeError):  # none, or somebody else's
        return []
    return runs if isinstance(runs, list) and all(isinstance(each, str) for each in runs) else []


def tell_changes(past: State, now: State, *, processes: int) -> list[str]:
    """Tell what is not as it was and shapes what comes.

    Args:
        past: state of the checkpoint.
        now: pairs and settings from now on.
        processes: number of processes from now on.
    """
    begin = f"from step {past.step} on"
    told = [
        f"{begin}, {key}={now.config[key]!r}: it was {past.config[key]!r}"
        for key in TOLD
        if key not in DIVISION and past.config[key] != now.config[key]
    ]
    was, samples = _samples_a_step(past), now.samples_a_step
    division = " x ".join([*(f"{now.config[key]}" for key in DIVISION), f"{processes}"])
    if was and was != samples:
        told.append(
            f"{begin}, a step takes {samples} pairs (batch x accumulation x processes = {division}): it took {was}"
        )
    elif any(past.config[key] != now.config[key] for key in DIVISION):
        told.append(f"{begin}, a step takes its {samples} pairs as {division} (batch x accumulation x processes)")
    if past.data not in (now.data, now.data.partition("-")[0]):  # older runs know the texts only
        told.append(f"{begin}, the run has other pairs than before, and other held-out ones: compare losses with care")
    elif _weights(past) != _weights(now):
        told.append(f"{begin}, its data sets are mixed by other weights")
    elif past.config["dataset"] != now.config["dataset"]:
        told.append("the data set is somewhere else than before, and has the same pairs")
    return told


def _check_division(past: State, config: FinetuneConfig, samples: int, folder: Path) -> None:
    """Check that batch and accumulation differ at most in how they divide the samples of a step.

    Raises:
        ConfigError: they make another step, or other batches of one shape.
    """
    now: dict[str, Any] = config.model_dump()
    changed = {key: now[key] for key in DIVISION if past.config[key] != now[key]}
    was = _samples_a_step(past)
    if not changed or not was:
        return
    told = ", ".join(f"{key}={past.config[key]} (now {value})" for key, value in changed.items())
    if was != samples:
        raise ConfigError(
            f"the run in {folder} took {was} pairs in a step, and would take {samples}: {told}",
            f"Give batch and accumulation that make {was} with the number of processes, or another out= to start anew",
        )
    if config.buckets and "batch" in changed:
        raise ConfigError(
            f"the run in {folder} has buckets, whose batches have one shape: {told}",
            f"Give batch={past.config['batch']} to go on, or another out= to start anew",
        )


def _samples_a_step(state: State) -> int:
    """Return the samples that a step has taken; runs that are older than its record tell it by their mean."""
    return state.samples_a_step or (round(state.samples / state.step) if state.step else 0)


def _weights(state: State) -> list[float | None]:
    return [each.weight for each in FinetuneConfig.model_validate(state.config).datasets]
