"""Progress of a build, from the shards that are finished: pairs an hour, and whether nearly all are refused."""

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ip2p.data_gen.config import DatasetConfig
from ip2p.plurals import counted
from ip2p.progress import StageProgress
from ip2p.records import Reason

HOPELESS = 0.05
"""Share of candidates that pass the filter, below which a build is not worth its hours."""
DOUBTED = 0.1
"""Share that has to be ruled out, too, so that a few unlucky candidates are no reason to say anything."""
REMEDIES = {
    Reason.LOW_SOURCE: "{model} hardly draws what captions say: take a base model made for such ones",
    Reason.LOW_EDITED: "{model} hardly draws what edited captions say: take a base model made for such ones",
    Reason.LOW_IMAGE: "the two pictures differ too much: raise pairs.p_min, or lower filter.image for this CLIP",
    Reason.HIGH_IMAGE: "hardly anything is edited: lower pairs.p_max, or raise pairs.cfg_min",
    Reason.LOW_DIRECTION: "edits hardly happen: lower pairs.p_max, or filter.direction if it is too high for this CLIP",
    Reason.HIGH_LAYOUT: "the layout moves: raise pairs.p_min, or filter.layout_max",
    Reason.LOW_CHANGED: "hardly any pixel changes: lower pairs.p_max, or filter.changed_min",
    Reason.HIGH_CHANGED: "too many pixels change: raise pairs.p_min, or filter.changed_max",
    Reason.HIGH_SHIFT: "the pictures are shifted: raise pairs.p_min, or filter.shift_max",
    Reason.REJECTED_EARLY: "estimates say too little so early: raise pairs.early_at or pairs.early_margin, or give 0",
    Reason.UNSAFE: "the safety checker of {model} blocks nearly all: look at the captions",
}
"""Likely causes where most candidates are refused for a reason."""

if TYPE_CHECKING:
    from ip2p.data_gen.stages import ShardOutcome


class Throughput:
    """Counts of this session.

    Args:
        progress: progress of the candidates, beside which pairs an hour are shown.
        config: config of the build.
        say: function that prints a line.

    Attributes:
        drawn: candidates drawn in this session.
        unet_rows: UNet rows of these.
        reasons: candidates by the reason of their refusal; Reason.OK for kept ones.
    """

    def __init__(self, progress: StageProgress, config: DatasetConfig, say: Callable[[str], None]) -> None:
        self.progress, self.config, self.say = progress, config, say
        self.drawn = self.unet_rows = 0
        self.reasons: Counter[str] = Counter()
        self.warned = False
        self.began = time.monotonic()

    def add(self, outcome: "ShardOutcome") -> None:
        """Count a finished shard, and show how many pairs are kept in an hour."""
        self.drawn += outcome.drawn
        self.unet_rows += outcome.unet_rows
        self.reasons.update(outcome.reasons)
        hours = max(time.monotonic() - self.began, 1e-9) / 3600
        kept = self.reasons[Reason.OK]
        self.progress.remark = f"{kept} kept, {kept / hours:.0f} pairs an hour"
        if not self.warned and (warning := self._find_hopeless()):
            self.warned = True
            self.say(warning)

    def _find_hopeless(self) -> str:
        """Return a warning if nearly all candidates are refused, with the likely cause; "" if not."""
        scored = self.reasons.total()
        passed = self.reasons[Reason.OK] + self.reasons[Reason.NOT_TOP_K]
        if passed >= HOPELESS * scored or passed + 3 > DOUBTED * scored:  # 3: none of so many has 5 % of the chance
            return ""
        reason, count = max(((each, self.reasons[each]) for each in REMEDIES), key=lambda pair: pair[1])
        return (
            f"warning: {passed} of {counted(scored, 'candidate')} pass the filter, "
            f"and {count} are refused as {reason}. Probably {REMEDIES[reason].format(model=self.config.pairs.model)}. "
            "Ctrl-C stops here, and loses nothing that is finished"
        )
