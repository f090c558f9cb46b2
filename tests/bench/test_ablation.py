"""An ablation with tiny models: its sets, equal updates, kills, and what it says came out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import ablation
import pytest
from ablation_report import HYPOTHESES, Trained, judge_hypotheses, name_path, table_rows, write_ablation
from ablation_sets import OPEN, PAPERS, choose_pairs, filter_settings, packed_ids, read_set
from accelerate.state import AcceleratorState
from PIL import Image

from ip2p import cli
from ip2p.config import load_config
from ip2p.data_gen import pipeline
from ip2p.data_gen.build_file import load_settings
from ip2p.data_gen.config import DatasetConfig, FilterConfig
from ip2p.evaluation import draw
from ip2p.evaluation.measures import MEASURES
from ip2p.evaluation.methods import EDITOR
from ip2p.evaluation.report import Evaluation, MethodReport
from ip2p.evaluation.results import Result
from ip2p.evaluation.scores import score_methods
from ip2p.measuring.intervals import Interval
from ip2p.records import in_share
from ip2p.shards import read_shards
from ip2p.train import finetune

pytestmark = pytest.mark.filterwarnings("ignore:text longer than", "ignore:words unknown")
Main = Callable[..., int]


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


@pytest.fixture(scope="module")
def build(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of storybook captions that keeps some of its pairs, and has the pictures of half of the others."""
    out = tmp_path_factory.mktemp("build") / "data"
    settings = [
        f"out={out}", "shard_size=8", "captions.source=storybook", "captions.count=24", f"pairs.model={base_folder}",
        "pairs.steps=2", "pairs.candidates=1", "pairs.batch=8", "pairs.store_refused=0.5", "pairs.safety_checker=false",
        "scores.clip=storybook-clip-a", "filter.source=-0.13", "filter.edited=-1", "filter.image=-1",
        "filter.direction=0", "pack.split=0.2",
    ]  # fmt: skip
    pipeline.build(load_config(DatasetConfig, None, settings), say=lambda _: None)
    return out


def run_here(command: list[str]) -> int:
    """Run a command line in this process: the same code without seconds of imports."""
    program, *words = command
    if Path(program).name == "ip2p":
        return cli.run(words)
    assert words[:2] == ["launch", "train/finetune.py"]
    AcceleratorState._reset_state(reset_partial_state=True)
    return finetune.main(words[2:])


