"""Progress where there is no terminal."""

import pytest

from ip2p.progress import StageProgress


def test_plain_lines_say_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(float(second) for second in range(0, 1000, 4))
    monkeypatch.setattr("ip2p.progress.time.monotonic", lambda: next(clock))
    lines: list[str] = []
    with StageProgress("candidates", "candidates", total=40, done=10, say=lines.append) as progress:
        for _ in range(30):
            progress.advance(1, "80 UNet rows/s")
    assert lines[0] == "candidates: 40 candidates, 10 already there"
    assert 2 < len(lines) < 30
    assert all("of 40 candidates" in line and "80 UNet rows/s" in line and "min left" in line for line in lines[1:])


def test_a_finished_stage_says_nothing() -> None:
    lines: list[str] = []
    with StageProgress("scores", "candidates", total=4, done=4, say=lines.append):
        pass
    assert not lines
