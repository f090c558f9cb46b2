"""Signal handling: SIGTERM, SIGUSR1 and SIGINT ask the loop to save a checkpoint and stop."""

import ctypes
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_PR_SET_PDEATHSIG = 1


class Interrupted(Exception):
    """A signal came in the middle of work that is done anew when the run goes on."""


class Interrupts:
    """Context in which these signals only set a flag, so that the loop can save after the current step and stop.

    SIGUSR1 is the warning that cluster managers send some minutes before the time of a job is over.

    On Linux the process also gets SIGTERM when the `accelerate launch` that started it dies: with one process that does
    not pass signals on, and would leave its trainer running as an orphan. So SIGTERM may come twice, from a scheduler
    and from a dying parent, and only ever sets the flag; a second Ctrl-C interrupts at once. Any other parent may die,
    such as a shell that somebody leaves after nohup.

    Args:
        with_parent: whether to stop when the parent process dies.
    """

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self, *, with_parent: bool) -> None:
        self.with_parent = with_parent
        self.received = 0
        self._at_once = False
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> "Interrupts":
        for number in self.signals:
            try:
                self._previous[number] = signal.signal(number, self._note)
            except ValueError:  # only the main thread may set handlers; elsewhere the caller has to stop the run
                return self
        if self.with_parent and sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Context in which a signal ends the program, for work that takes long and that a kill does not harm."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as a shell reports it: 143 for SIGTERM, 138 for SIGUSR1, 130 for Ctrl-C; or 0."""
        return 128 + self.received if self.received else 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        if self._at_once:
            raise SystemExit(self.exit_code)
        if number == signal.SIGINT:
            signal.signal(number, self._previous[number])