@pytest.fixture
def main(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """The program with few samples; `out` and `run` may be given."""
    monkeypatch.setattr(draw, "BATCH_SIZE", 2)

    def start(*more: str, out: str = "out", run: Callable[[list[str]], int] = run_here, updates: int | None = 3) -> int:
        given = [
            "--build", str(build), "--out", str(tmp_path / out), "--scenes", "2", "--curve-samples",
            "2", "--clip", "storybook-clip-a", "batch=2", "size=32", "precision=fp32", "threads=1", "ema_decay=0.5",
            "validation_edits=0", "attention=sdpa", *(["--updates", str(updates)] if updates else []),
        ]  # fmt: skip
        return ablation.main([*given, *more], run=run)

    return start


def test_sets_are_what_they_say(build: Path, main: Main, tmp_path: Path) -> None:
    trained: list[str] = []

    def run(command: list[str]) -> int:
        if "launch" in command:
            trained.append(next(each for each in command if each.startswith("dataset=")))
            return 1
        return run_here(command)

    before = {str(path): path.read_bytes() for path in build.rglob("*") if path.is_file()}
    assert main("--only", "tenth,hundredth,unfiltered", run=run) == 2 and len(trained) == 1
    after = {str(path): path.read_bytes() for path in build.rglob("*") if path.is_file()}
    assert {name: data for name, data in after.items() if "/leases/" not in name} == {
        name: data for name, data in before.items() if "/leases/" not in name
    }
    sets = {name: read_set(tmp_path / "out" / "sets" / name) for name in ("all", "tenth", "hundredth", "unfiltered")}
    kept = {row["id"]: row for row in read_shards(build / "filtered")}
    whole = sets["all"].ids
    assert set(whole) == set(packed_ids(build / "packed")) and len(whole) > 4
    assert set(sets["hundredth"].ids) <= set(sets["tenth"].ids) <= set(whole)
    assert len(sets["tenth"].ids) == max(1, round(0.1 * len(whole))) and len(sets["hundredth"].ids) == 1
    open_ids = sets["unfiltered"].ids
    assert any(kept[each]["status"] == "refused" for each in open_ids) and len(open_ids) <= len(whole)
    assert all(in_share(each, 0.5, "stored") for each in open_ids)  # of kept and refused ones alike
    for each in sets.values():
        assert packed_ids(each.folder) == list(each.ids)
        assert packed_ids(each.folder, "test") == packed_ids(build / "packed", "test") != []


def test_a_build_that_is_filtered_otherwise_meanwhile_is_told(
    build: Path, main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "build"
    shutil.copytree(build, own)

    def run(command: list[str]) -> int:
        return 1 if "launch" in command else run_here(command)

    def filter_again(*settings: str) -> None:
        assert cli.run(["dataset", "filter", f"out={own}", *settings]) == 0

    filter_again()  # the settings know the folder of the copy from here on
    arguments = ("--build", str(own), "--only", "all")
    assert main(*arguments, run=run) == 2 and "ended with 1" in capsys.readouterr().err
    filter_again("filter.direction=0.01", "filter.per_kind={recolor: {direction: 0.02}}")
    assert main(*arguments, run=run) == 2
    assert "filter.direction was 0.0 when" in (said := capsys.readouterr().err) and "is 0.01 now" in said
    filter_again("filter.direction=0")
    assert main(*arguments, run=run) == 2 and "filter.per_kind" in capsys.readouterr().err
    assert main(*arguments, out="other", run=run) == 2 and "ended with 1" in capsys.readouterr().err
    filter_again("filter.direction=0", "filter.per_kind={}")
    assert main(*arguments, out="other", run=run) == 2
    assert "filter.per_kind" in (said := capsys.readouterr().err) and "is None now" in said


def test_thresholds_of_the_paper_and_none_at_all() -> None:
    opened = load_settings(None, filter_settings(OPEN, top_k=9)).filter
    assert opened.top_k == 9 and not opened.per_kind and opened.direction < -1 and opened.image_max > 1
    papers = load_settings(None, filter_settings(PAPERS)).filter
    assert papers.model_dump(exclude={"top_k"}) == FilterConfig().model_dump(exclude={"top_k"})


def test_only_sets_beyond_the_kept_pairs_are_thinned() -> None:
    own = [f"{number:016x}" for number in range(200)]
    others = [f"{number:016x}" for number in range(200, 400)]
    assert choose_pairs(own, own, share=1, stored=0.5, most=None) == own
    mixed = choose_pairs(own + others, own, share=1, stored=0.5, most=None)
    assert set(mixed) == {each for each in own + others if in_share(each, 0.5, "stored")}
    assert len(choose_pairs(own + others, own, share=1, stored=0.5, most=60)) == 60


@pytest.mark.slow
def test_a_killed_ablation_ends_as_one_that_was_not(main: Main, tmp_path: Path) -> None:
    assert main("--only", "undropped") == 0
    done: list[list[str]] = []

    def run_and_die(command: list[str]) -> int:
        """End a program, and be killed before that is written down."""
        status = run_here(command)
        done.append(command)
        if len(done) in (2, 4):
            raise Killed
        return status

    for _ in range(2):
        with pytest.raises(Killed):
            main("--only", "undropped", out="killed", run=run_and_die)
    assert ["launch" in each for each in done] == [False, True, True, True]  # the first training is begun again
    assert main("--only", "undropped", out="killed") == 0
    one, two = (json.loads((tmp_path / name / "ablation.json").read_text()) for name in ("out", "killed"))
    assert one == two | {"about": one["about"]}
    assert {each["updates"] for each in one["editors"]} == {3}
    assert [each["name"] for each in one["editors"]] == ["all", "undropped"]
    configs = {
        name: json.loads((tmp_path / "out" / "runs" / name / "run.json").read_text())["config"]
        for name in ("all", "undropped")
    }
    assert configs["undropped"]["drop"] == 0 != configs["all"]["drop"]
    same = set(configs["all"]) - {"drop", "out", "dataset"}
    assert all(
        {json.dumps(each[key]) for each in configs.values()} == {json.dumps(configs["all"][key])} for key in same
    )
    page = (tmp_path / "out" / "ablation.html").read_text()
    assert page.count("<polyline") >= 2 and "without dropped conditions" in page and "beyond chance" in page

    def nothing(command: list[str]) -> int:
        pytest.fail(f"done again: {command}")

    assert main("--only", "undropped", run=nothing) == 0
    assert main("--only", "undropped", "--seed", "5", run=nothing) == 2


def evaluation(**figures: list[float]) -> Evaluation:
    """An evaluation of an editor with these figures of each sample."""
    count = len(next(iter(figures.values())))
    names = [f"s-{number}" for number in range(count)]
    by_sample = {name: {key: values[row] for key, values in figures.items()} for row, name in enumerate(names)}
    results = [Result(name, "season", figures=each) for name, each in by_sample.items()]
    return Evaluation(
        about={"editor": "made", "data": "made", "seed": 1}, samples=dict.fromkeys(names, "season"),
        methods={EDITOR: MethodReport(settings={}, rows=1, figures=by_sample)},
        scores=score_methods({EDITOR: results}, 1),
    )  # fmt: skip


def test_hypotheses_are_held_against_paired_samples() -> None:
    noise = [number / 1000 for number in range(40)]
    better = evaluation(clip_direction=[0.2 + each for each in noise], iou=[0.5] * 40)
    worse = evaluation(clip_direction=[0.1 + 1.1 * each for each in noise], iou=[0.5] * 40)
    found = {each.hypothesis.measure: each for each in judge_hypotheses({"all": better, "tenth": worse})}
    assert set(found) == {"clip_direction", "iou"}
    assert found["clip_direction"].outcome == "came out beyond chance" and found["iou"].outcome == "not beyond chance"
    assert str(found["clip_direction"]).startswith("from 10 % of the pairs, edits go less far (paper): came out")
    swapped = {each.hypothesis.measure: each for each in judge_hypotheses({"all": worse, "tenth": better})}
    assert swapped["clip_direction"].outcome == "the other way round, beyond chance"
    trained = [Trained("all", "all kept pairs", 9, 3, 0.5), Trained("tenth", "10 % of them", 1, 3, None)]
    header, (first, second) = table_rows(trained, {"all": better, "tenth": worse})
    assert header[5:] == ["pixel truth %", "CLIP direction"] and first[:5] == [
        "all",
        "all kept pairs",
        "9",
        "3",
        "0.5000",
    ]
    assert second[-1].endswith(" *") and not second[-2].endswith("*") and not first[-1].endswith("*")
    better.scores["copy of the input"] = {"all": {"iou": Interval(0.0, 0.0, 0.0, 40)}}
    _, (*editors, copy) = table_rows(trained, {"all": better, "tenth": worse})
    assert editors == [first, second] and copy[1] == "copy of the input" and copy[-2:] == ["0.0 (0.0 to 0.0)", "-"]


def test_a_report_names_no_folder_of_the_machine_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path.resolve() / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    facts = {"build": here / "data" / "mine", "base": here.parent / "models" / "base", "data": "storybook", "seed": 1}
    assert {name: name_path(str(each)) for name, each in facts.items()} == {
        "build": "data/mine", "base": "base", "data": "storybook", "seed": "1"
    }  # fmt: skip
    assert name_path(str(here)) == "here" and name_path(1) == 1 and name_path(None) is None
    about = {"build": str(facts["build"]), "seed": 1, "updates": 3}
    measured = evaluation(iou=[0.5] * 4)
    measured.about["data"] = str(here.parent / "triplets")
    write_ablation(here, [Trained("all", "all kept pairs", 9, 3, 0.5)], {"all": measured}, about, lambda _: None)
    page, figures = (here / "ablation.html").read_text(), json.loads((here / "ablation.json").read_text())
    assert str(tmp_path) not in page and "data/mine" in page and "triplets" in page
    assert figures["about"] == {"build": "data/mine", "seed": 1, "updates": 3}


def test_every_hypothesis_is_of_editors_and_measures_that_there_are() -> None:
    named = {each.better for each in HYPOTHESES} | {each.worse for each in HYPOTHESES}
    assert named == {each.name for each in ablation.VARIANTS} and {each.measure for each in HYPOTHESES} <= set(MEASURES)


def test_minutes_become_updates_once(main: Main, tmp_path: Path) -> None:
    trained: list[list[str]] = []

    def run(command: list[str]) -> int:
        if "launch" not in command:
            return run_here(command)
        trained.append(command)
        if len(trained) > 1:
            return 1
        metrics = tmp_path / "out" / "runs" / "pace" / "metrics.jsonl"
        metrics.parent.mkdir(parents=True)
        metrics.write_text('{"step": 6}\n{"step": 7}\n')
        return 0

    for _ in range(2):  # the second finds the plan with its updates
        assert main("--only", "all", "--minutes", "5", run=run, updates=None) == 2
    assert "minutes=1.0" in trained[0] and len(trained) == 3
    assert all({"steps=35", "minutes=null"} <= set(each) for each in trained[1:])
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["updates"] == 35


@pytest.mark.parametrize("why", ["without CLIP", "without captions"])
def test_without_curves_the_rest_is_measured(
    why: str, main: Main, editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def run(command: list[str]) -> int:
        """Filter and evaluate; in place of a training, take an editor that is there."""
        if "launch" not in command:
            return run_here(command)
        assert "left out: curves; a curve needs" in capsys.readouterr().out
        folder = tmp_path / "out" / "runs" / "all"
        (folder / "checkpoints" / "step-3").mkdir(parents=True)
        (folder / "checkpoints" / "step-3" / "state.json").write_text('{"updates": 3}')
        (folder / "metrics.jsonl").touch()
        (folder / "editor").symlink_to(editor_folder)
        return 0

    (tmp_path / "triplets").mkdir()
    rows = [{"source": f"{number}.png", "instruction": "make it night"} for number in range(2)]
    for number, row in enumerate(rows):
        Image.linear_gradient("L").resize((32, 32)).rotate(90 * number).save(tmp_path / "triplets" / row["source"])
    (tmp_path / "triplets" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    more = ["--clip", "none"] if why == "without CLIP" else ["--pairs", "triplets"]
    assert main("--only", "all", *more, run=run) == 0
    report = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert report["scores"]["all"] and "<polyline" not in (tmp_path / "out" / "ablation.html").read_text()


def test_paths_hold_wherever_programs_run_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "mine.yaml", "storybook-clip-a", "none"):
        (tmp_path / name).mkdir()
    here = ["--pairs", "mine", "--base", "mine", "--clip", "mine", "--config", "mine.yaml", "--thresholds", "mine.yaml"]
    found = ablation.parse(here)
    assert found.pairs == found.base == found.clip == str(tmp_path / "mine")
    assert (found.config, found.thresholds) == (str(tmp_path / "mine.yaml"), tmp_path / "mine.yaml")
    names = ablation.parse(["--pairs", "osunlp/MagicBrush", "--base", "storybook-base", "--config", "paper_finetune"])
    assert (names.pairs, names.base, names.config) == ("osunlp/MagicBrush", "storybook-base", "paper_finetune")
    for clip in ("storybook-clip-a", "none"):
        assert ablation.parse(["--clip", clip]).clip == clip
    assert ablation.parse([]).clip is None
