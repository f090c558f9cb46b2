"""Signals: requests to stop, exit codes, and restored handlers."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ip2p.train.interrupt import Interrupts


@pytest.fixture(autouse=True)
def ctrl_c_as_in_a_terminal() -> Iterator[None]:
    """Restore the handler of SIGINT, which background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_of_a_scheduler_is_a_request_even_twice(number: signal.Signals, exit_code: int) -> None:
    with Interrupts(with_parent=False) as interrupts:
        assert interrupts.exit_code == 0
        for _ in range(2):
            signal.raise_signal(number)
        assert interrupts.exit_code == exit_code


def test_the_first_signal_names_the_exit_code_and_a_second_ctrl_c_acts() -> None:
    with Interrupts(with_parent=False) as interrupts:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_work_that_a_kill_does_not_harm_ends_at_once() -> None:
    with Interrupts(with_parent=False) as interrupts:
        with pytest.raises(SystemExit) as ended, interrupts.at_once():
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == 143
        signal.raise_signal(signal.SIGTERM)  # a request again


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts(with_parent=False):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


CHILD = """
import sys, time
from pathlib import Path
from ip2p.train.interrupt import Interrupts
with Interrupts(with_parent=sys.argv[1] == "True") as interrupts:
    Path(sys.argv[2], "ready").write_text("yes")
    while not Path(sys.argv[2], "end").exists() and not interrupts.received:
        time.sleep(0.01)
Path(sys.argv[2], "said").write_text(str(interrupts.exit_code))
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


def wait_for(path: Path) -> None:
    """Wait until a file is written."""
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("with_parent", "exit_code"), [(True, "143"), (False, "0")])
def test_only_a_launcher_takes_its_trainer_with_it(with_parent: bool, exit_code: str, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(with_parent), str(tmp_path)]) as parent:
        wait_for(tmp_path / "ready")
        parent.kill()
    if not with_parent:
        time.sleep(0.2)
        (tmp_path / "end").touch()
    wait_for(tmp_path / "said")
    assert (tmp_path / "said").read_text() == exit_code
