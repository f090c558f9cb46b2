"""What is said while pairs are made: pairs an hour, and once that nearly all are refused."""

from collections.abc import Callable

import pytest

from ip2p.data_gen import pipeline
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.scale.parallelism import Parallelism
from ip2p.data_gen.scale.throughput import Throughput
from ip2p.data_gen.stages import ShardOutcome
from ip2p.errors import DataError
from ip2p.progress import StageProgress
from ip2p.records import Reason


def said_of(*shards: dict[str, int]) -> tuple[list[str], str]:
    """Return what is said about finished shards, and the remark beside the progress."""
    lines: list[str] = []
    progress = StageProgress("pairs", "candidates", total=100, done=0, say=lines.append, active=False)
    throughput = Throughput(progress, DatasetConfig(), lines.append)
    for reasons in shards:
        throughput.add(ShardOutcome(1, 4, reasons))
    return lines, progress.remark


def test_kept_pairs_an_hour_are_beside_the_progress() -> None:
    lines, remark = said_of({Reason.OK: 20, Reason.LOW_IMAGE: 20}, {Reason.OK: 5})
    assert not lines and remark.startswith("25 kept, ") and remark.endswith(" pairs an hour")


def test_what_is_hopeless_is_said_once_with_its_cause() -> None:
    bad = {Reason.OK: 1, Reason.LOW_SOURCE: 40, Reason.LOW_DIRECTION: 9}
    (line,), _ = said_of(bad, bad, bad)
    assert line.startswith("warning: 1 of 50 candidates pass the filter, and 40 are refused as low_source. Probably")
    assert "storybook-base hardly draws what captions say" in line
    assert "edits hardly happen" in said_of({Reason.LOW_DIRECTION: 50})[0][0]


@pytest.mark.parametrize(
    "reasons", [{Reason.LOW_SOURCE: 20}, {Reason.LOW_SOURCE: 90, Reason.NOT_TOP_K: 6}, {Reason.LOW_IMAGE: 60, "": 4}]
)
def test_few_candidates_and_few_refusals_say_nothing(reasons: dict[str, int]) -> None:
    assert said_of(reasons)[0] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:text longer than")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_base_model_that_cannot_draw_the_captions_is_told_before_the_end(
    make_config: Callable[..., DatasetConfig], workers: int
) -> None:
    lines: list[str] = []
    config = make_config("filter.source=1", "pairs.candidates=10", "pairs.batch=10")
    with pytest.raises(DataError, match="no pair was kept"):
        pipeline.build(config, parallelism=Parallelism(workers), say=lines.append)
    (warning,) = [index for index, line in enumerate(lines) if "refused as low_source" in line]
    assert lines[warning].startswith("warning: 0 of ") and "0 of 70" not in lines[warning]
    assert any(line.startswith("filtered") for line in lines[warning:])
