"""A whole evaluation with tiny models: files, bounds, resuming to the same bytes, what is told."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from ip2p import cli
from ip2p.errors import ConfigError, DataError
from ip2p.evaluation import draw, load, samples
from ip2p.evaluation.load import choose_data, evaluate_model, load_storybook
from ip2p.evaluation.methods import BOUND, COPY, EDITOR, TEXT_TO_IMAGE, Extent, require_groups
from ip2p.evaluation.report import Evaluation, lpips_notes, read_report
from ip2p.evaluation.results import ResultFolder
from ip2p.measuring.intervals import Interval
from ip2p.measuring.triplets import Triplet, read_triplets
from ip2p.settings import PRESETS
from ip2p.train.checkpoint import State
from ip2p.train.config import FinetuneConfig
from ip2p.train.held_out import HeldOutCurve
from ip2p.train.result import model_card

# The tiny models spell most words; what they cannot read to its end does not matter here.
pytestmark = pytest.mark.filterwarnings("ignore:text longer than:UserWarning")
GROUPS = ("editor", "bound", "copy", "text")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "BATCH_SIZE", 2)


def run(editor: Path, base: Path, out: Path, **extent: Any) -> Evaluation:
    chosen = Extent(groups=require_groups(GROUPS), quick=True, baseline_samples=2, curve_samples=2, **extent)
    data = load_storybook(3, 5, free=False)
    return evaluate_model(
        str(editor), str(base), data, seed=5, out=out, extent=chosen, clip_name="storybook-clip-a", say=lambda _: None
    )


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_bounds_hold_and_all_is_written(editor_folder: Path, base_folder: Path, tmp_path: Path) -> None:
    found = run(editor_folder, base_folder, tmp_path)
    assert list(found.scores) == [EDITOR, BOUND, COPY, TEXT_TO_IMAGE]
    copy, editor = (found.scores[name]["all"] for name in (COPY, EDITOR))
    assert copy["iou"].value == copy["accuracy"].value == 0 and copy["kept"].value == copy["clip_image"].value == 1
    assert copy["success"].value == 0 and editor["iou"].low <= editor["iou"].value <= editor["iou"].high
    assert (
        found.methods[EDITOR].rows == PRESETS["fast"].unet_rows
        and found.methods[TEXT_TO_IMAGE].rows == 20
        and not found.faults
    )
    assert [note for note in found.notes if "also filtered the pairs" in note]
    assert {len(each.figures) for each in found.methods.values()} == {2, 3}  # baselines on the first two
    assert read_report(tmp_path).model_dump_json() == found.model_dump_json()  # unlike NaN, text equals itself
    page = (tmp_path / "evaluation.html").read_text()
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "") and page.count("<img") >= 9
    assert "<th>CLIP sees (px)</th><td>128</td>" in page and "clip_" not in page
    places = [page.index(each) for each in ("pixel truth", "<th>editor</th>", "All samples", "hash of the samples")]
    assert places == sorted(places), "figures first, and what only a repetition needs last"
    assert "The editor beside others" in page and "hash of DINO" not in page and "None" not in page
    assert all(sample.load().source.size == (256, 256) for sample in load_storybook(1, 5, free=False).samples)


def test_a_curve_of_nothing_is_refused_and_an_old_one_goes_if_it_is_ours(editor_folder: Path, tmp_path: Path) -> None:
    data, extent = load_storybook(2, 5, free=False), Extent(groups=("editor",), quick=True, curve=True, curve_samples=2)

    def evaluate(**changes: Any) -> Evaluation:
        chosen = {"extent": extent, "clip_name": "storybook-clip-a"} | changes
        return evaluate_model(str(editor_folder), "", data, seed=5, out=tmp_path, say=lambda _: None, **chosen)

    with pytest.raises(ConfigError, match="a curve needs CLIP"):
        evaluate(clip_name="none")
    with pytest.raises(ConfigError, match="name editor among the methods"):
        evaluate(extent=replace(extent, groups=("copy",)))
    with pytest.raises(ConfigError, match="a curve needs 2 samples with two different captions"):
        evaluate(extent=replace(extent, curve_samples=1))
    assert not list(tmp_path.iterdir())
    (tmp_path / "curve.svg").write_text("<svg/>")
    (tmp_path / "run.json").write_text(json.dumps({"editor": str(editor_folder), "data": data.name, "seed": 5}))
    assert not evaluate(extent=replace(extent, curve=False)).curves
    assert (tmp_path / "curve.svg").exists(), "no evaluation says that it drew it"
    assert evaluate().curves
    evaluate(extent=replace(extent, curve=False))
    assert not (tmp_path / "curve.svg").exists()


def test_the_results_of_another_evaluation_are_not_replaced(
    editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["evaluate", "--methods", "copy", "--clip", "none", "-o", str(out), "--model"]
    assert cli.run([*words, str(editor_folder), "--scenes", "2"]) == 0
    before = files(out)
    shutil.copytree(editor_folder, tmp_path / "other")
    for name, others in (
        ("seed", [str(editor_folder), "--seed", "5"]), ("editor", [str(tmp_path / "other")]),
        ("data", [str(editor_folder), "--free"]),
    ):  # fmt: skip
        assert cli.run([*words, *others]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"another evaluation has its results in {out}: {name} " in said, said
        assert said.endswith("Give another --output")
        assert files(out) == before
    monkeypatch.chdir(editor_folder.parent)  # the same editor by another path, on more scenes
    assert cli.run([*words, editor_folder.name, "--scenes", "3"]) == 0
    assert len(read_report(out).samples) == 3


def test_an_editor_that_keeps_unchanged_pixels_is_measured_anew(editor_folder: Path, tmp_path: Path) -> None:
    """The tiny editor changes nothing beyond the error of its autoencoder, so that it becomes a copy."""
    data, extent = load_storybook(2, 5, free=False), Extent(groups=("editor", "copy"), quick=True)
    raw, kept = (
        evaluate_model(
            str(editor_folder), "", data, seed=5, out=tmp_path, extent=extent, clip_name="none", say=lambda _: None,
            keep_unchanged=keep,
        )
        for keep in (None, True)
    )  # fmt: skip
    assert (raw.about["unchanged pixels"], kept.about["unchanged pixels"]) == ("as drawn", "kept")
    assert raw.scores[EDITOR]["all"]["kept"].value < 1 == kept.scores[EDITOR]["all"]["kept"].value
    assert kept.scores[EDITOR]["all"]["psnr"] == kept.scores[COPY]["all"]["psnr"]


def test_a_stopped_run_ends_with_the_same_bytes(
    editor_folder: Path, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(editor_folder, base_folder, tmp_path / "whole", curve=True)
    write, done = ResultFolder.write, []

    def stop_after_some(self: ResultFolder, *given: Any) -> None:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(given[:2])
        write(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(ResultFolder, "write", stop_after_some)
        with pytest.raises(KeyboardInterrupt):
            run(editor_folder, base_folder, tmp_path / "stopped", curve=True)
    assert not (tmp_path / "stopped" / "evaluation.json").exists()
    found = run(editor_folder, base_folder, tmp_path / "stopped", curve=True)
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    assert {curve.samples for curve in found.curves} == {2} and len(found.curves[0].points) == 7
    assert "curve.svg" in files(tmp_path / "whole")


def test_two_evaluations_are_compared(
    editor_folder: Path, base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(editor_folder, base_folder, tmp_path)
    report = str(tmp_path / "evaluation.json")
    assert cli.run(["evaluate", "--compare", report, report]) == 0
    said = capsys.readouterr().out
    assert "| editor" in said and "yes" not in said
    (tmp_path / "other.json").write_text("{}")
    assert cli.run(["evaluate", "--compare", report, str(tmp_path / "other.json")]) == 2
    assert "is no evaluation" in capsys.readouterr().err


def test_a_folder_of_somebody_elses_is_left_alone(editor_folder: Path, base_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"steps": 7}))
    with pytest.raises(DataError, match="was not made by ip2p"):
        run(editor_folder, base_folder, tmp_path)
    assert list(files(tmp_path)) == ["run.json"]


def test_unknown_methods_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["evaluate", "--methods", "editor,magic"]) == 2
    assert "there is no method 'magic'. Give some of editor, bound" in capsys.readouterr().err


def test_choices_of_data_that_exclude_each_other_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for other, value in (("--pairs", "folder"), ("--scenes", "3")):
        assert cli.run(["evaluate", "--free", other, value]) == 2
        assert f"--free and {other} exclude each other" in capsys.readouterr().err


def test_what_does_nothing_beside_a_comparison_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--compare", "a.json", "b.json"]
    defaults = ["--methods", "editor,bound,copy,sdedit,p2p,text"]
    assert cli.run([*words, "--curve", "-o", "out", "--model", "m", "--methods", "editor"]) == 2
    said = capsys.readouterr().err
    assert all(flag in said for flag in ("--model", "--methods", "--curve", "--output")) and "--seed" not in said
    assert cli.run([*words, *defaults, "--curve"]) == 2 and "--methods" not in capsys.readouterr().err
    assert cli.run(words) == 2 and "a.json" in capsys.readouterr().err


def test_a_missing_measure_of_pie_bench_is_told() -> None:
    figure = Interval(0.5, 0.4, 0.6, 9)

    def notes(*names: str) -> list[str]:
        return lpips_notes({"editor": {"all": {f"PIE-Bench {name}": figure for name in names}}})

    assert "torchmetrics" in notes("MSE", "SSIM")[0] and not notes("MSE", "LPIPS") and not notes()


@pytest.fixture
def triplets(tmp_path: Path) -> Path:
    """Three triplets in a folder, of sizes and tasks of their own; one target is of another size, one file is torn."""
    folder = tmp_path / "triplets"
    folder.mkdir()
    rows = []
    for number, side in enumerate((40, 64, 48)):
        source = Image.linear_gradient("L").convert("RGB").resize((side, 32))
        source.save(folder / f"{number}.png")
        other = (16, 16) if number == 1 else source.size
        source.point(lambda value: 255 - value).resize(other).save(folder / f"{number}-target.png")
        rows.append({"original_image": f"{number}.png", "edited_image": f"{number}-target.png"})
        rows[-1] |= {"edit_prompt": "make it night", "kind": f"task {number}"}
    rows.append(rows[0] | {"original_image": "torn.png"})
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:60])
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_anybodys_triplets_are_measured_by_task(editor_folder: Path, triplets: Path, tmp_path: Path) -> None:
    data = choose_data(str(editor_folder), str(triplets), None, 1, free=False, say=lambda _: None)
    found = evaluate_model(
        str(editor_folder), "", data, seed=1, out=tmp_path / "out", clip_name="none", say=lambda _: None,
        extent=Extent(groups=("editor", "bound", "copy"), quick=True),
    )  # fmt: skip
    assert set(found.scores[EDITOR]) == {"all", "task 0", "task 1", "task 2"}
    assert found.scores[BOUND]["all"]["iou"].rows == found.scores[EDITOR]["all"]["iou"].rows == 2
    assert {each.sample for each in found.faults} == {data.samples[3].name} and len(found.faults) == 3
    copy = found.scores[COPY]["all"]
    assert copy["MagicBrush L1"].value > 0.1 and copy["Emu Edit L1"].value == 0 and "PIE-Bench SSIM" not in copy
    assert "without two different captions" in next(iter(found.undefined))


def test_what_rows_lack_is_counted_by_reason(editor_folder: Path, triplets: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (triplets / "metadata.jsonl").read_text().splitlines()]
    Image.new("L", (8, 8), 255).save(triplets / "mask.png")
    (triplets / "torn-mask.png").write_bytes(b"no picture")
    lines[0] |= {"edit_mask": "mask.png", "edited_image": lines[0]["original_image"]}
    lines[2] |= {"edit_mask": "torn-mask.png"}
    (triplets / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = choose_data(str(editor_folder), str(triplets), None, 1, free=False, say=lambda _: None)
    found = evaluate_model(
        str(editor_folder), "", data, seed=1, out=tmp_path / "out", clip_name="none", say=lambda _: None,
        extent=Extent(groups=("bound", "copy")),
    )  # fmt: skip
    assert found.undefined == {
        "without two different captions, which have no direction": 4, "mask of another size": 1,
        "mask that cannot be read": 1, "no mask": 1, "no pixel truth (nothing changes)": 1,
        "target of another size": 1,
    }  # fmt: skip
    page = (tmp_path / "out" / "evaluation.html").read_text()
    for told in ("1 of 4 samples: no pixel truth (nothing changes)", "1 of 4 samples: mask of another size"):
        assert told in str(found) and told in page


def test_other_pictures_under_the_same_names_are_measured_anew(
    editor_folder: Path, triplets: Path, tmp_path: Path
) -> None:
    def measure() -> Evaluation:
        data = choose_data(str(editor_folder), str(triplets), 1, 1, free=False, say=lambda _: None)
        return evaluate_model(
            str(editor_folder), "", data, seed=1, out=tmp_path / "out", clip_name="none", say=lambda _: None,
            extent=Extent(groups=("copy",)),
        )  # fmt: skip

    first = measure()
    Image.new("RGB", (40, 32), "red").save(triplets / "0-target.png")
    assert measure().scores[COPY]["all"]["psnr"] != first.scores[COPY]["all"]["psnr"]


def test_a_mark_knows_scenes_versions_and_the_code_that_measures(
    editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, others = (load_storybook(1, seed, free=False).samples[0].describe() for seed in (5, 6))
    assert scenes["pictures"] != others["pictures"]
    seen: list[object] = []

    def see(*_: object, marks: dict[str, str], **__: object) -> Evaluation:
        seen.append(marks["versions"] + marks["measures"])
        return Evaluation(about={}, samples={}, methods={}, scores={})

    monkeypatch.setattr(load, "evaluate", see)

    def look(**changed: object) -> None:
        for name, value in changed.items():
            monkeypatch.setattr(load, name, value)
        evaluate_model(
            str(editor_folder), "", load_storybook(1, 5, free=False), seed=5, out=tmp_path, extent=Extent(("copy",)),
            clip_name="none", say=lambda _: None,
        )  # fmt: skip

    (tmp_path / "other.py").write_text("changed")
    look()
    look(describe_versions=lambda: "torch 1")
    look(measures=SimpleNamespace(__file__=str(tmp_path / "other.py")))
    look(storybook=SimpleNamespace(__file__=str(tmp_path / "other.py")))
    assert len(set(seen)) == 4


def test_no_more_rows_are_read_than_are_needed(triplets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row, *_) = read_triplets(triplets)
    read: list[str] = []

    def rows(splits: str) -> Iterator[Triplet]:
        for each in splits:
            read.append(each)
            yield replace(row, place=str(len(read)), split={"t": "test", "r": "train"}[each], task="")

    for splits, limit, names, seen in (
        ("rrtrt", None, "3 5", "rrtrt"), ("rrttr", 1, "3", "rrt"), ("rrr", 2, "1 2", "rrr"), ("rr", None, "1 2", "rr"),
    ):  # fmt: skip
        read.clear()
        monkeypatch.setattr(samples, "read_triplets", lambda _, splits=splits: rows(splits))
        found = samples.triplet_samples("made", 1, limit=limit)
        assert ([each.name for each in found.samples], "".join(read)) == (names.split(), seen)
        assert found.are_tests == ("t" in splits)


def test_a_number_of_rows_is_spread_over_tasks(triplets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row, *_) = read_triplets(triplets)

    def choose(tasks: str, limit: int | None, split: str = "test") -> str:
        rows = [replace(row, place=f"{number}{task}", split=split, task=task) for number, task in enumerate(tasks)]
        monkeypatch.setattr(samples, "read_triplets", lambda _: iter(rows))
        return " ".join(each.name for each in samples.triplet_samples("made", 1, limit=limit).samples)

    assert choose("aaaabbbbcccc", 6) == choose("aaaabbbbcccc", 6, "train") == "0a 1a 4b 5b 8c 9c"
    assert choose("aaaabccccc", 7) == "0a 1a 2a 4b 5c 6c 7c"  # where a task has fewer rows, others have more
    assert choose("abcabcabc", 4) == "0a 1b 2c 3a"
    assert choose("abc", 2) == "0a 1b" and choose("aab", None) == choose("aab", 9) == "0a 1a 2b"


def test_a_card_names_data_sets_in_every_form_that_a_config_has(editor_folder: Path, tmp_path: Path) -> None:
    model, spaced = tmp_path / "model", tmp_path / "a folder"
    shutil.copytree(editor_folder, model)
    for dataset, named in (
        (str(spaced), [str(spaced)]), ("owner/name", ["owner/name"]), ({"path": "b", "weight": 2}, ["b"]),
        (["owner/name", {"path": str(spaced)}], ["owner/name", str(spaced)]),
    ):  # fmt: skip
        settings = FinetuneConfig.model_validate({"dataset": dataset})
        card = model_card(settings, State(config={}), model, pairs=3, curve=HeldOutCurve())
        (model / "README.md").write_text(card)
        assert load.named_data(str(model)) == named
    said: list[str] = []
    found = choose_data(str(model), None, None, 1, free=False, say=said.append)
    assert (
        found.is_storybook
        and not said
        and len(found.notes) == 2
        and "owner/name, which is not at hand" in found.notes[0]
    )


def test_an_editors_own_test_split_is_the_default(editor_folder: Path, triplets: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(editor_folder, copy)
    said: list[str] = []
    assert choose_data(str(copy), None, None, 1, free=False, say=said.append).is_storybook
    (copy / "README.md").write_text(f"# Editor\n\n```yaml\nbase: x\ndataset: {triplets}\n```\n")
    assert choose_data(str(copy), None, None, 1, free=False, say=said.append).name == str(triplets)
    assert "card" in said[0] and choose_data(str(copy), None, 3, 1, free=False, say=said.append).is_storybook
    found = choose_data(str(copy), None, None, 1, free=False, say=said.append)
    assert found.split == "all rows, among them training pairs" and "no test split" in found.notes[0]
    assert choose_data(str(copy), str(triplets), None, 1, free=False, say=said.append) == found
    inside = choose_data(str(copy), str(triplets / "metadata.jsonl"), None, 1, free=False, say=said.append)
    assert inside.split == found.split
    (triplets / "metadata.jsonl").rename(triplets / "test.jsonl")
    found = choose_data(str(copy), None, None, 1, free=False, say=said.append)
    assert (found.split, found.notes) == ("test split", ()) and "test split" in said[-1]
    (copy / "ip2p.json").write_text(json.dumps({"vocabulary": {"words": "a barn"}}))
    assert choose_data(str(copy), None, None, 1, free=False, say=said.append).is_storybook
