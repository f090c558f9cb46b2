"""Checkpoints that survive a kill: written to a temporary folder, hashed, renamed, and only then older ones removed.

    checkpoints/step-00000400/
      <module>.safetensors, ema-<module>.safetensors    fp32
      optimizer.pt                                      read with weights_only=True, so no code runs
      state.json                                        step, samples, seconds, precision, config
      COMPLETE.json                                     sha256 of every file above, written last

All randomness of a run follows from (seed, position), so no generator state is stored.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ip2p.errors import ConfigError, TrainingError
from ip2p.shards import atomic_dir, hash_file, sweep_temporaries

COMPLETE_FILE = "COMPLETE.json"


class _Stamp(NamedTuple):
    """A file as it was when it was hashed: with another size or time of change, it may be another."""

    path: Path
    size: int
    changed: int
    digest: str

    @classmethod
    def take(cls, path: Path, digest: str) -> "_Stamp":
        stat = path.stat()
        return cls(path, stat.st_size, stat.st_mtime_ns, digest)


_written = set[_Stamp]()
"""Files of checkpoints that this process has hashed, so that each save does not read all earlier checkpoints."""


class State(BaseModel):
    """Progress of a run.

    Attributes:
        step: optimizer steps taken.
        updates: steps whose gradient was finite, so that the weights moved.
        samples: position in the endless shuffled order of pairs.
        seconds: duration over all sessions.
        precision: name of the dtype: fp32, bf16 or fp16.
        attention: how attention is computed: plain, sdpa or xformers; empty in runs older than this.
        loss_scale: scale of the loss in fp16; None in other precisions.
        data: fingerprint of the pairs.
        config: settings of the run.
        samples_a_step: samples of an optimizer step, over all processes; 0 in runs older than this.
        stream: where each process goes on reading, if it streams its pairs.
        words: words of the instructions that were streamed, if the vocabulary of the base model is closed.
        base_runs: names of the runs that the base model is from, if it is an editor that was bundled; None in runs
            older than this.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = 0
    updates: int = 0
    samples: int = 0
    seconds: float = 0.0
    precision: str = "fp32"
    attention: str = ""
    loss_scale: float | None = None
    data: str = ""
    config: dict[str, Any] = {}
    samples_a_step: int = 0
    stream: list[list[int]] = []
    words: list[str] = []
    base_runs: list[str] | None = None

    def progress(self) -> str:
        """Return the content of progress.json beside an editor: all but what only a run that goes on needs."""
        return self.model_dump_json(indent=1, exclude={"loss_scale", "stream", "words"}) + "\n"


class Checkpoint(NamedTuple):
    """A saved run.

    Attributes:
        state: progress of the run.
        weights: tensors by file stem (unet, ema-unet, ...) and parameter name.
        optimizer: state dict of the optimizer.
    """

    state: State
    weights: dict[str, dict[str, Tensor]]
    optimizer: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint and only then remove the oldest ones.

    A kill at any moment leaves the earlier checkpoints untouched, and at most a temporary folder. A damaged checkpoint
    takes no place of a whole one.

    Args:
        folder: folder of all checkpoints of the run.
        checkpoint: checkpoint to write.
        keep: number of newest whole checkpoints to keep, at least 1.

    Returns:
        The folder of this checkpoint.
    """
    path = folder / f"step-{checkpoint.state.step:08d}"
    sweep_temporaries(folder)
    with atomic_dir(path) as work:
        for stem, tensors in checkpoint.weights.items():
            save_file(
                {name: tensor.detach().contiguous() for name, tensor in tensors.items()}, work / f"{stem}.safetensors"
            )
        with (work / "optimizer.pt").open("wb") as stream:  # torch's own file would not say that the disk is full
            torch.save(checkpoint.optimizer, stream)
        (work / "state.json").write_text(checkpoint.state.model_dump_json(indent=1))
        hashes = {file.name: hash_file(file) for file in sorted(work.iterdir())}
        (work / COMPLETE_FILE).write_text(json.dumps(hashes, indent=1))
    _written.update(_Stamp.take(path / name, digest) for name, digest in hashes.items())
    whole = 0
    for each in _newest_first(folder):
        if whole >= max(1, keep):
            shutil.rmtree(each)
        else:
            whole += not _damage(each, trusted=_written)
    return path


def load_newest(folder: Path, *, warn: Callable[[str], None]) -> Checkpoint | None:
    """Load the newest checkpoint that is not damaged; None if there is none.

    Args:
        folder: folder of all checkpoints of the run.
        warn: function that prints a line about each damaged checkpoint.

    Raises:
        TrainingError: there are checkpoints, and all are damaged.
    """
    damaged: list[str] = []
    for path in _newest_first(folder):
        damage = _damage(path)
        if not damage:
            try:
                state = State.model_validate_json((path / "state.json").read_text())
                weights = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
                optimizer = torch.load(path / "optimizer.pt", weights_only=True, map_location="cpu")
            except (ValidationError, SafetensorError, UnpicklingError, RuntimeError):
                damage = "it was not written by this program"
            else:
                for told in damaged:
                    warn(f"{told}; {path.name} is used in its place")
                return Checkpoint(state, weights, optimizer)
        damaged.append(f"the checkpoint {path} is damaged ({damage})")
    if damaged:
        raise TrainingError(
            f"no checkpoint in {folder} is whole: {'; '.join(damaged)}",
            "Restore one from a copy, or give another out= to begin anew",
        )
    return None


def check_same_settings(
    state: State, *, config: Mapping[str, Any], folder: Path, may_change: Collection[str] = ()
) -> None:
    """A run goes on only as what it was.

    Args:
        state: state of its checkpoint.
        config: settings of now.
        folder: folder of the run, for the error.
        may_change: names of settings that may differ.

    Raises:
        ConfigError: other settings differ from the checkpoint's; all are named.
    """
    changed = [
        f"{key}={state.config.get(key)!r} (now {value!r})"
        for key, value in config.items()
        if key not in may_change and state.config.get(key) != value
    ]
    if changed:
        raise ConfigError(
            f"the run in {folder} was started with other settings: {', '.join(changed)}",
            "Give the same settings to go on, another out= to start anew, or delete that folder",
        )


def _newest_first(folder: Path) -> Iterator[Path]:
    """Yield the folders of checkpoints, which have their names once they are finished."""
    yield from sorted((path for path in folder.glob("step-????????") if path.is_dir()), reverse=True)


def _damage(path: Path, trusted: Collection[_Stamp] = ()) -> str:
    """Describe what is wrong with a checkpoint; an empty string if nothing is.

    Args:
        path: its folder.
        trusted: files that are not read again.
    """
    if not (path / COMPLETE_FILE).is_file():
        return f"{COMPLETE_FILE} is missing"
    try:
        hashes = json.loads((path / COMPLETE_FILE).read_text())
    except (OSError, ValueError):
        return f"{COMPLETE_FILE} is unreadable"
    if not isinstance(hashes, dict) or not {"state.json", "optimizer.pt"} <= hashes.keys():
        return f"{COMPLETE_FILE} is incomplete"
    for name, digest in hashes.items():
        file = path / Path(name).name
        if not file.is_file():
            return f"{name} is missing"
        if _Stamp.take(file, digest) not in trusted and hash_file(file) != digest:
            return f"{name} has changed"
    return ""
