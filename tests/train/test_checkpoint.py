"""Checkpoints: exact, atomic, and verified."""

import json
import resource
import warnings
from pathlib import Path

import pytest
import torch

import ip2p.train.checkpoint as module
from ip2p.errors import ConfigError, DataError, TrainingError
from ip2p.shards import hash_file
from ip2p.train.checkpoint import Checkpoint, State, check_same_settings, load_newest, save_checkpoint


def checkpoint(step: int) -> Checkpoint:
    weights = {"unet": {"a": torch.full((2, 3), float(step))}, "ema-unet": {"a": torch.full((2, 3), step / 2)}}
    optimizer = {
        "state": {0: {"momentum": torch.full((2, 3), 0.1 * step)}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    }
    return Checkpoint(State(step=step, samples=8 * step, data="d", config={"seed": 1, "steps": 9}), weights, optimizer)


def load(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    said: list[str] = []
    return load_newest(folder, warn=said.append), said


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(3), keep=2)
    found, said = load(tmp_path)
    assert found is not None and not said
    assert found.state == checkpoint(3).state
    assert torch.equal(found.weights["ema-unet"]["a"], checkpoint(3).weights["ema-unet"]["a"])
    assert torch.equal(found.optimizer["state"][0]["momentum"], checkpoint(3).optimizer["state"][0]["momentum"])


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        save_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000030"]


@pytest.mark.parametrize("file", ["unet.safetensors", "optimizer.pt", "state.json", "COMPLETE.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, file: str, damage: str) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=2)
    path = save_checkpoint(tmp_path, checkpoint(2), keep=2) / file
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else data[:20] + bytes([data[20] ^ 1]) + data[21:])
    found, said = load(tmp_path)
    assert found is not None and found.state.step == 1
    assert len(said) == 1 and "step-00000002 is damaged (" in said[0] and "step-00000001 is used" in said[0]
    assert file in said[0] or damage == "flip"  # of COMPLETE.json, which may name what is not there


def test_damaged_checkpoints_push_out_no_whole_one(tmp_path: Path) -> None:
    """With one flipped byte and keep=1, everything good was deleted."""
    whole = save_checkpoint(tmp_path, checkpoint(1), keep=2)
    broken = save_checkpoint(tmp_path, checkpoint(2), keep=2) / "unet.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1] + b"?")
    third = save_checkpoint(tmp_path, checkpoint(3), keep=2)
    assert whole.is_dir() and third.is_dir()
    (third / "optimizer.pt").write_bytes(b"")
    found, said = load(tmp_path)
    assert found is not None and found.state.step == 1 and len(said) == 2


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(tmp_path: Path) -> None:
    for step in (1, 2):
        (save_checkpoint(tmp_path, checkpoint(step), keep=2) / "state.json").write_text("{}")
    with pytest.raises(
        TrainingError, match="no checkpoint in .* is whole: .*step-00000002 is damaged .* Restore one from a copy"
    ):
        load(tmp_path)
    assert load(tmp_path / "nothing") == (None, [])


def test_a_run_whose_only_checkpoint_has_lost_its_list_does_not_begin_anew(tmp_path: Path) -> None:
    (save_checkpoint(tmp_path, checkpoint(1), keep=2) / "COMPLETE.json").unlink()
    with pytest.raises(TrainingError, match="step-00000001 is damaged .COMPLETE.json is missing"):
        load(tmp_path)


def test_dying_while_saving_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=1)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, checkpoint(2), keep=1)
    found, said = load(tmp_path)
    assert found is not None and found.state.step == 1 and not said


@pytest.mark.parametrize("large", ["unet", "optimizer"])
def test_a_full_disk_is_told_and_leaves_the_one_before(tmp_path: Path, large: str) -> None:
    """By the real writers of safetensors and torch, whose errors are none of the system's."""
    save_checkpoint(tmp_path, checkpoint(1), keep=2)
    second, many = checkpoint(2), torch.zeros(100_000)
    changed = (
        second._replace(weights={"unet": {"a": many}}) if large == "unet" else second._replace(optimizer={"x": many})
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DataError, match="step-00000002 cannot be written .File too large.*goes on from here"):
            save_checkpoint(tmp_path, changed, keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found, _ = load(tmp_path)
    assert found is not None and found.state.step == 1 and len(list(tmp_path.iterdir())) == 1


def test_optimizer_files_run_no_code(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint(1), keep=1)
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (open, (str(marker), "w"))

    torch.save({"x": Payload()}, path / "optimizer.pt")
    hashes = json.loads((path / "COMPLETE.json").read_text())
    hashes["optimizer.pt"] = hash_file(path / "optimizer.pt")
    (path / "COMPLETE.json").write_text(json.dumps(hashes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TrainingError, match="is whole"):
            load(tmp_path)
    assert not marker.exists()


def test_a_run_goes_on_only_as_what_it_was() -> None:
    state = checkpoint(1).state
    check_same_settings(state, config={"seed": 1, "steps": 20}, may_change=("steps",), folder=Path("x"))
    with pytest.raises(ConfigError, match=r"seed=1 \(now 2\), steps=9 \(now 20\)\. Give the same settings"):
        check_same_settings(state, config={"seed": 2, "steps": 20}, folder=Path("x"))
