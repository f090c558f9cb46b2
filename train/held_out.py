"""The held-out loss over the steps of a run: where it is lowest, whether it rises, and how long it has not fallen."""

from pathlib import Path
from typing import NamedTuple

from ip2p.train.metrics import read_metrics

RISE = 0.05
"""Rise above the lowest loss, as a share of it, that is told after a single validation."""


class Point(NamedTuple):
    """The held-out loss after a number of optimizer steps."""

    step: int
    loss: float

    def __str__(self) -> str:
        return f"{self.loss:.4f} {f'at step {self.step}' if self.step else 'before the first step'}"


class HeldOutCurve(NamedTuple):
    """The held-out loss of each validation, in the order of steps."""

    points: tuple[Point, ...] = ()

    @classmethod
    def read(cls, metrics: Path, *, pairs: int | None = None) -> "HeldOutCurve":
        """Read the curve from a metrics.jsonl, where it is kept: so a run that resumes knows all of it.

        Args:
            metrics: path of the file.
            pairs: key of the held-out pairs, see `Validation.pairs_key`: losses of other ones are left out, for they
                are no measure of these; None for those of any.
        """
        rows = [row for row in read_metrics(metrics) if "held_out_loss" in row]
        rows = [row for row in rows if pairs is None or row.get("held_out_pairs", pairs) == pairs]
        last = {int(row["step"]): float(row["held_out_loss"]) for row in rows}
        return cls(tuple(Point(step, last[step]) for step in sorted(last)))

    def add(self, step: int, loss: float) -> "HeldOutCurve":
        """Return the curve with one more validation, which replaces an earlier one of the same step."""
        return HeldOutCurve((*(each for each in self.points if each.step != step), Point(step, loss)))

    def has(self, step: int) -> bool:
        """Return whether there was a validation at a step."""
        return any(each.step == step for each in self.points)

    @property
    def lowest(self) -> Point | None:
        """The first validation with the lowest loss, of those that are numbers; None if there is none."""
        finite = [each for each in self.points if each.loss < float("inf")]
        return min(finite, key=lambda each: each.loss, default=None)

    @property
    def stale(self) -> int:
        """Validations since the lowest loss."""
        lowest = self.lowest
        return sum(each.step > lowest.step for each in self.points) if lowest else len(self.points)

    @property
    def is_lowest(self) -> bool:
        """Whether the last validation has the lowest loss so far."""
        return bool(self.points) and self.lowest == self.points[-1]

    @property
    def turned(self) -> bool:
        """Whether it was the last validation that showed a rise: the second without a new lowest loss, or a steep one.

        A rise is told once, until there is a new lowest loss.
        """
        return self._rises and not HeldOutCurve(self.points[:-1])._rises

    @property
    def _rises(self) -> bool:
        lowest = self.lowest
        if lowest is None or not self.stale:
            return False
        return self.stale >= 2 or self.points[-1].loss > (1 + RISE) * lowest.loss

    def thinned(self, count: int) -> list[Point]:
        """Return at most `count` points, at least three: the first, the lowest, the last, and others evenly between."""
        total = len(self.points)
        kept = {number * (total - 1) // (count - 2) for number in range(count - 1)} if total > count else range(total)
        return [each for number, each in enumerate(self.points) if number in kept or each == self.lowest]

    def tell(self) -> str:
        """Tell the first, the lowest and the last loss; an empty text without any."""
        told = (self.points[0], self.lowest, self.points[-1]) if self.points else ()
        return ", ".join(str(each) for each in dict.fromkeys(told) if each)
