"""The best weights of a run so far: the editor of the validation with the lowest held-out loss.

    out/best/             whole or absent; held_out.json in it has the step and the loss
    out/best-before/      the best as of the last checkpoint, if a better one was found since
    out/best-step-N/      the best by other held-out pairs, whose losses cannot be compared

A run that was killed resumes from its last checkpoint, and its best is then again what it was at that step.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from ip2p.shards import sweep_temporaries
from ip2p.train.held_out import Point

NAMES = ("best", "best-before", "best-removed")
RECORD = "held_out.json"


class Best:
    """Keeps the best editor of a run.

    Args:
        out: folder of the run.
        step: step from which the run resumes; a best of a later step is taken back.
    """

    def __init__(self, out: Path, *, step: int) -> None:
        self.folder, self._before = (out / name for name in NAMES[:2])
        self._saved = step
        sweep_temporaries(out, NAMES[0])
        found = self.point
        if found and found.step <= step:
            _remove(self._before)
            return
        _remove(self.folder)  # these steps are taken again
        if self._before.is_dir():
            self._before.rename(self.folder)

    @property
    def point(self) -> Point | None:
        """Step and loss of the best editor; None if there is none."""
        try:
            return Point(**json.loads((self.folder / RECORD).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def replace(self, point: Point, save: Callable[[Path, dict[str, str]], None]) -> None:
        """Replace the best editor; one that the last checkpoint knows stays beside it.

        Args:
            point: its step and its loss.
            save: function that writes an editor as a folder, atomically, with further files by name.
        """
        found = self.point
        if found and found.step <= self._saved:
            _remove(self._before)
            self.folder.rename(self._before)
        save(self.folder, {RECORD: json.dumps(point._asdict()) + "\n"})

    def set_aside(self) -> Path:
        """Rename the best editor after its step, where no better one will replace it; returns its folder."""
        assert self.point
        aside = self.folder.with_name(f"{NAMES[0]}-step-{self.point.step:08d}")
        _remove(aside)
        return self.folder.rename(aside)

    def checkpointed(self, step: int) -> None:
        """Note that there is a checkpoint of a step, so that no earlier best is needed."""
        self._saved = step
        _remove(self._before)


def _remove(folder: Path) -> None:
    """Remove a folder; a kill meanwhile leaves nothing half removed under its name."""
    doomed = folder.with_name(NAMES[2])
    if doomed.is_dir():
        shutil.rmtree(doomed)
    if folder.is_dir():
        folder.rename(doomed)
        shutil.rmtree(doomed)
