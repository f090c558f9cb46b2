"""The endless order, and how ranks share it."""

import random

from ip2p.train.order import ShuffledOrder, positions


def test_every_row_comes_once_in_each_epoch_in_another_order() -> None:
    order = ShuffledOrder(10, seed=3)
    first, second = ([order.row(10 * epoch + place) for place in range(10)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second


def test_a_position_means_the_same_sample_however_one_gets_there() -> None:
    order, scattered = ShuffledOrder(7, seed=3), random.Random(0).sample(range(70), 70)
    rows = {position: order.row(position) for position in scattered}
    assert [rows[position] for position in range(70)] == [
        ShuffledOrder(7, seed=3).row(position) for position in range(70)
    ]


def test_ranks_share_the_positions_without_overlap() -> None:
    taken = [
        position
        for step in range(3)
        for rank in range(4)
        for micro in positions(step * 24, batch=3, accumulation=2, rank=rank, ranks=4)
        for position in micro
    ]
    assert sorted(taken) == list(range(72))
