"""A vision model as one of the measures that are measured: which planted faults it sees."""

import json
import math
from argparse import Namespace
from pathlib import Path

import measures
import pytest
from llm_server import MODEL, Request, Server, ServerReply, completion

from ip2p.errors import DataError, WriterError
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.intervals import Interval
from ip2p.measuring.planted_faults import judge_measure, plant_faults
from ip2p.measuring.vision_judge import VisionJudge, judge_server
from ip2p.storybook.judge import Judge


def sees_nothing_done(request: Request) -> ServerReply:
    """Mark an edit as done wherever both pictures differ."""
    parts = [each for each in request["messages"][-1]["content"] if each["type"] == "image_url"]
    done = float(parts[0]["image_url"]["url"] != parts[1]["image_url"]["url"])
    return completion(json.dumps({"reason": "as it looks", "edit": done, "kept": 0.5, "clean": 1.0}), read=1000)


def test_a_vision_model_is_a_measure(server: Server, tmp_path: Path) -> None:
    server.script = sees_nothing_done
    vision = VisionJudge(judge_server(f"openai:{MODEL}", url=server.url), tmp_path, say=lambda _: None)
    clip, judge = ClipScorer.from_pretrained("storybook-clip-a"), Judge.from_pretrained("storybook-judge")
    made = measures.make_measures(clip, judge, vision)
    assert list(made)[-1] == f"{MODEL}: edit x kept" and len(made) == 1 + len(measures.make_measures(clip, judge, None))
    planted = plant_faults(3, 5)
    found = judge_measure(made[f"{MODEL}: edit x kept"], planted, seed=5)
    assert found["nothing done"].value == 1 and found["shift"].value == 0.5
    asked = len(server.requests)
    assert asked == 2 * 3 * len(planted)  # both orders of each
    assert judge_measure(made[f"{MODEL}: edit x kept"], planted, seed=5) == found and len(server.requests) == asked


def test_access_and_labels_are_checked_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(measures, "make_measures", lambda *_: pytest.fail("measured"))
    given = Namespace(
        folders=[], judge="openai:gpt-5-mini", judge_url="", judge_budget=1.0, out=tmp_path / "out", dino=None,
        clip="storybook-clip-a", faults=1,
    )  # fmt: skip
    with pytest.raises(WriterError, match="OPENAI_API_KEY"):
        measures.run(given)
    with pytest.raises(DataError, match="is not there"):
        measures.run(Namespace(**vars(given) | {"judge": None, "folders": [tmp_path / "other"]}))


def test_an_interval_of_no_scores_is_a_dash() -> None:
    assert measures.show(Interval(math.nan, math.nan, math.nan, 0)) == "-"
    assert measures.show(Interval(0.5, math.nan, math.nan, 1)) == "0.50"
    assert measures.show(Interval(0.5, 0.25, 0.75, 9)) == "0.50 (0.25 to 0.75)"
