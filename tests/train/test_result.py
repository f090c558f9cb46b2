"""The report: without metrics, and with a loss of NaN."""

import json
from pathlib import Path

from ip2p.train.checkpoint import State
from ip2p.train.result import loss_chart, write_report


def test_a_report_of_nothing_is_still_a_page(tmp_path: Path) -> None:
    assert "No step was taken" in write_report(tmp_path, State(), pairs=0).read_text()


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
