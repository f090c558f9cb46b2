"""Orders: every row comes, shares and shapes are kept, and a position means the same row however one gets there."""

import random
from collections import Counter

import pytest

from ip2p.train.order import (
    BLOCK,
    GroupedOrder,
    MixedOrder,
    Order,
    Part,
    ShuffledOrder,
    arrange,
    bucket_shapes,
    nearest_shape,
    share_out,
)

SHAPES = [(32, 32)] * 9 + [(48, 24)] * 5 + [(24, 48)] * 2
TRIPLES = [f"triple {row // 2}" for row in range(16)]


def orders() -> dict[str, Order]:
    """Make one order of each kind, over sixteen rows."""
    two = [Part(range(10), 3.0), Part(range(10, 16), 1.0)]
    return {
        "shuffled": ShuffledOrder(16, seed=3),
        "grouped": GroupedOrder([[0, 1, 2], [3], [4, 5], [6, 7, 8, 9]], seed=3),
        "mixed": arrange(two, seed=3, batch=4, triples=None, shapes=None),
        "in buckets": arrange([Part(range(16))], seed=3, batch=4, triples=None, shapes=SHAPES),
        "mixed, in buckets, one of a triple": arrange(two, seed=3, batch=4, triples=TRIPLES, shapes=SHAPES),
    }


def test_every_row_comes_once_in_each_epoch_in_another_order() -> None:
    order = ShuffledOrder(10, seed=3)
    first, second = ([order.row(10 * epoch + place) for place in range(10)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second


@pytest.mark.parametrize("name", orders())
def test_a_position_means_the_same_sample_however_one_gets_there(name: str) -> None:
    order, scattered = orders()[name], random.Random(0).sample(range(5000), 200)
    rows = {position: order.row(position) for position in scattered}
    assert rows == {position: orders()[name].row(position) for position in sorted(scattered)}
    assert len(set(rows.values())) > 4


def test_without_weights_and_shapes_the_order_is_the_shuffled_one() -> None:
    order = arrange([Part(range(10)), Part(range(10, 16))], seed=3, batch=4, triples=None, shapes=None)
    assert [order.row(place) for place in range(40)] == [ShuffledOrder(16, 3).row(place) for place in range(40)]


def test_each_triple_comes_once_in_an_epoch_with_all_of_its_candidates_in_time() -> None:
    order = arrange([Part(range(16))], seed=3, batch=4, triples=TRIPLES, shapes=None)
    epochs = [[order.row(8 * epoch + place) for place in range(8)] for epoch in range(40)]
    for rows in epochs:
        assert sorted(row // 2 for row in rows) == list(range(8))
    assert {row for rows in epochs for row in rows} == set(range(16))


def test_data_sets_have_their_shares_whatever_their_sizes() -> None:
    order = arrange([Part(range(2), 3.0), Part(range(2, 16), 1.0)], seed=3, batch=4, triples=None, shapes=None)
    rows = [order.row(position) for position in range(2 * BLOCK)]
    assert sum(row < 2 for row in rows) == 1500
    counts = Counter(rows)
    assert {counts[row] for row in range(2)} == {750} and {counts[row] for row in range(2, 16)} <= {35, 36}


def test_a_batch_has_one_shape_and_rows_come_equally_often() -> None:
    order = arrange([Part(range(16))], seed=3, batch=4, triples=None, shapes=SHAPES)
    rows = [order.row(position) for position in range(4 * BLOCK)]
    for start in range(0, len(rows), 4):
        assert len({SHAPES[row] for row in rows[start : start + 4]}) == 1
    counts = Counter(rows)
    assert len(counts) == 16 and max(counts.values()) - min(counts.values()) <= 4


def test_mixed_orders_are_in_no_pattern() -> None:
    first, second = [
        MixedOrder([ShuffledOrder(2, 0), ShuffledOrder(2, 1)], [1.0, 1.0], batch=1, seed=seed).counts for seed in (0, 1)
    ]
    assert first == second == [BLOCK // 2] * 2
    mixed = arrange([Part(range(8), 1.0), Part(range(8, 16), 1.0)], seed=3, batch=1, triples=None, shapes=None)
    blocks = [[mixed.row(BLOCK * block + place) < 8 for place in range(BLOCK)] for block in (0, 1)]
    assert blocks[0] != blocks[1] and sum(blocks[0]) == sum(blocks[1]) == BLOCK // 2


@pytest.mark.parametrize("weights", [[1.0], [3.0, 1.0], [1.0, 1.0, 1.0], [1e-9, 1.0], [5.0, 0.001, 0.002, 7.0]])
def test_shares_add_up_and_nobody_has_none(weights: list[float]) -> None:
    shares = share_out(weights, 1000)
    assert sum(shares) == 1000 and min(shares) >= 1
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - 1000 * weight / sum(weights)) <= 3


def test_shapes_have_the_area_of_the_square_and_sides_that_the_model_takes() -> None:
    shapes = bucket_shapes(512, 64)
    assert (512, 512) in shapes and all(width % 64 == height % 64 == 0 for width, height in shapes)
    assert all(0.7 * 512**2 <= width * height <= 512**2 for width, height in shapes)
    assert shapes == sorted(shapes, key=lambda shape: shape[0] / shape[1])
    assert nearest_shape((1000, 1000), shapes) == (512, 512)
    wide, tall = nearest_shape((1920, 1080), shapes), nearest_shape((1080, 1920), shapes)
    assert wide == tall[::-1] and 1.5 < wide[0] / wide[1] < 2
    assert nearest_shape((4000, 400), shapes) == shapes[-1]
