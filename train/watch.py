"""Observations of a run while it trains: held-out loss, edits and their scores, and the best weights so far."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ip2p.progress import TrainingProgress
from ip2p.train.best import Best
from ip2p.train.checkpoint import State
from ip2p.train.exact import exact_figures, read_exact
from ip2p.train.held_out import HeldOutCurve
from ip2p.train.learner import Learner
from ip2p.train.metrics import Metrics
from ip2p.train.validation import Validation

Log = Callable[[dict[str, float], int], None]
SaveEditor = Callable[[Path, State, dict[str, str]], None]


class Watch:
    """Validates a run, keeps its best editor, and tells how it goes; on one rank.

    Args:
        out: folder of the run.
        step: step from which the run resumes.
        validation: held-out pairs.
        learner: weights in training and their averages.
        metrics: metrics of the run.
        progress: progress display.
        log: function that gives figures of a step to a tracker.
        save: function that writes an editor of the weights as they are, with further files by name.

    Attributes:
        curve: held-out loss so far.
        exact: latest pixel truth; None where there is none.
        best: best editor so far.
    """

    def __init__(
        self,
        out: Path,
        step: int,
        validation: Validation,
        learner: Learner,
        metrics: Metrics,
        progress: TrainingProgress,
        *,
        log: Log,
        save: SaveEditor,
    ) -> None:
        self.validation, self.learner, self.metrics, self.progress = validation, learner, metrics, progress
        self.log, self.save = log, save
        self.curve = HeldOutCurve.read(metrics.path, pairs=validation.pairs_key)
        self.exact = read_exact(metrics.path)
        self.best = Best(out, step=step)
        if self.best.point and not self.curve.has(self.best.point.step):
            aside = self.best.set_aside()
            progress.say(f"the held-out pairs are others than before: the best editor by those is kept in {aside}")
        self._remark()

    def validate(self, state: State) -> None:
        """Validate the averaged weights, and keep them if their held-out loss is the lowest so far.

        Before the first step there are no edits, for the model is not an editor yet, and nothing to keep.

        Args:
            state: progress of the run.

        Raises:
            Interrupted: a signal came; nothing of this validation is kept.
        """
        began, step = time.monotonic(), state.step
        self.validation.model.eval()
        with self.learner.averaged_weights():
            loss = self.validation.loss()
            sheet, scores = self.validation.edits(step) if step else (None, {})
            scores |= self.validation.pixel_truth() if step else {}
            self.exact = exact_figures(step, scores) or self.exact
            self.curve = self.curve.add(step, loss)  # also for the card of the best editor
            if step and self.curve.is_lowest:
                self.best.replace(self.curve.points[-1], partial(self._save, state))
        figures = {"held_out_loss": loss, **{name: round(score, 4) for name, score in scores.items()}}
        seconds = round(time.monotonic() - began, 2)
        key = self.validation.pairs_key
        self.metrics.write(step=step, **figures, held_out_pairs=key, validation_seconds=seconds)
        self.log(figures, step)
        self._remark()
        self._tell(figures, seconds, sheet)

    def _save(self, state: State, folder: Path, extra: dict[str, str]) -> None:
        self.save(folder, state, extra)

    def _remark(self) -> None:
        if self.curve.points:
            self.progress.remark = f"held-out {self.curve.points[-1].loss:.4f}"

    def _tell(self, figures: dict[str, float], seconds: float, sheet: Path | None) -> None:
        """Tell a validation in a line, and in another one that the loss rises."""
        last, lowest = self.curve.points[-1], self.curve.lowest
        told = [f"{name.replace('_', ' ')} {figure:.4f}" for name, figure in figures.items()]
        told[0] = f"held-out loss {last.loss:.4f}"
        if lowest and lowest != last:
            told[0] += f" (lowest: {lowest})"
        where = f", edits in {sheet}" if sheet else ""
        self.progress.say(f"step {last.step}: {', '.join(told)}{where} ({seconds:.0f} s)")
        if lowest and self.curve.turned:
            kept = f"; the weights of that step are in {self.best.folder}" if lowest.step else ""
            self.progress.say(f"the held-out loss rises: {last.loss:.4f}, and it was {lowest}{kept}")

    def offer(self) -> str:
        """Tell where the held-out loss was lowest, and how to edit with the weights of that step; in a line."""
        lowest, found = self.curve.lowest, self.best.point
        if lowest is None or self.curve.is_lowest:
            told = self.curve.tell()
            return f"held-out loss: {told}, where it is lowest" if told else ""
        if not lowest.step:
            return f"the held-out loss was lowest {lowest} ({self.curve.points[-1].loss:.4f} now): the base does better"
        where = f": ip2p edit --model {self.best.folder}" if found == lowest else ""
        return f"the held-out loss was lowest at step {lowest.step} ({self.curve.tell()}){where}"
