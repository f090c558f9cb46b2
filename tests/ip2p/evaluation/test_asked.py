"""A vision model on a loopback server judges the pictures of an evaluation."""

import base64
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from llm_server import MODEL, Request, Server, ServerReply, completion, failure
from PIL import Image

from ip2p import cli
from ip2p.errors import ImageError
from ip2p.evaluation import draw
from ip2p.evaluation.asked import ask_judge
from ip2p.evaluation.compare import compare_evaluations
from ip2p.evaluation.report import Evaluation, MethodReport, read_report
from ip2p.evaluation.results import Result, encode_picture
from ip2p.evaluation.samples import Pictures, Sample
from ip2p.measuring import vision_judge
from ip2p.measuring.vision_judge import VisionJudge, judge_server

pytestmark = pytest.mark.filterwarnings("ignore:text longer than")
MARKS = {"reason": "fine", "edit": 0.9, "kept": 0.5, "clean": 1.0}
MakeSample = Callable[..., Sample]


def asked_orders(server: Server) -> list[tuple[str, ...]]:
    """What the pictures of each question are called, in their order."""
    return [
        tuple(part["text"] for part in request["messages"][-1]["content"][1:] if part["type"] == "text")
        for request in server.requests
    ]


def by_order(request: Request) -> ServerReply:
    """Mark 0.9 where the picture before comes first, and else 0.5."""
    first = request["messages"][-1]["content"][1]["text"]
    return completion(json.dumps(MARKS | {"edit": 0.9 if "before" in first else 0.5}), read=1000)


def gray(level: int) -> Image.Image:
    """A gray picture."""
    return Image.new("RGB", (32, 32), (level, level, level))


def results_of(samples: list[Sample], levels: dict[str, int]) -> dict[str, list[Result]]:
    """Pictures of gray levels by method; the last sample of each has a fault."""
    found = {}
    for method, level in levels.items():
        rows = [
            Result(each.name, each.kind, figures={"iou": 0.5}, picture=encode_picture(gray(level + 9 * row)))
            for row, each in enumerate(samples)
        ]  # fmt: skip
        found[method] = [*rows[:-1], rows[-1]._replace(fault="failed", picture=None)]
    return found


def judge_at(server: Server, folder: Path, says: list[str] | None = None, **settings: Any) -> VisionJudge:
    chosen = judge_server(f"openai:{MODEL}", url=server.url, **settings)
    return VisionJudge(chosen, folder, say=(says if says is not None else []).append)


def test_both_orders_are_asked_once(server: Server, make_sample: MakeSample, tmp_path: Path) -> None:
    server.script = by_order
    samples = [make_sample(number) for number in range(3)]
    results = results_of(samples, {"editor": 20, "copy": 120})
    found = ask_judge(samples, results, judge_at(server, tmp_path))
    assert found.results["editor"][0].figures == {
        "iou": 0.5, "asked": 0.35, "asked_edit": 0.7, "asked_kept": 0.5, "asked_clean": 1.0,
    }  # fmt: skip
    assert found.results["editor"][2] == results["editor"][2] and "4 of 4 pictures" in found.note
    orders = asked_orders(server)
    assert len(orders) == 8 and len(set(orders)) == 2 and all(orders.count(each) == 4 for each in set(orders))
    pictures = [
        base64.b64decode(part["image_url"]["url"].partition(",")[2])
        for part in server.requests[0]["messages"][-1]["content"] if part["type"] == "image_url"
    ]  # fmt: skip
    assert len(pictures) == 2 and all(each.startswith(b"\xff\xd8") for each in pictures)
    server.shutdown()  # what is answered asks nobody
    assert ask_judge(samples, results, judge_at(server, tmp_path)) == found


def test_a_budget_that_ends_leaves_the_first_samples_judged(
    server: Server, make_sample: MakeSample, tmp_path: Path
) -> None:
    server.script = by_order
    samples = [make_sample(number) for number in range(12)]
    results = results_of(samples, {"editor": 20, "copy": 120})
    says: list[str] = []
    settings = {"prices": (1.0, 4.0)}
    first = ask_judge(samples, results, judge_at(server, tmp_path, says, budget=0.03, **settings))
    judged = {method: [row.sample for row in rows if "asked" in row.figures] for method, rows in first.results.items()}
    assert 0 < len(judged["editor"]) < 11 and any("--judge-budget goes on" in line for line in says)
    spent = len(server.requests)
    whole = ask_judge(samples, results, judge_at(server, tmp_path, budget=1.0, **settings))
    assert "22 of 22 pictures" in whole.note and len(server.requests) == 44 > spent


