"""Numbers with their nouns and units."""

import pytest

from ip2p.plurals import counted, duration


def test_a_number_has_its_noun() -> None:
    assert (counted(1, "fault"), counted(2, "fault"), counted(0, "child", "children")) == (
        "1 fault", "2 faults", "0 children"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (0.0232, "0.0232 s"), (119, "119 s"), (120, "2 min"), (2960, "49.3 min"), (9000, "2.5 h"),
     (5_000_000, "1389 h")],
)  # fmt: skip
def test_a_duration_has_the_unit_that_suits_it(seconds: int | float, told: str) -> None:
    assert duration(seconds) == told
