"""The report: without metrics, and with a loss of NaN."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.vocabulary import Vocabulary, read_vocabulary
from ip2p.train.checkpoint import State
from ip2p.train.config import FinetuneConfig
from ip2p.train.exact import NAMES, read_exact
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


def test_a_card_leads_with_pixel_truth_where_it_was_measured(editor_base: Backbone, tmp_path: Path) -> None:
    rows = [
        {"step": 5, "pixel_truth": 0.1, "pixel_accuracy": 0.2, "pixel_preservation": 0.3},
        {"step": 7, "pixel_truth": 0.4321, "pixel_accuracy": 0.5, "pixel_preservation": 0.987},
        {"step": 8, "loss": 1.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    exact = read_exact(tmp_path / "metrics.jsonl")
    pairs = Dataset.from_dict({"edit_prompt": ["make it winter"]})
    config = FinetuneConfig(base="base", dataset="data", validation_exact=4)
    save_editor(editor_base, tmp_path / "editor", config, State(), pairs=pairs, exact=exact)
    card = (tmp_path / "editor" / "README.md").read_text()
    assert "**Pixel truth 43.2 %** at step 7, against the exact targets of 4 held-out" in card and "98.7 %" in card
    assert card.index("Pixel truth") < card.index("| made from")
    save_editor(editor_base, tmp_path / "plain", config, State(), pairs=pairs)
    assert "Pixel truth" not in (tmp_path / "plain" / "README.md").read_text()


def test_a_loss_that_is_not_a_number_is_not_drawn(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": float("nan")}, {"step": 2, "held_out_loss": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3, "lo')
    page = write_report(tmp_path, State(step=2), pairs=9).read_text()
    assert "nan" not in page and "0.5000" in page and "pixel truth" not in page


def test_a_report_has_the_pixel_truth_that_was_measured_last(tmp_path: Path) -> None:
    rows = [{"step": step, **dict.fromkeys(NAMES, step / 10)} for step in (2, 4)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report(tmp_path, State(step=4), pairs=9).read_text()
    assert "<th>on exact targets, step 4</th><td>pixel truth 40.0 %, edit accuracy 40.0 %, pixels kept 40.0 %" in page


def test_curves_stay_inside_their_frame() -> None:
    chart = loss_chart([(float(step), 1 / step) for step in range(1, 500)], [(250.0, 0.3)])
    assert chart is not None
    drawing = chart.__html__()
    heights = [float(part.split('"')[0]) for part in drawing.split('cy="')[1:]]
    assert heights and all(0 <= height <= 240 for height in heights)
