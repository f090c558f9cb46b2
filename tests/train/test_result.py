"""The report: without metrics, and with a loss of NaN."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.vocabulary import Vocabulary, read_vocabulary
from ip2p.train.checkpoint import State
from ip2p.train.config import FinetuneConfig
from ip2p.train.result import loss_chart, save_editor, write_report


@pytest.fixture
def editor_base(tiny_base: Path) -> Backbone:
    return load_backbone(tiny_base)


def test_a_report_of_nothing_is_still_a_page(tmp_path: Path) -> None:
    assert "No step was taken" in write_report(tmp_path, State(), pairs=0).read_text()


def test_an_editor_knows_the_words_of_its_base_and_of_its_instructions(editor_base: Backbone, tmp_path: Path) -> None:
    pairs = Dataset.from_dict({"edit_prompt": ["Make it WINTER.", "make it winter", "a" * 41, "add a zebra"]})
    editor_base.vocabulary = Vocabulary(frozenset({"barn"}), ("a barn",))
    config = FinetuneConfig(base="base", dataset="data")
    save_editor(editor_base, tmp_path / "editor", config, State(words=["comet"]), pairs=pairs)
    found = read_vocabulary(tmp_path / "editor")
    assert found == Vocabulary(
        frozenset({"comet", "barn", "make", "it", "winter", "a" * 41, "add", "a", "zebra"}),
        ("Make it WINTER.", "make it winter", "add a zebra"),
    )
    editor_base.vocabulary = None
    save_editor(editor_base, tmp_path / "open", config, State(), pairs=pairs)
    assert read_vocabulary(tmp_path / "open") is None


def test_a_loss_that_is_not_a_number_is_not_drawn(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": float("nan")}, {"step": 2, "held_out_loss": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3, "lo')
    page = write_report(tmp_path, State(step=2), pairs=9).read_text()
    assert "nan" not in page and "0.5000" in page


def test_curves_stay_inside_their_frame() -> None:
    chart = loss_chart([(float(step), 1 / step) for step in range(1, 500)], [(250.0, 0.3)])
    assert chart is not None
    drawing = chart.__html__()
    heights = [float(part.split('"')[0]) for part in drawing.split('cy="')[1:]]
    assert heights and all(0 <= height <= 240 for height in heights)
