"""How a build goes, from the shards that are finished: pairs an hour, and whether nearly all are refused."""

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ip2p.data_gen.config import DatasetConfig
from ip2p.progress import StageProgress
from ip2p.records import Reason

if TYPE_CHECKING:
    from ip2p.data_gen.stages import ShardOutcome


class Pace:
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
        self.began = time.monotonic()

    def add(self, outcome: "ShardOutcome") -> None:
        """Count a finished shard, and show how many pairs are kept in an hour."""
        self.drawn += outcome.drawn
        self.unet_rows += outcome.unet_rows
        self.reasons.update(outcome.reasons)
        hours = max(time.monotonic() - self.began, 1e-9) / 3600
        kept = self.reasons[Reason.OK]
        self.progress.remark = f"{kept} kept, {kept / hours:.0f} pairs an hour"
