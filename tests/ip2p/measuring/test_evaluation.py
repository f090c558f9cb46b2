"""Evaluation: the same scenes and seeds for every method, the same figures for every run, files for all readers."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from ip2p.errors import ModelError
from ip2p.measuring import evaluation
from ip2p.measuring.evaluation import COPY, EDITOR, SDEDIT, TEXT_TO_IMAGE, Evaluation, evaluate, judge_pictures, psnr
from ip2p.pictures.tensors import to_images, to_tensor
from ip2p.storybook.edits import Case, evaluation_cases
from ip2p.storybook.free import free_cases
from ip2p.storybook.judge import Outcome
from ip2p.storybook.render import render

# The tiny models spell most words; what they cannot read to its end does not matter here.
pytestmark = pytest.mark.filterwarnings("ignore:text longer than:UserWarning")


def outcome(success: bool, preservation: float) -> Outcome:
    return Outcome(
        success=success, attributes_kept=0.5, layout_kept=0.25, preservation=preservation, everything_kept=False
    )


def by_pixels(x: Tensor, cases: Sequence[Case]) -> list[Outcome]:
    """Something like a judge: an edit is a difference, and preservation the lack of it."""
    assert x.shape[1:] == (3, 256, 256) and x.min() >= -1 and x.max() <= 1
    sources = to_tensor([render(case.scene) for case in cases])
    moved = (x - sources).abs().mean((1, 2, 3)).tolist()
    return [outcome(amount > 0.01, 1 / (1 + amount)) for amount in moved]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "TRIAL_SCENES", 2)
    monkeypatch.setattr(evaluation, "STRENGTHS", (0.1, 0.9))
    monkeypatch.setattr(evaluation, "BATCH_SIZE", 2)


def run(editor: Path, base: Path, out: Path) -> Evaluation:
    return evaluate(str(editor), str(base), scenes=3, seed=5, out=out, measure=by_pixels)


def test_every_method_is_measured_on_every_scene(editor_folder: Path, base_folder: Path, tmp_path: Path) -> None:
    found = run(editor_folder, base_folder, tmp_path)
    assert list(found.scores) == [EDITOR, COPY, TEXT_TO_IMAGE, SDEDIT]
    assert [row.scene for row in found.rows] == [0, 1, 2] * 4
    assert len({(row.scene, row.seed, row.kind, row.instruction) for row in found.rows}) == 3
    copy, editor = found.scores[COPY]["all"], found.scores[EDITOR]["all"]
    assert (copy.success, copy.preservation, copy.product) == (0, 1, 0)
    assert editor.success == 1 and 0 < editor.low <= editor.product <= editor.high < 1
    case = evaluation_cases(3, 5)[0]
    source, target = to_tensor([render(case.scene)]), to_tensor([render(case.target)])
    assert found.rows[3].psnr == pytest.approx(psnr(source, target).item(), abs=1e-3)


def test_free_instructions_are_measured_in_place_of_templates(
    editor_folder: Path, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = free_cases(5)[:2]
    monkeypatch.setattr(evaluation, "free_cases", lambda seed: cases)
    found = evaluate(str(editor_folder), str(base_folder), seed=5, out=tmp_path, free=True, measure=by_pixels)
    assert found.scenes == 2
    assert [row.instruction for row in found.rows[:2]] == [case.instruction for case in cases]


def test_sdedit_has_its_best_strength(editor_folder: Path, base_folder: Path, tmp_path: Path) -> None:
    found = run(editor_folder, base_folder, tmp_path)
    assert set(found.strengths) == {"0.1", "0.9"}
    assert found.strengths[str(found.strength)] == max(found.strengths.values())


def test_files_are_written_and_equal_in_every_run(editor_folder: Path, base_folder: Path, tmp_path: Path) -> None:
    found = run(editor_folder, base_folder, tmp_path / "one")
    run(editor_folder, base_folder, tmp_path / "two")
    names = ["evaluation.json", "evaluation.md", "sheet.png"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    assert Evaluation.model_validate(json.loads((tmp_path / "one" / "evaluation.json").read_text())) == found
    text = (tmp_path / "one" / "evaluation.md").read_text()
    assert str(found) in text and all(f"| {method}" in text for method in found.scores)
    with Image.open(tmp_path / "one" / "sheet.png") as sheet:
        assert sheet.width > 5 * 256


def test_the_exact_target_is_the_best_there_is() -> None:
    trials = evaluation.held_out_trials(3, 1, "test")
    rows = judge_pictures("target", trials, [trial.target for trial in trials], by_pixels)
    assert [row.psnr for row in rows] == [60.0] * 3
    small = judge_pictures("small", trials, [trial.target.resize((64, 64)) for trial in trials], by_pixels)
    assert all(10 < row.psnr < 60 for row in small)


def test_psnr_is_that_of_a_range_of_two() -> None:
    x = torch.zeros(1, 3, 8, 8)
    assert psnr(x + 0.2, x).item() == pytest.approx(20)
    assert psnr(x, to_tensor(to_images(x))).item() > 45


def test_wrong_models_are_told_before_anything_is_drawn(editor_folder: Path, base_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no editor"):
        run(base_folder, base_folder, tmp_path / "out")
    with pytest.raises(ModelError, match="no text-to-image"):
        run(editor_folder, editor_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
