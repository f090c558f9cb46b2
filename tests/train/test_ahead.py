"""Loading ahead: the same items, begun early, with errors where they are asked for."""

import threading

import pytest

from ip2p.train.ahead import Ahead


def test_what_follows_is_begun_before_it_is_asked_for() -> None:
    begun, both = [], threading.Event()

    def load(key: int) -> int:
        begun.append(key)
        if key == 3:
            both.set()
        return 10 * key

    ahead = Ahead(load)
    assert ahead.take(1, [2, 3]) == 10
    assert both.wait(10)
    assert [ahead.take(2, [3]), ahead.take(3)] == [20, 30]
    assert begun == [1, 2, 3]
    ahead.close()


def test_what_is_not_asked_for_is_dropped_and_anything_can_be() -> None:
    ahead = Ahead(lambda key: -key)
    ahead.take(1, [2, 3])
    assert [ahead.take(7), ahead.take(2)] == [-7, -2]
    ahead.close()


def test_an_error_comes_where_its_item_is_asked_for() -> None:
    def load(key: int) -> int:
        if key == 2:
            raise ValueError("row 2 is broken")
        return key

    ahead = Ahead(load)
    assert ahead.take(1, [2]) == 1
    with pytest.raises(ValueError, match="row 2"):
        ahead.take(2)
    ahead.close()