def test_inputs_are_read_when_they_are_needed_and_one_that_is_gone_is_told(
    server: Server, make_sample: MakeSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = by_order
    monkeypatch.setattr(vision_judge, "AT_ONCE", 4)
    read: list[str] = []

    def load(number: int) -> Pictures:
        read.append(f"s-{number}")
        if number == 1 or number == 2 and read.count("s-2") > 1:  # removed before, or while others are asked about
            raise ImageError(f"there is no picture {number}.png", "Check the name")
        return Pictures(gray(10 * number))

    samples = [make_sample(number, load=partial(load, number)) for number in range(5)]
    found = ask_judge(samples, results_of(samples, {"editor": 20, "copy": 120}), judge_at(server, tmp_path))
    assert [["asked" in row.figures for row in rows] for rows in found.results.values()] == [
        [True, False, False, True, False]
    ] * 2
    assert "4 of 8 pictures" in found.note and "inputs of 2 samples cannot be read" in found.note
    assert read.count("s-0") == read.count("s-3") == 2  # for the keys, and to be asked about


def test_a_price_that_is_not_known_is_asked_for(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "--judge", "openai:some-model", "--judge-url", "https://judge.example.com/v1"]
    assert cli.run([*arguments, "--scenes", "1", "--output", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    assert "--judge-budget is 1" in (said := capsys.readouterr().err) and "--judge-prices" in said
    assert cli.run(["evaluate", "--judge", "some-model"]) == 2
    assert "Give --judge openai:MODEL" in capsys.readouterr().err


@pytest.mark.slow
def test_marks_stand_in_the_report(
    server: Server, editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "BATCH_SIZE", 2)
    server.script = by_order
    command = [
        "evaluate", "--model", str(editor_folder), "--scenes", "2", "--methods", "editor,copy", "--quick", "--clip",
        "none", "--judge", f"openai:{MODEL}", "--judge-url", server.url, "--output", str(tmp_path),
    ]  # fmt: skip
    assert cli.run(command) == 0
    report = read_report(tmp_path)
    assert report.scores["editor"]["all"]["asked"].value == 0.35 and report.about["asked"] == MODEL
    assert "vision model: both" in (tmp_path / "evaluation.html").read_text() and len(server.requests) == 8
    written = (tmp_path / "evaluation.json").read_bytes()
    assert cli.run(command) == 0
    assert len(server.requests) == 8 and (tmp_path / "evaluation.json").read_bytes() == written


def test_a_model_that_refuses_leaves_the_report(server: Server, editor_folder: Path, tmp_path: Path) -> None:
    server.script = lambda _: failure(401, "who are you?")
    command = [
        "evaluate", "--model", str(editor_folder), "--scenes", "1", "--methods", "copy", "--clip", "none", "--judge",
        f"openai:{MODEL}", "--judge-url", server.url, "--output", str(tmp_path),
    ]  # fmt: skip
    assert cli.run(command) == 0
    report = read_report(tmp_path)
    assert report.scores["copy of the input"]["all"]["iou"].value == 0
    assert f"marks of {MODEL} are not among the measures" in report.notes[-1] and "key" in report.notes[-1]


def test_marks_of_different_models_are_not_compared() -> None:
    def evaluation(model: str, mark: float) -> Evaluation:
        figures = {f"s-{number}": {"asked": mark, "iou": mark} for number in range(4)}
        return Evaluation(
            about={"data": "made", "seed": 1, "asked": model}, samples=dict.fromkeys(figures, "season"),
            methods={"editor": MethodReport(settings={}, rows=1, figures=figures)}, scores={},
        )  # fmt: skip

    def measures(first: Evaluation, second: Evaluation) -> set[str]:
        return {each.measure for each in compare_evaluations(first, second)}

    assert measures(evaluation("a", 0.5), evaluation("a", 0.6)) == {"asked", "iou"}
    assert measures(evaluation("a", 0.5), evaluation("b", 0.6)) == {"iou"}
