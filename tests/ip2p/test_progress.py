"""Progress where there is no terminal."""

import pytest

from ip2p.progress import StageProgress, TrainingProgress


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


def test_a_bar_is_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    lines: list[str] = []
    with StageProgress("scores", "candidates", total=4, done=1, say=lines.append) as progress:
        progress.advance(2, "fast")
    shown = capsys.readouterr()
    assert not lines and not shown.out
    assert "scores" in shown.err and "3/4" in shown.err and "fast" in shown.err


def test_a_training_says_step_speed_and_loss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(float(second) for second in range(0, 1000, 3))
    monkeypatch.setattr("ip2p.progress.time.monotonic", lambda: next(clock))
    with TrainingProgress(9, "samples") as progress:
        for step in range(1, 10):
            progress.show(step=step, samples=16 * step, loss=0.5, done=step / 9)
        progress.say("saved")
    first, *others, last, said = capsys.readouterr().err.splitlines()
    assert first == "step 1/9   11%       - samples/s  loss 0.5000"
    assert 0 < len(others) < 7 and last.startswith("step 9/9  100%") and said == "saved"
    assert all(float(line.split()[3]) > 0 for line in (*others, last))


def test_a_training_has_a_bar_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with TrainingProgress(None, "images") as progress:
        progress.show(step=7, samples=16, loss=0.25, done=1.0)
    shown = capsys.readouterr().err
    assert all(part in shown for part in ("step 7", "100%", "images/s", "loss 0.2500"))


def test_other_ranks_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(1, "samples", active=False) as progress:
        progress.show(step=1, samples=1, loss=0.5, done=1.0)
        progress.say("saved")
    assert not any(capsys.readouterr())
