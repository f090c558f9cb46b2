"""The program that makes a fine-tuned editor the bundled one: means of weights, settings, card and record."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ip2p import Editor
from ip2p.errors import ConfigError, ModelError
from ip2p.evaluation.changes import Moved
from ip2p.models.backbone import load_backbone, save_backbone
from ip2p.models.bundled import bundled_path
from ip2p.models.vocabulary import Vocabulary
from ip2p.train.checkpoint import Checkpoint, State, save_checkpoint
from ip2p.train.run_folder import read_runs
from ip2p.train.storybook.bundle import read_record
from ip2p.train.storybook.editor import EXAMPLES, export, known_words, matrix_table
from ip2p.train.storybook.reproduce import OWN_SETTINGS


def arguments(*editors: Path, out: Path, **others: Any) -> argparse.Namespace:
    usual = {"shares": None, "set": [], "measure": 0, "made_by": ["make dataset"]}
    return argparse.Namespace(editors=list(editors), out=out, **usual | others)


@pytest.fixture
def other_folder(editor_folder: Path, tmp_path: Path) -> Path:
    """An editor of the same architecture with other weights."""
    backbone = load_backbone(editor_folder)
    with torch.no_grad():
        for network in (backbone.unet, backbone.text_encoder):
            for weight in network.parameters():
                weight.add_(1.0)
    save_backbone(backbone, tmp_path / "other", pipeline_class=backbone.pipeline_class)
    return tmp_path / "other"


@pytest.mark.filterwarnings("ignore:text longer than")  # the tiny model spells most words
def test_the_mean_of_two_editors_is_exported_with_card_and_settings(
    editor_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundled"
    shutil.copytree(bundled_path("storybook-judge"), out / "judge")
    given = ["keep_unchanged=true", "text_scale=3", "steps=2"]
    export(arguments(editor_folder, other_folder, out=out, shares=[0.25, 0.75], set=given, measure=2))
    first, mean = load_backbone(editor_folder), load_backbone(out / "editor", want="editor")
    for part in ("unet", "text_encoder"):
        for name, weight in getattr(first, part).state_dict().items():
            if weight.is_floating_point():
                torch.testing.assert_close(getattr(mean, part).state_dict()[name], weight + 0.75, atol=3e-3, rtol=1e-3)
    for name, weight in first.vae.state_dict().items():
        torch.testing.assert_close(mean.vae.state_dict()[name], weight, atol=1e-3, rtol=1e-3)
    own = Editor.from_pretrained(str(out / "editor"), device="cpu").backbone.settings.model_dump()
    assert (own["keep_unchanged"], own["text_scale"], own["steps"]) == (True, 3.0, 2)
    card = (out / "editor" / "README.md").read_text()
    named = [f"runs/{folder.parent.name}/{folder.name}" for folder in (editor_folder, other_folder)]
    assert "storybook-editor" in card and f"train/storybook/editor.py {' '.join(named)} --shares 0.25 0.75" in card
    assert str(tmp_path) not in card and str(editor_folder) not in card, "folders of this machine are nobody's business"
    assert read_record(out, "editor") == State()
    figures, bound = json.loads((out / "editor" / "training.json").read_text())["figures"].values()
    assert figures.keys() == bound.keys() and all(0 <= value <= 100 for value in (figures | bound).values())
    assert list(figures)[0] == "pixel truth" and len(figures) == 7
    assert "| edits of" in card and "| time, 1 " in card and "Not measured: viewpoint (" in card


def test_an_editor_that_goes_on_from_the_bundled_one_has_the_commands_and_totals_of_both(
    editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, run = tmp_path / "bundled", tmp_path / "run"
    monkeypatch.setattr("ip2p.train.storybook.editor.bundled_path", lambda _: out / "editor")
    backbone = load_backbone(editor_folder)
    save_backbone(backbone, run / "editor", pipeline_class=backbone.pipeline_class)
    for base, steps in (("storybook-base", 4), ("storybook-editor", 3)):
        config = {"base": base, "out": f"runs/{steps}"}
        state = State(
            step=steps, updates=steps, samples=10 * steps, seconds=60.0 * steps, config=config,
            base_runs=read_runs(str(out / "editor")),
        )  # fmt: skip
        save_checkpoint(run / "checkpoints", Checkpoint(state, {}, {}), keep=1)
        for given in ([], ["text_scale=4"]):  # the same run with other settings is no further training
            export(arguments(run / "editor", out=out, set=given))
        shutil.rmtree(run / "checkpoints")
    assert (read_record(out, "editor").samples, read_record(out, "editor").step) == (70, 7)
    card = (out / "editor" / "README.md").read_text()
    assert card.count("accelerate launch train/finetune.py") == 2 and "70 samples in 7 steps and 7 minutes" in card
    assert card.count("accelerate launch train/finetune.py base=storybook-editor") == 1
    assert read_runs("storybook-base") == [] == read_runs("owner/name") and len(read_runs("storybook-editor")) == 1


def test_a_mean_counts_each_of_its_runs_once(
    editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ip2p.train.storybook.editor.bundled_path", lambda _: tmp_path / "none")
    for name, steps in (("a", 4), ("b", 3)):
        shutil.copytree(editor_folder, tmp_path / name / "editor")
        state = State(step=steps, updates=steps, samples=10 * steps, seconds=60.0, config={"out": name, "steps": steps})
        save_checkpoint(tmp_path / name / "checkpoints", Checkpoint(state, {}, {}), keep=1)
    shutil.copytree(editor_folder, tmp_path / "a" / "best")
    export(arguments(*(tmp_path / name for name in ("a/editor", "a/best", "b/editor")), out=tmp_path / "bundled"))
    assert (read_record(tmp_path / "bundled", "editor").samples, read_record(tmp_path / "bundled", "editor").step) == (
        70,
        7,
    )
    card = (tmp_path / "bundled" / "editor" / "README.md").read_text()
    assert card.count("accelerate launch train/finetune.py") == 2 and "    make dataset\n" in card


def test_the_best_editor_of_a_run_has_its_own_progress_in_the_card(
    editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ip2p.train.storybook.editor.bundled_path", lambda _: tmp_path / "none")
    states = {}
    for name, step in (("a/best", 2), ("a/editor", 4), ("b/best", 1)):
        shutil.copytree(editor_folder, tmp_path / name)
        state = State(step=step, updates=step, samples=10 * step, config={"out": f"{tmp_path}/{name[0]}"})
        (tmp_path / name / "progress.json").write_text(state.progress())
        states[name] = state
    save_checkpoint(tmp_path / "b" / "checkpoints", Checkpoint(State(step=9, samples=90), {}, {}), keep=1)
    for names, step, told in [
        (["a/best"], 2, "editor.py runs/a/best --measure 0  # after 2 steps\n"),
        (["b/best", "a/best"], 3, "runs/b/best runs/a/best --shares 0.5 0.5 --measure 0  # after 1 and 2 steps\n"),
        (["a/best", "a/editor", "b/best"], 5, "# after 2 and 4 and 1 steps\n"),
    ]:
        export(arguments(*(tmp_path / name for name in names), out=tmp_path / "bundled"))
        assert read_record(tmp_path / "bundled", "editor").step == step
        card = (tmp_path / "bundled" / "editor" / "README.md").read_text()
        assert told in card and "finetune.py out=runs/a\n" in card and str(tmp_path) not in card
    (tmp_path / "a" / "best" / "progress.json").write_text("{")
    with pytest.raises(ModelError, match="progress.json is damaged"):
        export(arguments(tmp_path / "a" / "best", out=tmp_path / "bundled"))


def test_editors_that_differ_in_more_than_a_training_have_no_mean(editor_folder: Path, tmp_path: Path) -> None:
    backbone = load_backbone(editor_folder)
    with torch.no_grad():
        next(backbone.vae.parameters()).add_(1.0)
    save_backbone(backbone, tmp_path / "vae", pipeline_class=backbone.pipeline_class)
    shutil.copytree(editor_folder, tmp_path / "scheduler")
    config = tmp_path / "scheduler" / "scheduler" / "scheduler_config.json"
    usual = json.loads(config.read_text())["beta_start"]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"beta_start": 0.002}))
    for name in ("vae", "scheduler"):
        with pytest.raises(ConfigError, match=f"the {name} of "):
            export(arguments(editor_folder, tmp_path / name, out=tmp_path / "bundled"))
    assert not (tmp_path / "bundled").exists()
    config.write_text(json.dumps(json.loads(config.read_text()) | {"beta_start": usual, "_diffusers_version": "0.1"}))
    export(arguments(editor_folder, tmp_path / "scheduler", out=tmp_path / "bundled"))


def test_only_an_earlier_export_is_replaced(editor_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(editor_folder, tmp_path / "runs" / "editor" / "editor")
    (tmp_path / "runs" / "editor" / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="holds what is to be exported"):
        export(arguments(tmp_path / "runs" / "editor" / "editor", out=tmp_path / "runs"))
    with pytest.raises(ConfigError, match="is no exported model"):
        export(arguments(editor_folder, out=tmp_path / "runs"))
    assert (tmp_path / "runs" / "editor" / "metrics.jsonl").read_text() == "{}\n"


def test_what_cannot_be_exported_is_told_and_nothing_is_written(
    editor_folder: Path, base_folder: Path, tmp_path: Path
) -> None:
    for wrong, error, words in [
        (arguments(editor_folder, out=tmp_path, shares=[0.5]), ConfigError, "of which the sum is 1"),
        (arguments(editor_folder, out=tmp_path, shares=[0.5, 0.5]), ConfigError, "for 1 editors"),
        (arguments(editor_folder, out=tmp_path, set=["textscale=3"]), ConfigError, "Did you mean text_scale"),
        (arguments(editor_folder, out=tmp_path, set=["keep_unchanged=maybe"]), ConfigError, "true or false"),
        (arguments(editor_folder, out=tmp_path, set=["keep_unchanged"]), ConfigError, "NAME=VALUE"),
        (arguments(base_folder, out=tmp_path), ModelError, "no editor"),
    ]:
        with pytest.raises(error, match=words):
            export(wrong)
    assert not list(tmp_path.iterdir())


def test_misspelt_words_of_a_training_are_no_words_of_the_editor() -> None:
    found = known_words(Vocabulary(frozenset("make it winter wintr add a cow".split()), ("add a cwo",)))
    assert found.words == frozenset("make it winter add a cow".split())
    assert found.examples == ("add a cow", "make it winter") and set(found.examples) < set(EXAMPLES)


def test_the_matrix_of_a_card_has_what_moved_beside_the_same_of_exact_targets() -> None:
    table = matrix_table({"door": {"roof": Moved(0.5, 0.25, 4), "animal": Moved(0.25, 0.0, 4)}})
    header, _, cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    found = dict(zip(header, cells, strict=True))
    assert (found["edits of"], found["roof"], found["animal"], found["door"]) == ("door, 4", "50 (25)", "25 (0)", "")


def test_a_reproduced_editor_has_the_settings_of_the_bundled_one() -> None:
    own = json.loads((bundled_path("storybook-editor") / "ip2p.json").read_text())
    for word in OWN_SETTINGS:
        name, value = word.split("=")
        assert own[name] == json.loads(value), name
