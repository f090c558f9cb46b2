"""Loading ahead: the next item is loaded in a thread, while the model computes."""

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class Ahead(Generic[Key, Item]):
    """Loads items ahead of time, one after another. What is loaded depends on the key alone, and not on when.

    Args:
        load: function that loads the item of a key; it runs in another thread.

    Attributes:
        waited: seconds that were spent waiting for items.
    """

    def __init__(self, load: Callable[[Key], Item]) -> None:
        self._load = load
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._begun: dict[Key, Future[Item]] = {}
        self.waited = 0.0

    def take(self, key: Key, following: Sequence[Key] = ()) -> Item:
        """Return the item of a key; errors of loading it are raised here.

        Args:
            key: what is wanted now.
            following: what will be wanted next, in order; items that were begun and are not among these are dropped.
        """
        wanted = (key, *following)
        for old in self._begun.keys() - set(wanted):
            self._begun.pop(old).cancel()
        for each in wanted:
            if each not in self._begun:
                self._begun[each] = self._thread.submit(self._load, each)
        began = time.monotonic()
        item = self._begun.pop(key).result()
        self.waited += time.monotonic() - began
        return item

    def close(self) -> None:
        """Drop what was begun; the thread ends with the item that it is loading."""
        self._thread.shutdown(wait=False, cancel_futures=True)
