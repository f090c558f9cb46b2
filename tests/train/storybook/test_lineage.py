"""The runs that an editor is from: what they began with, whatever has been bundled since, and their commands."""

import json
from pathlib import Path
from typing import Any

import pytest

from ip2p.train.checkpoint import State
from ip2p.train.storybook.lineage import earlier_record, run_id, runs_so_far, training_command

NONE: dict[str, Any] = {}


def state_of(out: str, base_runs: list[str] | None, base: str = "storybook-editor") -> State:
    return State(step=1, data="pairs", config={"out": out, "base": base}, base_runs=base_runs)


def record_of(state: State, earlier: dict[str, Any] = NONE) -> dict[str, Any]:
    return {"step": 1, "runs": [run_id(state)], "earlier": earlier}


def bundle(folder: Path, record: dict[str, Any]) -> Path:
    (folder / "training.json").write_text(json.dumps(record))
    return folder


def test_a_run_went_on_from_what_it_began_with_whatever_has_been_bundled_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = record_of(state_of("origin", []))
    one, two = (state_of(name, origin["runs"]) for name in ("one", "two"))
    first = record_of(one, origin)
    bundle(tmp_path, first)
    assert earlier_record(tmp_path, [two]) == origin, "one was bundled before two, and two knows nothing of it"
    assert earlier_record(tmp_path, [one]) == origin, "its own earlier export"
    further = state_of("further", first["runs"])
    assert earlier_record(tmp_path, [further]) == first == earlier_record(tmp_path, [one, further])
    assert runs_so_far(first) == {run_id(one), run_id(state_of("origin", []))}
    again = state_of("one", first["runs"])  # in the folder of the run that it went on from, which was removed
    assert earlier_record(bundle(tmp_path, record_of(again, first)), [again]) == first
    assert not capsys.readouterr().out


def test_a_run_that_began_with_another_model_went_on_from_no_editor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle(tmp_path, {"step": 1, "figures": {}})  # of a run that nobody knows
    for base in ("storybook-base", "runs/first/editor"):
        assert earlier_record(tmp_path, [state_of("one", [], base)]) == {}
    assert not capsys.readouterr().out
    assert earlier_record(tmp_path, [state_of("one", ["elsewhere"], "models/editor")]) == {}
    assert "the card lacks its commands and its steps" in capsys.readouterr().out


def test_a_run_older_than_the_record_began_with_the_newest_editor_that_does_not_count_it(tmp_path: Path) -> None:
    one, two = state_of("one", None), state_of("two", None)
    origin: dict[str, Any] = {"step": 1}
    first = record_of(one, origin)
    bundle(tmp_path, first)
    assert earlier_record(tmp_path, [one]) == origin and earlier_record(tmp_path, [two]) == first
    bundle(tmp_path, record_of(two, first))
    assert earlier_record(tmp_path, [one]) == origin and earlier_record(tmp_path, [two]) == first
    assert earlier_record(tmp_path, [state_of("one", None, "storybook-base")]) == {}


def test_the_command_of_a_run_has_what_was_unusual_and_no_folders_of_this_machine() -> None:
    config = {"steps": 7, "batch": 32, "dataset": "/a/b", "out": "/c", "base": "/d", "min_snr_gamma": 5.0}
    command = "accelerate launch train/finetune.py 'dataset=[data/a/b]' out=runs/c steps=7 min_snr_gamma=5.0"
    assert training_command(State(config=config)) == command
    assert "'dataset=[data/phrased]'" in training_command(State(config=config | {"dataset": "data/phrased"}))
    two = config | {"dataset": ["/home/me/phrased/phrasing-0", "/home/me/phrased/phrasing-1"]}
    assert "'dataset=[data/phrased/phrasing-0,data/phrased/phrasing-1]'" in training_command(State(config=two))
