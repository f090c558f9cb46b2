"""Summary of a build in a few lines: pairs over all sessions, and the time of this one."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ip2p.plurals import counted

if TYPE_CHECKING:
    from ip2p.data_gen.report.counts import Counts


class Session(NamedTuple):
    """The time of one session of a build.

    Attributes:
        seconds: duration of this session.
        drawn: candidates drawn in it.
        unet_rows: UNet rows of these candidates.
        drawing: seconds of making their pairs.
    """

    seconds: float
    drawn: int = 0
    unet_rows: int = 0
    drawing: float = 0.0

    def __str__(self) -> str:
        drawing = ""
        if self.drawn:
            drawing = (
                f", {self.drawing:.0f} of them for {counted(self.drawn, 'candidate')}: "
                f"{self.drawn / self.drawing:.2f} candidates and {self.unet_rows / self.drawing:.0f} UNet rows a second"
            )
        return f"{self.seconds:.0f} s in this session{drawing}"


class BuildSummary(NamedTuple):
    """The outcome of a build: its folder, its counts over all sessions, and the time of this session.

    Attributes:
        out: folder of the build.
        counts: counts over all sessions.
        session: time of this session, and what was drawn in it.
    """

    out: Path
    counts: "Counts"
    session: Session

    @property
    def drawn(self) -> int:
        """Candidates drawn in this session."""
        return self.session.drawn

    @property
    def unet_rows(self) -> int:
        """UNet rows of these candidates."""
        return self.session.unet_rows

    def __str__(self) -> str:
        counts = self.counts
        return (
            f"kept {counts.pairs} of {counted(counts.total, 'candidate')} ({counts.pairs / max(counts.total, 1):.1%}), "
            f"for {counts.served} of {counted(counts.triples.total(), 'triple')}; "
            f"{counts.rows_per_pair:.0f} UNet rows for each kept pair\n"
            f"{self.session}\n"
            f"data set {self.out / 'packed'}, report {self.out / 'report.html'}"
        )
