"""Signals: requests to stop, exit codes, and restored handlers."""

import signal
from collections.abc import Iterator

import pytest

from ip2p.train.interrupt import Interrupts


@pytest.fixture(autouse=True)
def ctrl_c_as_in_a_terminal() -> Iterator[None]:
    """Restore the handler of SIGINT, which background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_sigterm_is_a_request_even_twice() -> None:
    with Interrupts() as interrupts:
        assert interrupts.exit_code == 0
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert interrupts.exit_code == 143


def test_the_first_signal_names_the_exit_code_and_a_second_ctrl_c_acts() -> None:
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
